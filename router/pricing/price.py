"""The price of one model: what a usage is charged, what a request may cost, how much answer a budget buys.

Integers only: rates are nUSD per million tokens, so a product of tokens and rates is exact, and it is rounded
up once, at the end. Every token is priced once, in its narrowest class. What is charged is never above the
ceiling of a request that the usage is consistent with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import ROUND_CEILING, Decimal
from typing import Final, Literal, NamedTuple

from msgspec import Struct

from router.values import Usage

TOKENS_PER_RATE: Final = 1_000_000

UNLIMITED_TOKENS: Final = 2**53
"""What `output_tokens_within` answers where output costs nothing: more tokens than any answer has."""

STANDARD_TIER: Final = "default"

TokenClass = Literal[
    "input",
    "cached_input",
    "cache_write",
    "cache_write_1h",
    "input_audio",
    "cached_audio",
    "input_image",
    "output",
    "reasoning",
    "output_audio",
    "output_image",
]


class Rates(NamedTuple):
    """What a million tokens of each class cost, in nUSD."""

    input: int
    cached_input: int
    cache_write: int
    """Kept for five minutes, or as long as the provider keeps it by default."""
    cache_write_1h: int
    input_audio: int
    cached_audio: int
    input_image: int
    output: int
    reasoning: int
    output_audio: int
    output_image: int

    @classmethod
    def filled(cls, own: Mapping[TokenClass, int]) -> Rates:
        """Fill in the classes that have no price of their own; `input` and `output` must be there.

        A class falls back to the one it is a part of, as providers and litellm do: cached input and images to
        input, reasoning and audio answers to output. Cached audio falls back to cached text, and to audio
        where there is no price for cached text either.
        """
        plain, answer = own["input"], own["output"]
        write = own.get("cache_write", plain)
        audio = own.get("input_audio", plain)
        return cls(
            input=plain,
            cached_input=own.get("cached_input", plain),
            cache_write=write,
            cache_write_1h=own.get("cache_write_1h", write),
            input_audio=audio,
            cached_audio=own.get("cached_audio", own.get("cached_input", audio)),
            input_image=own.get("input_image", plain),
            output=answer,
            reasoning=own.get("reasoning", answer),
            output_audio=own.get("output_audio", answer),
            output_image=own.get("output_image", answer),
        )

    @classmethod
    def dearest(cls, several: Iterable[Rates]) -> Rates:
        """Return the dearest rate of each class; `several` is never empty."""
        return cls(*map(max, zip(*several, strict=True)))


class Bracket(NamedTuple):
    """Rates of all tokens of a request whose whole input is longer than `above_input_tokens`."""

    above_input_tokens: int
    rates: Rates


@dataclass(frozen=True, slots=True)
class Schedule:
    """The rates of one service tier, by length of input: shortest first, and the first for all (-1)."""

    service_tier: str
    brackets: tuple[Bracket, ...]


@dataclass(frozen=True, slots=True)
class SearchPrice:
    """What one web search costs, in nUSD, by the size of its context."""

    low_nusd: int
    medium_nusd: int
    high_nusd: int

    def of(self, context: str | None) -> int:
        """Return the price for `context`; the dearest where it is None or of no known size."""
        match context:
            case "low":
                return self.low_nusd
            case "medium":
                return self.medium_nusd
            case "high":
                return self.high_nusd
            case _:
                return max(self.low_nusd, self.medium_nusd, self.high_nusd)


class Ask(Struct, frozen=True):
    """What is known of a request's cost before it is sent."""

    input_tokens: int
    choices: int = 1
    """How many answers are asked for (`n`)."""
    service_tier: str | None = None
    """As the caller asked for it."""
    has: frozenset[str] = frozenset()
    """Of images, audio, cache_control, audio_out and web_search, those that the request has; others are
    ignored.
    """
    search_context: str | None = None
    """The size asked for (low, medium, high); None counts as the dearest."""
    predicted_tokens: int = 0
    """Tokens of a predicted output: what is rejected of it is billed as output, on top of the answer."""


class _Dearest(NamedTuple):
    """The dearest rates that a request may meet above a length of input."""

    above_input_tokens: int
    text_in: int
    text_out: int
    written_in: int
    audio_in: int
    image_in: int
    audio_out: int


_Brackets = tuple[Bracket, ...]
_NAMED_TIERS: Final = (STANDARD_TIER, "flex", "priority", "fast", "batch")
_SAME_TIER: Final = {"fast": "priority"}
"""OpenAI's newer name of a tier, and the one its prices are listed under (litellm 1.106, genai-prices 0.2.3).
"""


@dataclass(frozen=True, slots=True)
class Price:
    """All prices of one model at one provider, for any usage.

    `schedules` is never empty and its first is the standard tier's. A tier without a schedule of its own
    costs what the standard tier does.
    """

    schedules: tuple[Schedule, ...]
    request_nusd: int = 0
    """A fee for each request."""
    search: SearchPrice | None = None
    """None where searches have no known price; then a request that may search can't be bounded."""
    most_searches: int = 1
    """The most searches that one answer may bill."""
    always_searches: bool = False
    """Whether every answer bills a search, asked for or not."""
    writes_cache_unasked: bool = False
    """Whether input may be billed as a cache write where the request does not ask for it."""
    _charged: dict[str, _Brackets] = field(init=False, repr=False, compare=False)
    _standard: _Brackets = field(init=False, repr=False, compare=False)
    _ceilings: dict[str | None, tuple[_Dearest, ...]] = field(init=False, repr=False, compare=False)
    _any_tier: tuple[_Dearest, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_tier = {schedule.service_tier: schedule for schedule in self.schedules}
        by_tier.update({alias: by_tier[tier] for alias, tier in _SAME_TIER.items() if tier in by_tier})
        standard = self.schedules[0]
        # A provider may serve another tier than the one asked for, and says so in its answer (openai-python
        # 2, `CompletionCreateParams.service_tier`): the standard tier is always covered, and "auto" or a tier
        # unknown may be any.
        plain = self._dearest_levels((standard,))
        ceilings: dict[str | None, tuple[_Dearest, ...]] = dict.fromkeys((None, *_NAMED_TIERS), plain)
        ceilings |= {tier: self._dearest_levels((standard, own)) for tier, own in by_tier.items()}
        object.__setattr__(self, "_charged", {tier: own.brackets for tier, own in by_tier.items()})
        object.__setattr__(self, "_standard", standard.brackets)
        object.__setattr__(self, "_ceilings", ceilings)
        object.__setattr__(self, "_any_tier", self._dearest_levels(self.schedules))

    @classmethod
    def flat(cls, rates: Rates) -> Price:
        """Return a price that is the same for every tier and length of input."""
        return cls((Schedule(STANDARD_TIER, (Bracket(-1, rates),)),))

    @classmethod
    def free(cls) -> Price:
        """Return the price of a model that is declared to cost nothing."""
        return cls(
            (Schedule(STANDARD_TIER, (Bracket(-1, Rates(*[0] * len(Rates._fields))),)),),
            search=SearchPrice(0, 0, 0),
        )

    def uplifted(self, by: Decimal) -> Price:
        """Return this price with the rates of all tokens multiplied by `by`, rounded up; fees stay."""
        return replace(
            self,
            schedules=tuple(
                Schedule(
                    schedule.service_tier,
                    tuple(
                        Bracket(
                            above,
                            Rates(*(int((rate * by).to_integral_value(ROUND_CEILING)) for rate in rates)),
                        )
                        for above, rates in schedule.brackets
                    ),
                )
                for schedule in self.schedules
            ),
        )

    def charge_nusd(self, usage: Usage) -> int:
        """Return what `usage` costs, rounded up.

        A tier that we have no name for is charged as the standard tier. Parts that add up to more than their
        whole are cut to it: cache first, then audio, images, reasoning.
        """
        brackets = self._charged.get(usage.service_tier, self._standard)
        rates = _rates_at(brackets, usage.input_tokens)
        total = _input_cost(rates, usage) + _output_cost(rates, usage)
        nusd = -(-total // TOKENS_PER_RATE) + self.request_nusd
        if self.search is not None:
            nusd += usage.searches * self.search.of(usage.search_context)
        return nusd

    def ceiling_nusd(self, ask: Ask, output_tokens: int) -> int:
        """Return the most that a request can cost whose every answer has at most `output_tokens`, rounded up.

        All input is taken at the dearest class that may apply, for a cache may be cold, and so is all output.
        Never falls when input or output grows.
        """
        input_rate, output_rate, fees_nusd = self._bounds(ask)
        tokens_out = ask.choices * output_tokens + ask.predicted_tokens
        total = ask.input_tokens * input_rate + tokens_out * output_rate
        return -(-total // TOKENS_PER_RATE) + fees_nusd

    def output_tokens_within(self, budget_nusd: int, ask: Ask) -> int:
        """Return the longest answer, in tokens, that keeps the ceiling of `ask` within `budget_nusd`.

        The length is that of each answer, where several are asked for. -1 where not even the input fits;
        UNLIMITED_TOKENS where the input fits and output costs nothing.
        """
        input_rate, output_rate, fees_nusd = self._bounds(ask)
        left = (budget_nusd - fees_nusd) * TOKENS_PER_RATE
        left -= ask.input_tokens * input_rate + ask.predicted_tokens * output_rate
        if left < 0:
            return -1
        return left // (ask.choices * output_rate) if output_rate else UNLIMITED_TOKENS

    def estimate_nusd(self, ask: Ask, output_tokens: int) -> int:
        """Return what a request usually costs: nothing cached, no reasoning, answers of `output_tokens`;
        rounded up.
        """
        brackets = self._charged.get(ask.service_tier or STANDARD_TIER, self._standard)
        rates = _rates_at(brackets, ask.input_tokens)
        total = ask.input_tokens * rates.input + ask.choices * output_tokens * rates.output
        nusd = -(-total // TOKENS_PER_RATE) + self.request_nusd
        if self.search is not None and (self.always_searches or "web_search" in ask.has):
            nusd += self.search.of(ask.search_context)
        return nusd

    def _bounds(self, ask: Ask) -> tuple[int, int, int]:
        """Return the dearest input rate and output rate for `ask`, and the fees in nUSD."""
        brackets = self._ceilings.get(ask.service_tier, self._any_tier)
        found = brackets[0]
        if len(brackets) > 1:
            for bracket in brackets[1:]:
                if ask.input_tokens > bracket.above_input_tokens:
                    found = bracket
        input_rate, output_rate, fees_nusd = found.text_in, found.text_out, self.request_nusd
        has = ask.has
        if has:
            if "cache_control" in has:
                input_rate = max(input_rate, found.written_in)
            if "audio" in has:
                input_rate = max(input_rate, found.audio_in)
            if "images" in has:
                input_rate = max(input_rate, found.image_in)
            if "audio_out" in has:
                output_rate = max(output_rate, found.audio_out)
        if self.search is not None and (self.always_searches or "web_search" in has):
            fees_nusd += ask.choices * self.most_searches * self.search.of(ask.search_context)
        return input_rate, output_rate, fees_nusd

    def _dearest_levels(self, schedules: tuple[Schedule, ...]) -> tuple[_Dearest, ...]:
        """Return the dearest of these schedules by length of input, never falling as it grows.

        A shorter input than we counted must not be dearer, whatever the catalogue says: hence the running
        maximum.
        """
        starts = sorted({bracket.above_input_tokens for schedule in schedules for bracket in schedule.brackets})
        dearest: list[_Dearest] = []
        so_far: list[Rates] = []
        for above in starts:
            so_far += [_rates_at(schedule.brackets, above + 1) for schedule in schedules]
            dearest.append(self._dearest_level(above, Rates.dearest(so_far)))
        return tuple(dearest)

    def _dearest_level(self, above: int, rates: Rates) -> _Dearest:
        written_in = max(rates.input, rates.cache_write, rates.cache_write_1h)
        text_in = max(rates.input, rates.cached_input)
        return _Dearest(
            above_input_tokens=above,
            text_in=max(text_in, written_in) if self.writes_cache_unasked else text_in,
            text_out=max(rates.output, rates.reasoning, rates.output_image),
            written_in=written_in,
            audio_in=max(rates.input_audio, rates.cached_audio),
            image_in=rates.input_image,
            audio_out=rates.output_audio,
        )


def _rates_at(brackets: _Brackets, input_tokens: int) -> Rates:
    found = brackets[0].rates
    for above, rates in brackets[1:]:
        if input_tokens > above:
            found = rates
    return found


def _input_cost(rates: Rates, usage: Usage) -> int:
    """Return the cost of all input, in millionths of a nUSD."""
    left = usage.input_tokens
    total = 0
    if usage.cached_tokens:
        cached = min(usage.cached_tokens, left)
        cached_audio = min(usage.cached_audio_tokens, cached)
        total += (cached - cached_audio) * rates.cached_input + cached_audio * rates.cached_audio
        left -= cached
    if usage.cache_write_tokens:
        written = min(usage.cache_write_tokens, left)
        written_1h = min(usage.cache_write_1h_tokens, written)
        total += (written - written_1h) * rates.cache_write + written_1h * rates.cache_write_1h
        left -= written
    if usage.input_audio_tokens:
        heard = max(usage.input_audio_tokens - min(usage.cached_audio_tokens, usage.cached_tokens), 0)
        audio = min(heard, left)
        total += audio * rates.input_audio
        left -= audio
    if usage.input_image_tokens:
        images = min(usage.input_image_tokens, left)
        total += images * rates.input_image
        left -= images
    return total + left * rates.input


def _output_cost(rates: Rates, usage: Usage) -> int:
    """Return the cost of all output, in millionths of a nUSD."""
    left = usage.output_tokens
    total = 0
    if usage.output_audio_tokens:
        audio = min(usage.output_audio_tokens, left)
        total += audio * rates.output_audio
        left -= audio
    if usage.output_image_tokens:
        images = min(usage.output_image_tokens, left)
        total += images * rates.output_image
        left -= images
    if usage.reasoning_tokens:
        thought = min(usage.reasoning_tokens, left)
        total += thought * rates.reasoning
        left -= thought
    return total + left * rates.output
