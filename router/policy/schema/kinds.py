"""The kinds of values in policy files: names, dollars, counts, shares; each with its limits and its JSON Schema."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, StrictStr, WithJsonSchema
from pydantic_core import PydanticCustomError

from router.policy.fault import did_you_mean, shown
from router.policy.vocabulary import HAS
from router.values import EXACT_NUSD, NUSD_PER_USD

LARGEST_USD = EXACT_NUSD // NUSD_PER_USD
"""Every store holds amounts up to this exactly."""
SMALLEST_USD = Decimal(1) / NUSD_PER_USD
LARGEST_COUNT = 1_000_000_000
LARGEST_RATE_USD = 1_000_000
"""Per million tokens: a dollar a token, far above any price there is."""
LONGEST_DEADLINE_S = 86_400
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
MODEL_NAME = r"^[A-Za-z0-9][A-Za-z0-9._/@-]{0,127}$"
TARGET = r"^[A-Za-z0-9_-]+/\S{1,200}$"
DIGEST = r"^sha256:[0-9a-fA-F]{64}$"
REFERENCE = "x-definition"
"""Stands for `$ref` until the schema is whole: pydantic refuses a reference to what it did not make."""
OWN_CHECK = r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_.]*$"
VARIABLE = r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}"
"""Stands for what the environment says."""
HEADER = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"
STICKY = r"^(conversation|account|header:[A-Za-z0-9!#$%&'*+.^_`|~-]*)$"


def _number(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    if isinstance(value, Decimal):
        return value
    raise PydanticCustomError("farthing", "{said}", {"said": f"must be a number, not {shown(value)}"})


def _known_ability(value: str) -> str:
    if value not in HAS:
        said = f"unknown ability {shown(value)}{did_you_mean(value, HAS)}"
        raise PydanticCustomError("farthing", "{said}", {"said": said})
    return value


def _worth_a_nano_dollar(value: Decimal) -> Decimal:
    if value < SMALLEST_USD:
        said = f"must be at least {SMALLEST_USD:f}, a nano-dollar; not {shown(value)}"
        raise PydanticCustomError("farthing", "{said}", {"said": said})
    return value


def _one_or_more(value: object) -> object:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return value
    raise PydanticCustomError("farthing", "{said}", {"said": f"must be a name or a list of names, not {shown(value)}"})


def _json_number(**limits: object) -> WithJsonSchema:
    return WithJsonSchema({"type": "number", **limits})


Name = Annotated[StrictStr, Field(pattern=NAME)]
ModelName = Annotated[StrictStr, Field(pattern=MODEL_NAME)]
Reference = Annotated[StrictStr, Field(min_length=1, max_length=128)]
References = Annotated[
    list[Reference],
    Field(min_length=1),
    BeforeValidator(_one_or_more),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}, "minItems": 1, "uniqueItems": True},
            ]
        }
    ),
]
Text = Annotated[StrictStr, Field(min_length=1)]
KeyVariable = Annotated[StrictStr, Field(min_length=1), WithJsonSchema({"type": "string", "pattern": f"^{VARIABLE}$"})]
"""Its form is checked where models are read, in words that quote no secret."""
Count = Annotated[StrictInt, Field(ge=1, le=LARGEST_COUNT)]
CountOrNone = Annotated[StrictInt, Field(ge=0, le=LARGEST_COUNT)]
Dollars = Annotated[
    Decimal,
    Field(gt=0, le=LARGEST_USD),
    BeforeValidator(_number),
    AfterValidator(_worth_a_nano_dollar),
    _json_number(exclusiveMinimum=0, maximum=LARGEST_USD),
]
Rate = Annotated[
    Decimal,
    Field(ge=0, le=LARGEST_RATE_USD),
    BeforeValidator(_number),
    _json_number(minimum=0, maximum=LARGEST_RATE_USD),
]
Seconds = Annotated[
    Decimal,
    Field(gt=0, le=LONGEST_DEADLINE_S),
    BeforeValidator(_number),
    _json_number(exclusiveMinimum=0, maximum=LONGEST_DEADLINE_S),
]
Weight = Annotated[
    Decimal,
    Field(gt=0, le=1_000_000),
    BeforeValidator(_number),
    _json_number(exclusiveMinimum=0, maximum=1_000_000),
]
Number = Annotated[Decimal, BeforeValidator(_number), _json_number()]
Percent = Annotated[Decimal, Field(ge=0), BeforeValidator(_number), _json_number(minimum=0)]
Share = Annotated[Decimal, Field(ge=0, le=1), BeforeValidator(_number), _json_number(minimum=0, maximum=1)]
Explored = Annotated[
    Decimal, Field(ge=0, le=Decimal("0.2")), BeforeValidator(_number), _json_number(minimum=0, maximum=0.2)
]
Logprob = Annotated[Decimal, Field(le=0), BeforeValidator(_number), _json_number(maximum=0)]
Ability = Annotated[StrictStr, AfterValidator(_known_ability), WithJsonSchema({"enum": list(HAS)})]
Abilities = Annotated[
    list[Ability],
    BeforeValidator(_one_or_more),
    WithJsonSchema({"anyOf": [{"enum": list(HAS)}, {"type": "array", "items": {"enum": list(HAS)}}]}),
]
When = Annotated[object, WithJsonSchema({REFERENCE: "Condition"})]
"""Compiled, and checked, by `when.py`."""


class Shape(BaseModel):
    """A mapping with no other keys than its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)
