"""Which task a request belongs to, and whether it pins a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from router.errors import InvalidRequest, ModelNotFound, NotAllowed
from router.policy.fault import nearest
from router.policy.policy import Account, Policy, PolicySet, Rule

AUTO = "auto"
"""What a caller names to leave the choice to the policy; neither a task nor a model may bear it."""
DEFAULT_TASK = "default"
TASK_PREFIX = "task:"


@dataclass(frozen=True, slots=True)
class Claim:
    """The policy that decides, and the model that the caller named, if it named one of ours."""

    policy: Policy
    pinned: str | None
    named: bool = True
    """Whether the caller named the task."""


def claim(
    policies: PolicySet,
    requested_model: str,
    *,
    header_task: str | None,
    metadata: Mapping[str, object] | None,
    account: Account | None,
    headers: Mapping[str, str],
) -> Claim:
    """Find the task: the header, `metadata.task`, `model: "task:NAME"`, the first `match` that holds, or `default`.

    Raises:
        InvalidRequest: the named task does not exist, or none is named and there is no `default`.
        ModelNotFound: the model is neither `auto`, a task, one of ours, nor claimed by a `match`.
        NotAllowed: the account may not use that task.
    """
    in_model = requested_model.removeprefix(TASK_PREFIX) if requested_model.startswith(TASK_PREFIX) else None
    in_metadata = metadata.get("task") if metadata else None
    if in_metadata is not None and not isinstance(in_metadata, str):
        raise InvalidRequest("`metadata.task` must be a string: the name of a task.", param="metadata.task")
    named, place = _named(header_task, in_metadata, in_model)
    pinned = requested_model if requested_model in policies.models else None
    is_known = pinned is not None or in_model is not None or requested_model == AUTO
    claiming = None
    if named is None or not is_known:
        claiming = _claiming(policies, requested_model, account, headers)
    if not is_known and claiming is None and requested_model not in policies.claimed_models:
        raise ModelNotFound(_no_such_model(policies, requested_model, account), param="model")
    if named is not None:
        policy = _policy(policies, named, place, account)
    else:
        policy = claiming or _default(policies, pinned, account)
    if account and account.tasks is not None and policy.task not in account.tasks:
        raise NotAllowed(
            f"The account '{account.name}' may not use the task '{policy.task}'; its tasks are: "
            f"{', '.join(sorted(account.tasks))}."
        )
    return Claim(policy, pinned, named is not None)


def _claiming(
    policies: PolicySet, requested_model: str, account: Account | None, headers: Mapping[str, str]
) -> Policy | None:
    """Return the first policy whose `match` holds."""
    name = account.name if account else None
    for policy in policies.claimed_models.get(requested_model, policies.claiming_any):
        if policy.match.claims(requested_model, name, headers):
            return policy
    return None


def _named(header: str | None, metadata: str | None, model: str | None) -> tuple[str | None, str]:
    if header is not None:
        return header, "x-farthing-task"
    if metadata is not None:
        return metadata, "metadata.task"
    return model, "model"


def _usable(policies: PolicySet, account: Account | None) -> list[str]:
    """Return the tasks that may be told to whoever asks."""
    return [task for task in policies.policies if account is None or account.tasks is None or task in account.tasks]


def _policy(policies: PolicySet, task: str, place: str, account: Account | None) -> Policy:
    try:
        return policies.policies[task]
    except KeyError:
        tasks = _usable(policies, account)
        near = nearest(task, tasks)
        hint = f" Did you mean '{near}'?" if near else ""
        raise InvalidRequest(
            f"There is no task '{task[:200]}' (from {place}).{hint} Tasks: {', '.join(tasks) or 'none'}.",
            param=place,
        ) from None


def _default(policies: PolicySet, pinned: str | None, account: Account | None) -> Policy:
    """Return the default policy; a pinned model needs none, so it gets an empty one where the folder has none."""
    if policy := policies.policies.get(DEFAULT_TASK):
        return policy
    if pinned is not None:
        return Policy(task=DEFAULT_TASK, rules=(Rule(name=DEFAULT_TASK, use=(pinned,)),))
    raise InvalidRequest(
        "The request names no task and there is no task 'default'. Name one in the header x-farthing-task; "
        f"tasks: {', '.join(_usable(policies, account)) or 'none'}.",
        param="x-farthing-task",
    )


def _no_such_model(policies: PolicySet, requested_model: str, account: Account | None) -> str:
    present = [name for name, model in policies.models.items() if not model.absent]
    names = [AUTO, *present, *(TASK_PREFIX + task for task in _usable(policies, account))]
    names += sorted(policies.claimed_models)
    return f"There is no model '{requested_model[:200]}'. There is: {', '.join(dict.fromkeys(names))}."
