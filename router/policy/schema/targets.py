"""The shape of models.yaml."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, Field, StrictBool, StrictInt, StrictStr, WithJsonSchema

from router.policy.schema.kinds import (
    REFERENCE,
    TARGET,
    Ability,
    Count,
    KeyVariable,
    ModelName,
    Seconds,
    Shape,
    Text,
    Weight,
)
from router.policy.schema.money import PriceShape, free


class DeadlinesShape(Shape):
    """How long each phase of a call may take, in seconds."""

    connect_s: Seconds | None = Field(None, description="Until connected. Default 5.")
    first_byte_s: Seconds | None = Field(None, description="From the call until a stream's first event. Default 60.")
    between_bytes_s: Seconds | None = Field(None, description="Longest silence in mid-answer. Default 30.")
    total_s: Seconds | None = Field(None, description="The whole call. Default 600.")


BASE_URL = "Where it is served, in OpenAI's format; may hold ${VARIABLES}. Default: the provider's own."
API_KEY = (
    "Always ${VARIABLE}: the key comes from the environment, never from this file. "
    "Default: the variable PROVIDER_API_KEY, say OPENAI_API_KEY, where no base_url is set."
)


class TargetShape(Shape):
    """One of several endpoints that serve a model."""

    target: Annotated[StrictStr, Field(pattern=TARGET)] = Field(description="provider/model, as the provider names it.")
    weight: Weight = Field(Decimal(1), description="Its share of the load, beside the other targets' weights.")
    base_url: Text | None = Field(None, description=BASE_URL)
    api_key: KeyVariable | None = Field(None, description=API_KEY)


class LimitsShape(Shape):
    """How fast: a bucket of one minute's allowance, which fills steadily."""

    requests_per_minute: Count | None = Field(None, description="Requests a minute.")
    tokens_per_minute: Count | None = Field(None, description="Input and output tokens a minute.")


class ModelShape(Shape):
    """A model as policies name it."""

    target: Annotated[StrictStr, Field(pattern=TARGET)] | None = Field(
        None,
        description="provider/model, as the provider names it; price, limits and abilities come from the "
        "bundled catalogue.",
    )
    targets: Annotated[list[TargetShape], Field(min_length=1)] | None = Field(
        None, description="Several endpoints that share the load by weight, in place of `target`."
    )
    base_url: Text | None = Field(None, description=BASE_URL)
    api_key: KeyVariable | None = Field(None, description=API_KEY)
    price: Annotated[
        PriceShape | None,
        BeforeValidator(free),
        WithJsonSchema({"anyOf": [{REFERENCE: "PriceShape"}, {"const": "free"}]}),
    ] = Field(None, description="In place of the catalogue's price; `free` says that it costs nothing.")
    kind: Annotated[StrictStr, Field(min_length=1, max_length=40)] = Field(
        "routine", description="For reports: routine, fine-tuned, premium, local, or what you like."
    )
    max_output_tokens: Count | None = Field(None, description="The longest answer it can give.")
    context_tokens: Count | None = Field(None, description="How much it can read and write in one request.")
    lacks: list[Ability] = Field([], description="What it can't take, beside what the catalogue says.")
    abilities: list[Ability] = Field([], description="What it can take, though the catalogue says it can't.")
    timeouts: DeadlinesShape = Field(DeadlinesShape(), description="How long each phase of a call may take.")
    retries: Annotated[StrictInt, Field(ge=0, le=10)] = Field(
        1, description="More tries on the same target after the first, where a retry can help."
    )
    limits: LimitsShape = Field(
        LimitsShape(), description="How fast it may be called; past that, the next candidate is tried."
    )
    optional: StrictBool = Field(
        default=False,
        description="While a ${VARIABLE} it needs is unset, leave the model out of every choice.",
    )


class ModelsFile(Shape):
    """models.yaml: what can be routed to."""

    version: StrictInt = Field(description="Of this format: 1.")
    models: Annotated[dict[ModelName, ModelShape], Field(min_length=1)] = Field(
        description="Our names for models, which policies use."
    )
