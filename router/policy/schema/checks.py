"""The shape of `verify`: what an answer must pass, and who is asked where it does not."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StrictBool, StrictStr, WithJsonSchema
from pydantic_core import PydanticCustomError

from router.policy.fault import shown
from router.policy.schema.kinds import OWN_CHECK, Count, Logprob, Reference, Shape, Share, Text


def _schema_or_true(value: object) -> object:
    if isinstance(value, dict | bool):
        return value
    raise PydanticCustomError("farthing", "{said}", {"said": f"must be a JSON Schema or true, not {shown(value)}"})


class AgreeShape(Shape):
    """A second answer that must say the same."""

    with_: Reference = Field(alias="with", description="The model that gives the second answer.")
    by: Literal["exact", "number", "choice", "json"] = Field(
        "exact", description="What must be the same: the text, its number, its letter from A to J, or its JSON value."
    )


class JudgeShape(Shape):
    """A model that grades the answer."""

    model: Reference = Field(description="The model that grades.")
    question: Text = Field(description="What it is asked about the request and the answer.")
    gte: Share = Field(Decimal("0.5"), description="The least grade, from 0 to 1, that passes.")


class LogprobShape(Shape):
    """How sure the model must have been of its tokens."""

    gte: Logprob = Field(description="The least mean log probability of a token; 0 is certain.")


class VerifyShape(Shape):
    """What an answer must pass before it is given out: every check that is named."""

    json_: StrictBool = Field(default=False, alias="json", description="The answer must be JSON.")
    json_schema: Annotated[
        dict[str, object] | StrictBool,
        BeforeValidator(_schema_or_true),
        WithJsonSchema({"anyOf": [{"type": "object"}, {"type": "boolean"}]}),
    ] = Field(
        default=False,
        description="A JSON Schema that the answer must fit; `true` takes the one of the request's response_format.",
    )
    regex: Text | None = Field(None, description="A pattern (Rust's dialect) that must be found in the answer.")
    min_chars: Count | None = Field(None, description="The least length of the answer, white space around it aside.")
    not_refusal: StrictBool = Field(default=False, description="The answer must not be a refusal.")
    not_truncated: StrictBool = Field(default=False, description="The answer must not end at a limit of tokens.")
    tool_calls_valid: StrictBool = Field(
        default=False, description="Calls must be of the request's tools, with arguments that fit their parameters."
    )
    logprob: LogprobShape | None = Field(None, description="How sure the model must have been of its tokens.")
    agree: AgreeShape | None = Field(None, description="A second answer that must say the same.")
    judge: JudgeShape | None = Field(None, description="A model that grades the answer.")
    python: Annotated[StrictStr, Field(pattern=OWN_CHECK)] | None = Field(
        None, description="module:function of your own; gets the request and the answer, and returns whether it passes."
    )
    escalate_to: Reference | None = Field(None, description="The model that is asked where a check does not pass.")
    buffer: StrictBool | None = Field(
        None, description="`true` holds streams back until they have passed; `false` lets them out unchecked."
    )
