"""The shape of what a task tries and learns: `experiment`, `stick`, `learn`."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field, StrictInt, StrictStr

from router.policy.experiment import MOST_SAMPLES
from router.policy.schema.kinds import STICKY, Dollars, Explored, Number, Reference, Shape, Share, Text


class LearnAgreeShape(Shape):
    """How two answers are compared."""

    by: Literal["exact", "number", "choice", "json"] = Field(
        description="What must be the same: the text, its number, its letter from A to J, or its JSON value."
    )


class LearnJudgeShape(Shape):
    """A model that grades both answers."""

    model: Reference = Field(description="The model that grades.")
    question: Text = Field(description="What it is asked about the request and each answer.")


class LearnShadowShape(Shape):
    """A second answer to a small share of the requests, asked for after the first is out; both are graded."""

    model: Reference = Field(
        description="The model that is asked as well; where it answered itself, the one at the other end of the "
        "policy's prices is."
    )
    share: Share = Field(Decimal("0.05"), description="The share of the requests that is asked twice, 0 to 1.")
    budget_per_day_usd: Dollars = Field(description="The most that second answers and judges may cost in one day.")
    grade: Literal["judge", "verify", "agree"] = Field(
        description="`judge` asks a model about both answers, `verify` holds both against the rule's checks, `agree` "
        "takes the dearer answer for right and compares."
    )
    judge: LearnJudgeShape | None = Field(None, description="Who grades, for `grade: judge`.")
    agree: LearnAgreeShape | None = Field(
        None, description="What must be the same, for `grade: agree`. Default: the share of words in common counts."
    )


class LearnShape(Shape):
    """What `difficulty` learns from this task's own traffic."""

    shadow: LearnShadowShape | None = Field(None, description="Grades two models on a share of the requests.")
    feedback: Literal["checked", "trusted", "off"] = Field(
        "checked",
        description="Ratings from POST /v1/feedback: `checked` learns what the proxy's own grades confirm, `trusted` "
        "learns from ratings alone as well, `off` learns nothing from them.",
    )
    explore: Explored = Field(
        Decimal("0.01"),
        description="The share of the requests whose `difficulty` is drawn at random, so that what is learned is not "
        "only what the rules let happen.",
    )


class CanaryShape(Shape):
    """A model that serves a share of this rule's requests."""

    model: Reference = Field(description="The model on trial; the rule's own stand behind it.")
    share: Share = Field(description="Its share of the requests, 0 to 1.")
    sticky_by: Annotated[StrictStr, Field(pattern=STICKY)] = Field(
        "conversation",
        description="What always stays on the same side: a `conversation`, an `account`, or what a `header:NAME` says.",
    )


class ShadowShape(Shape):
    """A model that requests are mirrored to after their answers are out; nobody gets its answers."""

    model: Reference = Field(description="The model on trial.")
    share: Share = Field(Decimal(1), description="The share of the requests that is mirrored, 0 to 1.")
    budget_per_day_usd: Dollars = Field(description="The most that this shadow may cost in one calendar day.")


class ThresholdShape(Shape):
    """Where a guard trips."""

    gt: Number | None = Field(None, description="Above this.")
    gte: Number | None = Field(None, description="At or above this.")
    lt: Number | None = Field(None, description="Below this.")
    lte: Number | None = Field(None, description="At or below this.")


class GuardsShape(Shape):
    """Bounds on what the canary's latest requests (1000 at the most) came to."""

    after_requests: Annotated[StrictInt, Field(ge=1, le=MOST_SAMPLES)] | None = Field(
        None,
        description="Nothing is judged before the canary has served so many. Default: 20 to abort, 200 to promote.",
    )
    error_rate: ThresholdShape | None = Field(None, description="The share that it did not answer, 0 to 1.")
    cost_usd: ThresholdShape | None = Field(None, description="What a request costs on average.")
    latency_p95_ms: ThresholdShape | None = Field(
        None, description="Nineteen in twenty of its answers are complete within so many milliseconds."
    )
    verify_pass_rate: ThresholdShape | None = Field(
        None, description="The share of its answers that passed the rule's `verify`, 0 to 1."
    )


class ExperimentShape(Shape):
    """What is tried on a part of this rule's requests."""

    canary: CanaryShape | None = Field(None, description="A model whose answers a share of the callers gets.")
    shadow: ShadowShape | None = Field(
        None, description="A model that is asked as well, and whose answers nobody gets."
    )
    abort_when: GuardsShape | None = Field(
        None, description="Where any of these holds, the canary gets no more requests."
    )
    promote_when: GuardsShape | None = Field(
        None, description="Where all of these hold, the canary gets every request until this file is edited."
    )


Stick = Annotated[
    Literal["conversation", "none"],
    Field(
        description="`conversation` keeps a conversation on the model whose provider has its beginning cached, while "
        "that costs less than moving."
    ),
]
