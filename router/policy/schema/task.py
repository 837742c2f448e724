"""The shape of a task's file, and of a fragment that such files share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictInt, StrictStr

from router.policy.schema.checks import VerifyShape
from router.policy.schema.kinds import HEADER, Count, Name, Reference, References, Shape, Share, Text, When
from router.policy.schema.money import TaskBudgetShape
from router.policy.schema.rollout import ExperimentShape, LearnShape, Stick
from router.policy.schema.tests import TestShape


class MatchShape(Shape):
    """Which requests that name no task are this one's. Every key given must hold."""

    models: References | None = Field(None, description="The model names that callers ask for.")
    accounts: References | None = Field(None, description="The accounts that call.")
    headers: dict[Annotated[StrictStr, Field(pattern=HEADER)], StrictStr] | None = Field(
        None, description="Request headers and their values, letter for letter."
    )


class RuleShape(Shape):
    """One line of a policy."""

    name: Name | None = Field(
        None,
        description="Shown in headers, metrics and the ledger. Default: rule-N; `otherwise` for the last.",
    )
    when: When = Field(None, description="Where this rule applies. The last rule has none: it always does.")
    use: References = Field(description="The models to try, in this order.")
    prefer: Literal["order", "cheapest", "value"] = Field(
        "order",
        description="`order` tries them as they stand, `cheapest` by estimated cost, `value` by the expected gain for "
        "a dollar, so that the task's `per_day_usd` lasts for the day and is used by its end.",
    )
    premium_share: Share | None = Field(
        None,
        description="The share of this rule's requests, the hardest of them, that go to its dearest model; the others "
        "go to the others.",
    )
    verify: VerifyShape | None = Field(None, description="What the answer must pass, and who is asked where it fails.")
    experiment: ExperimentShape | None = Field(None, description="A model to try on a part of these requests.")
    stick: Stick | None = Field(None, description="As the task's `stick`, for this rule.")


class PromptShape(Shape):
    """What a model is told in place of what the others are told."""

    system: Text = Field(description="Replaces the request's own system prompt when this model is called.")


INCLUDE = (
    "Fragments with conditions and prompts to share, by their path from this file: files of this folder whose names "
    "begin with _, or that lie in a subfolder."
)
CONDITIONS = "Conditions by name, for a `when` to use as `condition: NAME`."


class FragmentFile(Shape):
    """_NAME.yaml, or a file in a subfolder: what task files share by `include`."""

    version: StrictInt = Field(description="Of this format: 1.")
    include: References | None = Field(None, description=INCLUDE)
    conditions: dict[Name, When] = Field({}, description=CONDITIONS)
    prompts: dict[Reference, PromptShape] = Field({}, description="System prompts by model.")


class TaskFile(Shape):
    """A policy: how one kind of work is routed and what it may cost."""

    version: StrictInt = Field(description="Of this format: 1.")
    task: Name = Field(description="The kind of work, which callers name in the header x-farthing-task.")
    include: References | None = Field(None, description=INCLUDE)
    conditions: dict[Name, When] = Field({}, description=CONDITIONS)
    match: MatchShape | None = Field(None, description="Claims requests that name no task.")
    baseline: Reference | None = Field(
        None, description="The model that would be used without routing; savings are counted against it."
    )
    budget: TaskBudgetShape = Field(TaskBudgetShape(), description="What this task may spend.")
    min_output_tokens: Count = Field(
        64, description="A model whose answer the money would cut shorter than this is not used."
    )
    expected_output_tokens: Count = Field(256, description="How long an answer usually is, for estimates.")
    unsure: Literal["premium", "cheap"] | None = Field(
        None,
        description="What `difficulty` says of a request it can't tell: premium is 1, cheap is 0. "
        "Default: what it looks like all the same.",
    )
    learn: LearnShape | None = Field(
        None, description="What `difficulty` learns from this task's own traffic. Default: nothing."
    )
    route: Annotated[list[RuleShape], Field(min_length=1)] = Field(
        description="The first rule whose `when` holds decides; the last has no `when`."
    )
    stick: Stick = Field("none")
    prompts: dict[Reference, PromptShape] = Field({}, description="System prompts by model.")
    tests: list[TestShape] = Field([], description="What must stay true of this policy; `farthing test` runs them.")
