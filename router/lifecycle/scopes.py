"""Every windowed budget that policies have, as the scopes that stores and the ledger know."""

from __future__ import annotations

from router.lifecycle.grading import learning_scope
from router.lifecycle.shadow import shadow_scope
from router.policy.policy import Budget, PolicySet
from router.values import Kind, Scope


def windowed_scopes(policies: PolicySet) -> list[Scope]:
    """Return every windowed budget there is: everything's, each task's, each shadow's, each account's."""
    scopes = _windows("global", "all", policies.budget)
    for task, policy in policies.policies.items():
        scopes += _windows("task", task, policy.budget)
        scopes += [shadow_scope(each, each.shadow) for each in policy.experiments if each.shadow]
        if policy.learn and policy.learn.shadow:
            scopes.append(learning_scope(policy, policy.learn.shadow))
    for name, account in policies.accounts.items():
        scopes += _windows("account", name, account.budget)
    return scopes


def _windows(kind: Kind, name: str, budget: Budget) -> list[Scope]:
    return [Scope(kind, name, window, limit, budget.on_exceeded) for window, limit in budget.windows()]
