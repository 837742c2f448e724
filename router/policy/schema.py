"""The shape of the kinds of policy files, and the one JSON Schema that serves editors for all of them.

Only shapes: what a name refers to, and what a `when` means, is checked where it is read. Every key has a
description, which is its help in an editor.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    WithJsonSchema,
)
from pydantic.json_schema import models_json_schema
from pydantic_core import PydanticCustomError

from router.policy.environment import VARIABLE
from router.policy.fault import did_you_mean, shown
from router.policy.vocabulary import (
    COMBINATIONS,
    FACTS,
    HAS,
    LONGEST_EXPRESSION,
    OPERATORS,
    TAKES,
    FactWord,
    Kind,
    Operator,
)
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


def _free(value: object) -> object:
    if value == "free":
        return FREE
    if not isinstance(value, dict):
        raise PydanticCustomError(
            "farthing", "{said}", {"said": f"must be `free` or a mapping of prices, not {shown(value)}"}
        )
    if not value:
        raise PydanticCustomError("farthing", "no price is given; `price: free` says that it costs nothing")
    return value


def _bounds(value: object) -> object:
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return {"eq": value}
    if isinstance(value, dict):
        return value
    said = f"must be a number, or a mapping of bounds like {{lte: 0.01}}; not {shown(value)}"
    raise PydanticCustomError("farthing", "{said}", {"said": said})


def _schema_or_true(value: object) -> object:
    if isinstance(value, dict | bool):
        return value
    raise PydanticCustomError("farthing", "{said}", {"said": f"must be a JSON Schema or true, not {shown(value)}"})


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
KeyVariable = Annotated[
    StrictStr, Field(min_length=1), WithJsonSchema({"type": "string", "pattern": f"^{VARIABLE.pattern}$"})
]
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
OpenShare = Annotated[
    Decimal,
    Field(gt=0, lt=1),
    BeforeValidator(_number),
    _json_number(exclusiveMinimum=0, exclusiveMaximum=1),
]
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


class BudgetShape(Shape):
    """Limits in dollars. Windows are calendar hours, days and months in UTC."""

    per_request_usd: Dollars | None = Field(None, description="The most one request may cost, every retry included.")
    per_hour_usd: Dollars | None = Field(None, description="The most one calendar hour may cost.")
    per_day_usd: Dollars | None = Field(None, description="The most one calendar day may cost.")
    per_month_usd: Dollars | None = Field(None, description="The most one calendar month may cost.")
    on_exceeded: Literal["downgrade", "reject", "warn"] = Field(
        "downgrade",
        description="Where the money does not suffice: `downgrade` looks for a cheaper model of the policy, "
        "`reject` refuses with 402, `warn` counts and says so and refuses nothing (per_request_usd still holds).",
    )


class TaskBudgetShape(BudgetShape):
    """What a task may spend, and how much each of its requests sets aside."""

    hold: Literal["ceiling", "expected"] = Field(
        "ceiling",
        description="`ceiling` sets aside the most a request may cost, so that no budget is ever passed; `expected` "
        "what nineteen in twenty of this task's answers cost, so that more can run at once.",
    )


class RatesShape(Shape):
    """Prices in dollars per million tokens. A class left out costs what providers take in its place."""

    cached_input_usd_per_mtok: Rate | None = Field(None, description="Input read from the provider's cache.")
    cache_write_usd_per_mtok: Rate | None = Field(None, description="Input written to the provider's cache.")
    cache_write_1h_usd_per_mtok: Rate | None = Field(None, description="Input written to the cache for an hour.")
    input_audio_usd_per_mtok: Rate | None = Field(None, description="Audio in the input.")
    cached_audio_usd_per_mtok: Rate | None = Field(None, description="Audio read from the provider's cache.")
    input_image_usd_per_mtok: Rate | None = Field(None, description="Images in the input.")
    reasoning_usd_per_mtok: Rate | None = Field(None, description="Output that is hidden reasoning.")
    output_audio_usd_per_mtok: Rate | None = Field(None, description="Audio in the output.")
    output_image_usd_per_mtok: Rate | None = Field(None, description="Images in the output.")


class PriceTierShape(RatesShape):
    """Prices of requests with a longer input; what is left out stays as it is below."""

    above_input_tokens: Count = Field(description="Holds for requests with more input tokens than this.")
    input_usd_per_mtok: Rate | None = Field(None, description="Input, where no other class applies.")
    output_usd_per_mtok: Rate | None = Field(None, description="Output, where no other class applies.")


class PriceShape(RatesShape):
    """Prices in dollars, in place of the catalogue's."""

    input_usd_per_mtok: Rate = Field(description="Input, where no other class applies.")
    output_usd_per_mtok: Rate = Field(description="Output, where no other class applies.")
    per_request_usd: Rate = Field(Decimal(0), description="A fee for each request.")
    per_search_usd: Rate | None = Field(None, description="A fee for each web search.")
    tiers: list[PriceTierShape] = Field([], description="Prices of requests with a longer input.")


FREE = PriceShape(input_usd_per_mtok=Decimal(0), output_usd_per_mtok=Decimal(0))
"""What `price: free` is read as."""


class DeadlinesShape(Shape):
    """How long each phase of a call may take, in seconds."""

    connect_s: Seconds | None = Field(None, description="Until connected. Default 5.")
    first_byte_s: Seconds | None = Field(None, description="From there until the first byte comes. Default 60.")
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
        BeforeValidator(_free),
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


class AccountShape(Shape):
    """Who pays."""

    keys: Annotated[list[Annotated[StrictStr, Field(pattern=DIGEST)]], Field(min_length=1)] = Field(
        description="SHA-256 of each key, as `farthing keys new` prints it; never a key itself."
    )
    budget: BudgetShape = Field(BudgetShape(), description="What this account may spend.")
    limits: LimitsShape = Field(LimitsShape(), description="How fast it may call.")
    tasks: Annotated[list[Reference], Field(min_length=1)] | None = Field(
        None, description="The tasks it may use. Default: all."
    )


class AccountsFile(Shape):
    """accounts.yaml: who may call."""

    version: StrictInt = Field(description="Of this format: 1.")
    budget: BudgetShape = Field(BudgetShape(), description="Bounds everything together.")
    accounts: dict[Name, AccountShape] = Field({}, description="With none, the proxy is open to this machine only.")


class MatchShape(Shape):
    """Which requests that name no task are this one's. Every key given must hold."""

    models: References | None = Field(None, description="The model names that callers ask for.")
    accounts: References | None = Field(None, description="The accounts that call.")
    headers: dict[Annotated[StrictStr, Field(pattern=HEADER)], StrictStr] | None = Field(
        None, description="Request headers and their values, letter for letter."
    )


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

    after_requests: Count | None = Field(
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
    premium_share: OpenShare | None = Field(
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
    request: dict[str, object] | Text | None = Field(
        None,
        description="A chat-completions body, or the name of a file beside this one that holds a body, a list of "
        'messages or plain text. Its model is "auto" where it has none.',
    )
    facts: FactsShape | None = Field(None, description="The facts alone, in place of a request.")
    given: GivenShape = Field(GivenShape(), description="Circumstances: spend, time, caller.")
    expect: ExpectShape = Field(description="What must come out.")


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


FILES = ("TaskFile", "FragmentFile", "ModelsFile", "AccountsFile")


def json_schema() -> dict[str, object]:
    """Return one JSON Schema (draft 2020-12) for all kinds of files, as `farthing schema` prints it."""
    shapes = (TaskFile, FragmentFile, ModelsFile, AccountsFile, PriceShape, BoundsShape)
    _, schema = models_json_schema([(shape, "validation") for shape in shapes])
    definitions = {**schema["$defs"], **_condition_definitions()}
    for name in FILES:
        definitions[name]["properties"]["version"]["const"] = 1
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Farthing policy files",
        "anyOf": [{"$ref": f"#/$defs/{name}"} for name in FILES],
        "$defs": {name: _tidied(definition) for name, definition in sorted(definitions.items())},
    }


def _condition_definitions() -> dict[str, dict[str, object]]:
    condition = {"$ref": "#/$defs/Condition"}
    parts: dict[str, object] = {
        "all": {"type": "array", "minItems": 1, "items": condition, "description": COMBINATIONS["all"]},
        "any": {"type": "array", "minItems": 1, "items": condition, "description": COMBINATIONS["any"]},
        "not": {"allOf": [condition], "description": COMBINATIONS["not"]},
        "condition": {
            "anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": {"type": "string"}}],
            "description": COMBINATIONS["condition"],
        },
        "cel": {"type": "string", "minLength": 1, "maxLength": LONGEST_EXPRESSION, "description": COMBINATIONS["cel"]},
    }
    facts: dict[str, object] = {name: _fact_schema(fact) for name, fact in FACTS.items()}
    return {
        "Condition": {
            "type": "object",
            "description": "Holds where every key of it does.",
            "minProperties": 1,
            "additionalProperties": False,
            "properties": {**parts, **facts},
        }
    }


def _fact_schema(fact: FactWord) -> dict[str, object]:
    if fact.kind in ("headers", "metadata"):
        return {
            "type": "object",
            "minProperties": 1,
            "description": fact.about,
            "additionalProperties": _comparison_schema(fact),
        }
    return {**_comparison_schema(fact), "description": fact.about}


def _comparison_schema(fact: FactWord) -> dict[str, object]:
    value = _value_schema(fact)
    many = {"type": "array", "items": value, "minItems": 1}
    one_or_many = {"anyOf": [value, many]}
    choice = one_or_many if fact.kind == "set" else many
    operands: Mapping[Operator, object] = {
        "in": choice,
        "not_in": choice,
        "contains": one_or_many if fact.kind == "set" else {"type": "string", "minLength": 1},
        "matches": {"type": "string", "minLength": 1},
    }
    bare = {"set": [value, many], "text": []}.get(fact.kind, [value])
    mapping = {
        "type": "object",
        "minProperties": 1,
        "additionalProperties": False,
        "properties": {
            name: {
                **_mapping(operands.get(name, one_or_many if fact.kind == "set" else value)),
                "description": OPERATORS[name],
            }
            for name in TAKES[fact.kind]
        },
    }
    return {"anyOf": [*bare, mapping]}


def _mapping(value: object) -> dict[str, object]:
    return dict(value) if isinstance(value, dict) else {}


def _value_schema(fact: FactWord) -> dict[str, object]:
    types: Mapping[Kind, dict[str, object]] = {
        "flag": {"type": "boolean"},
        "metadata": {"type": ["string", "number", "boolean"]},
    }
    if fact.kind != "number":
        words: dict[str, object] = {"enum": list(fact.words)} if fact.words else {}
        if fact.pattern:
            words["pattern"] = f"^({fact.pattern})$"
        return types.get(fact.kind, {"type": "string", **words})
    limits = {"minimum": fact.least, "maximum": fact.most}
    bounds = {name: limit for name, limit in limits.items() if limit is not None}
    return {"type": "integer" if fact.whole else "number", **bounds}


def _tidied(schema: object) -> object:
    """Leave out what only the machine that made it wants: titles, nulls, defaults of nothing."""
    if isinstance(schema, list):
        return [_tidied(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {
        "$ref" if key == REFERENCE else key: f"#/$defs/{value}" if key == REFERENCE else _tidied(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str)) and not (key == "default" and value is None)
    }
    choices = kept.get("anyOf")
    if isinstance(choices, list) and {"type": "null"} in choices:
        choices = [choice for choice in choices if choice != {"type": "null"}]
        rest = {key: value for key, value in kept.items() if key != "anyOf"}
        return {**choices[0], **rest} if len(choices) == 1 else {"anyOf": choices, **rest}
    if "patternProperties" in kept:
        kept["additionalProperties"] = False
    if isinstance(kept.get("description"), str):
        kept["description"] = " ".join(str(kept["description"]).split())
    return kept
