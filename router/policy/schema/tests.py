"""The shape of `tests`."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StrictBool, StrictInt, StrictStr, WithJsonSchema
from pydantic_core import PydanticCustomError

from router.policy.fault import shown
from router.policy.schema.kinds import (
    HEADER,
    REFERENCE,
    Abilities,
    Count,
    CountOrNone,
    Number,
    Percent,
    Reference,
    References,
    Shape,
    Share,
    Text,
)


def _body_or_file(value: object) -> object:
    if isinstance(value, dict | str) and value != "":
        return value
    said = f"must be a chat-completions body or the name of a file, not {shown(value)}"
    if isinstance(value, list):
        said += "; messages stand in `{messages: […]}`"
    raise PydanticCustomError("farthing", "{said}", {"said": said})


def _bounds(value: object) -> object:
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return {"eq": value}
    if isinstance(value, dict):
        return value
    said = f"must be a number, or a mapping of bounds like {{lte: 0.01}}; not {shown(value)}"
    raise PydanticCustomError("farthing", "{said}", {"said": said})


class BoundsShape(Shape):
    """Limits that a number must keep."""

    eq: Number | None = Field(None, description="Exactly.")
    gt: Number | None = Field(None, description="More than.")
    gte: Number | None = Field(None, description="At least.")
    lt: Number | None = Field(None, description="Less than.")
    lte: Number | None = Field(None, description="At most.")


BoundsOrNumber = Annotated[
    BoundsShape,
    BeforeValidator(_bounds),
    WithJsonSchema({"anyOf": [{"type": "number"}, {REFERENCE: "BoundsShape"}]}),
]


class FactsShape(Shape):
    """A request by its facts alone."""

    input_tokens: CountOrNone = Field(description="Tokens of the prompt.")
    expected_output_tokens: Count | None = Field(None, description="Default: the policy's.")
    max_output_tokens: Count | None = Field(None, description="The caller's own limit for one answer.")
    messages: Count = Field(1, description="How many messages the conversation has.")
    n: Annotated[StrictInt, Field(ge=1, le=128)] = Field(1, description="How many answers are asked for.")
    difficulty: Share | None = Field(None, description="0 to 1.")
    has: Abilities = Field([], description="What the request has.")
    language: Annotated[StrictStr, Field(pattern="^[a-z]{2,3}$")] = Field("und", description="ISO 639-1.")
    stream: StrictBool = Field(default=False, description="Whether the answer is streamed.")
    text: StrictStr = Field("", description="The last user message.")
    metadata: dict[StrictStr, object] = Field({}, description="The body's `metadata`.")


class GivenShape(Shape):
    """Circumstances of a test. By default it is noon on a Wednesday, nothing is spent, all models work."""

    budget_used_pct: Percent = Field(Decimal(0), description="How full the fullest budget is.")
    budget_remaining_usd: Number | None = Field(None, description="What the tightest budget has left.")
    hour: Annotated[StrictInt, Field(ge=0, le=23)] = Field(12, description="UTC.")
    weekday: Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"] = Field("wed", description="UTC.")
    account: Reference | None = Field(None, description="Who calls.")
    language: Annotated[StrictStr, Field(pattern="^[a-z]{2,3}$")] | None = Field(None, description="ISO 639-1.")
    difficulty: Share | None = Field(None, description="In place of the one that would be worked out.")
    headers: dict[Annotated[StrictStr, Field(pattern=HEADER)], StrictStr] = Field({}, description="Request headers.")
    absent: References | None = Field(None, description="Models that can't be used; all others are there.")


RefusalCode = Literal[
    "invalid_request",
    "not_allowed",
    "request_budget_exceeded",
    "budget_exceeded",
    "context_length_exceeded",
    "model_not_found",
]


class ExpectShape(Shape):
    """What must come out; at least one of these."""

    rule: Text | None = Field(None, description="The name of the rule that decides.")
    use: References | None = Field(
        None, description="One name: the model tried first. A list: all that would be tried, in their order."
    )
    cost_usd: BoundsOrNumber | None = Field(None, description="What the model tried first is estimated to cost.")
    max_output_tokens: BoundsOrNumber | None = Field(None, description="The longest answer it may give.")
    refused: RefusalCode | None = Field(None, description="The code of the refusal.")


class TestShape(Shape):
    """One test of this policy, run by `farthing test`."""

    __test__ = False

    name: Text = Field(description="The fact it states.")
    request: Annotated[dict[str, object] | Text | None, BeforeValidator(_body_or_file)] = Field(
        None,
        description="A chat-completions body, or the name of a file beside this one that holds a body, a list of "
        'messages or plain text. Its model is "auto" where it has none.',
    )
    facts: FactsShape | None = Field(None, description="The facts alone, in place of a request.")
    given: GivenShape = Field(GivenShape(), description="Circumstances: spend, time, caller.")
    expect: ExpectShape = Field(description="What must come out.")
