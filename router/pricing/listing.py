"""One entry of litellm's price catalogue, read as our price, limits and abilities.

An entry that does not price the tokens of a model that answers in text raises `UnpricedModel`: what it leaves
out is never read as zero. Rules that come from no entry (shares, inclusive lengths) name their source.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final

from router.errors import UnpricedModel
from router.pricing.price import STANDARD_TIER, Bracket, Price, Rates, Schedule, SearchPrice, TokenClass
from router.pricing.region import GLOBAL
from router.values import nusd_cost

REMEDY: Final = "Give it a `price:` in models.yaml, or `price: free` if it costs nothing."

Fields = Mapping[str, object]

_KEY_BY_CLASS: Final[dict[TokenClass, str]] = {
    "input": "input_cost_per_token",
    "cached_input": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "cache_write_1h": "cache_creation_input_token_cost_above_1hr",
    "input_audio": "input_cost_per_audio_token",
    "cached_audio": "cache_read_input_audio_token_cost",
    "input_image": "input_cost_per_image_token",
    "output": "output_cost_per_token",
    "reasoning": "output_cost_per_reasoning_token",
    "output_audio": "output_cost_per_audio_token",
    "output_image": "output_cost_per_image_token",
}
_BATCH: Final = "_batches"
_SUFFIX_BY_TIER: Final = {
    "flex": "_flex",
    "priority": "_priority",
    "balanced": "_balanced",
    "ultrafast": "_ultrafast",
    "batch": _BATCH,
}
_ABOVE: Final = re.compile(r"_above_(\d+)(k?)_tokens")
_UPLIFT_KEYS: Final = (
    ("eu", "regional_processing_uplift_multiplier_eu"),
    ("us", "regional_processing_uplift_multiplier_us"),
    ("*", "regional_endpoint_uplift_multiplier"),
)
_TEXT_MODES: Final = frozenset({"chat", "completion", "responses"})

# What follows is in no entry: it is how litellm 1.106 charges, and where it prices at all genai-prices 0.2
# agrees.
_INCLUSIVE_LENGTHS: Final = frozenset({"xai"})
"""Providers whose rates for longer input begin at the stated length, not above it."""
_HALF_FOR_BATCHES: Final = frozenset({"anthropic", "gemini", "groq", "mistral", "openai", "vertex_ai"})
"""Providers that take half for batches, also where an entry does not say so."""
_FIREWORKS_CACHED_SHARE: Final = Decimal("0.5")
"""Of the price of input, where Fireworks states none for cached input."""
_SEARCHES_PER_ANSWER: Final = 10
"""Where a provider bills each search of an answer: the most that litellm lets Claude make (`max_uses`)."""
_SCHEMA_FLAG_KEPT: Final = frozenset({"anthropic", "azure", "deepseek", "gemini", "groq", "mistral", "openai", "xai"})
"""Providers whose entries say `supports_response_schema` wherever it is so; others mostly leave it out."""


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """What the catalogue knows of one model at one provider."""

    name: str
    """The catalogue's own name for it."""
    provider: str
    """As it was asked for."""
    mode: str
    """chat, completion, responses or embedding."""
    price: Price
    max_input_tokens: int | None
    max_output_tokens: int | None
    lacks: frozenset[str]
    """Of tools, images, audio, json_schema, audio_out and web_search, those that the model can't take.

    Tools: where the entry denies them; many entries leave the flag out for models that have them, and a
    refusal costs nothing. JSON schema: where it is denied, or left out by a provider that otherwise keeps the
    flag. Images and audio: unless the entry claims them, for text-only models leave those flags out. Web
    search: where it has no price, since it could not be bounded.
    """
    supports_reasoning: bool
    uplifts: tuple[tuple[str, Decimal], ...] = ()
    """Regions ("eu", "us", or "*" for all but GLOBAL) and what all rates are multiplied by there."""

    def price_in(self, region: str) -> Price:
        """Return the price of requests processed in `region`, which some providers charge more for."""
        if region == GLOBAL:
            return self.price
        uplifts = dict(self.uplifts)
        by = uplifts.get(region, uplifts.get("*"))
        return self.price if by is None else self.price.uplifted(by)


@dataclass(frozen=True, slots=True)
class Listing:
    """An entry as it stands in the catalogue, asked for under `provider`."""

    name: str
    provider: str
    fields: Fields

    def entry(self) -> CatalogueEntry:
        """Read the entry.

        Raises:
            UnpricedModel: it does not price tokens, or it is not of a model that answers in text.
        """
        mode = self.fields.get("mode")
        if not isinstance(mode, str) or (mode not in _TEXT_MODES and mode != "embedding"):
            why = f"the catalogue lists it as {mode!r}, which is not priced by tokens of text"
            raise self._unpriced(why)
        price = self._price()
        return CatalogueEntry(
            name=self.name,
            provider=self.provider,
            mode=mode,
            price=price,
            max_input_tokens=self._count("max_input_tokens") or self._count("max_tokens"),
            max_output_tokens=self._count("max_output_tokens") or self._count("max_tokens"),
            lacks=self._lacks(can_search=price.search is not None),
            supports_reasoning=self._says("supports_reasoning"),
            uplifts=tuple((region, by) for region, key in _UPLIFT_KEYS if (by := _decimal(self.fields, key))),
        )

    def _price(self) -> Price:
        schedules = self._schedules()
        first = schedules[0].brackets[0].rates
        if not first.input or not (first.output or self._gives_no_text):
            raise self._unpriced("its entry's price of input or output is missing or zero")
        per_answer = self.provider in {"azure", "openai", "perplexity"} or (
            self.provider in {"gemini", "vertex_ai"} and self.fields.get("web_search_billing_unit") != "per_query"
        )
        return Price(
            schedules,
            request_nusd=nusd_cost(_decimal(self.fields, "input_cost_per_request") or Decimal(0)),
            search=self._search_price(),
            most_searches=1 if per_answer else _SEARCHES_PER_ANSWER,
            always_searches=self.provider == "perplexity"
            or "-search-preview" in self.name
            or "-search-api" in self.name,
            # Claude writes to its cache only where a request marks what to keep; others do so by themselves.
            writes_cache_unasked="claude" not in self.name,
        )

    def _schedules(self) -> tuple[Schedule, ...]:
        """Return the rates by service tier, the standard one first."""
        if table := self._table():
            return (Schedule(STANDARD_TIER, table),)
        tiers = [
            (tier, suffix)
            for tier, suffix in _SUFFIX_BY_TIER.items()
            if any(key.endswith(suffix) for key in self.fields) or self._halves(suffix)
        ]
        return tuple(Schedule(tier, self._brackets(suffix)) for tier, suffix in [(STANDARD_TIER, ""), *tiers])

    def _brackets(self, suffix: str) -> tuple[Bracket, ...]:
        """Return the rates of one service tier, by length of input."""
        longer = sorted(
            {
                (int(n) * (1000 if k else 1), f"_above_{n}{k}_tokens")
                for key in self.fields
                for n, k in _ABOVE.findall(key)
            }
        )
        offset = 1 if self.provider in _INCLUSIVE_LENGTHS else 0
        infixes = [""]
        brackets = [Bracket(-1, self._rates(suffix, infixes))]
        for above, infix in longer:
            infixes.append(infix)
            brackets.append(Bracket(above - offset, self._rates(suffix, infixes)))
        return tuple(brackets)

    def _rates(self, suffix: str, infixes: list[str]) -> Rates:
        """Return one service tier's rates at one length: of these infixes, the last that has a price wins."""
        own: dict[TokenClass, int] = {}
        for cls in _KEY_BY_CLASS:
            for infix in infixes:
                rate = self._rate(cls, infix, suffix)
                if rate is not None:
                    own[cls] = rate
        if self._gives_no_text:
            own.setdefault("output", 0)
        if "input" not in own or "output" not in own:
            raise self._unpriced("its entry has no price of input or of output")
        if own.get("cache_write") == 0:
            # Zero says that writing adds nothing to the price of input, not that input is free.
            del own["cache_write"]
        if self.provider == "fireworks_ai" and _KEY_BY_CLASS["cached_input"] not in self.fields:
            own["cached_input"] = int(own["input"] * _FIREWORKS_CACHED_SHARE)
        return Rates.filled(own)

    def _rate(self, cls: TokenClass, infix: str, suffix: str) -> int | None:
        """Return a tier's own rate of a class, or the standard tier's where that carries over."""
        key = f"{_KEY_BY_CLASS[cls]}{infix}"
        rate = _rate(self.fields, f"{key}{suffix}")
        if rate is not None or not suffix or self._is_dropped(cls, suffix):
            return rate
        standard = _rate(self.fields, key)
        return -(-standard // 2) if standard is not None and self._halves(suffix) else standard

    def _is_dropped(self, cls: TokenClass, suffix: str) -> bool:
        """Whether the standard rate of a class does not carry over to a tier that prices plain tokens itself.

        Reasoning is then billed as that tier's output, and a batch's cache as that batch's input.
        """
        if cls == "reasoning":
            return f"{_KEY_BY_CLASS['output']}{suffix}" in self.fields
        if cls in {"cached_input", "cache_write"}:
            return suffix == _BATCH and f"{_KEY_BY_CLASS['input']}{suffix}" in self.fields
        return False

    def _halves(self, suffix: str) -> bool:
        return suffix == _BATCH and self.provider in _HALF_FOR_BATCHES

    def _table(self) -> tuple[Bracket, ...]:
        """Return the brackets of a `tiered_pricing` table (Alibaba's); empty where there is none."""
        table = self.fields.get("tiered_pricing")
        brackets: list[Bracket] = []
        for row in table if isinstance(table, list) else ():
            own = {cls: rate for cls, key in _KEY_BY_CLASS.items() if (rate := _rate(row, key)) is not None}
            output = own.get("output", _rate(self.fields, _KEY_BY_CLASS["output"]))
            if "input" not in own or output is None:
                raise self._unpriced("its entry has a row without a price of input or of output")
            brackets.append(Bracket(int(row["range"][0]) or -1, Rates.filled(own | {"output": output})))
        return tuple(sorted(brackets))

    def _search_price(self) -> SearchPrice | None:
        table = self.fields.get("search_context_cost_per_query")
        if not isinstance(table, dict):
            return None
        amounts = [_decimal(table, f"search_context_size_{size}") for size in ("low", "medium", "high")]
        dearest = max((amount for amount in amounts if amount), default=None)
        return None if dearest is None else SearchPrice(*(nusd_cost(amount or dearest) for amount in amounts))

    def _lacks(self, *, can_search: bool) -> frozenset[str]:
        takes = self._modalities("supported_modalities")
        gives = self._modalities("supported_output_modalities")
        sees = self._says("supports_vision") or self._says("supports_image_input") or "image" in takes
        # A price for each picture can't be bounded by tokens.
        by_picture = _decimal(self.fields, "input_cost_per_image") and "input_cost_per_image_token" not in self.fields
        hears = self._says("supports_audio_input") or "audio" in takes
        schema = self.fields.get("supports_response_schema", self.provider not in _SCHEMA_FLAG_KEPT)
        can = {
            "tools": self.fields.get("supports_function_calling") is not False,
            "images": sees and not by_picture,
            "audio": hears or _KEY_BY_CLASS["input_audio"] in self.fields,
            "json_schema": schema is True or self._says("supports_native_structured_output"),
            "audio_out": self._says("supports_audio_output") or "audio" in gives,
            "web_search": can_search,
        }
        return frozenset(what for what, able in can.items() if not able)

    @property
    def _gives_no_text(self) -> bool:
        return self.fields.get("mode") == "embedding"

    def _says(self, flag: str) -> bool:
        return self.fields.get(flag) is True

    def _modalities(self, key: str) -> frozenset[str]:
        stated = self.fields.get(key)
        return frozenset(stated) if isinstance(stated, list) else frozenset()

    def _count(self, key: str) -> int | None:
        value = self.fields.get(key)
        return int(value) if isinstance(value, (int, Decimal)) and value > 0 else None

    def _unpriced(self, why: str) -> UnpricedModel:
        return UnpricedModel(f"No price for {self.name} at {self.provider}: {why}. {REMEDY}")


def _decimal(fields: Fields, key: str) -> Decimal | None:
    value = fields.get(key)
    return Decimal(value) if isinstance(value, (int, Decimal)) and value >= 0 else None


def _rate(fields: Fields, key: str) -> int | None:
    """Return a price per token in nUSD per million tokens.

    Some entries were written by programs that print floats (2.0000000000000002e-07), so the rate is rounded
    to the nearest: no provider prices in parts of a nUSD for a million tokens.
    """
    value = _decimal(fields, key)
    return None if value is None else int(value.scaleb(15).to_integral_value(ROUND_HALF_EVEN))
