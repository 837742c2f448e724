"""The frozen values that pass between the steps of a request: usage, attempts, the outcome, and money itself.

Money is an `int` in nano-dollars (`_nusd`); it is rounded up when it is held or charged, and down when it limits.
A value that is made anew for each request is a msgspec Struct, which is as frozen as a dataclass and made in a tenth
of the time (0.4 us against 3.9 for `Facts`).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from enum import StrEnum
from typing import Literal

from msgspec import Struct

NUSD_PER_USD = 1_000_000_000

EXACT_NUSD = 2**53
"""The largest amount every store can hold exactly (Lua numbers are doubles): about $9.0 M a counter."""


def nusd_limit(usd: Decimal) -> int:
    """Return a limit of `usd` dollars in nUSD, rounded down, so that rounding never loosens it."""
    return int((usd * NUSD_PER_USD).to_integral_value(ROUND_FLOOR))


def nusd_cost(usd: Decimal) -> int:
    """Return a cost of `usd` dollars in nUSD, rounded up, so that rounding never loses money."""
    return int((usd * NUSD_PER_USD).to_integral_value(ROUND_CEILING))


def usd(nusd: int) -> Decimal:
    """Return nUSD as exact dollars, for printing."""
    return Decimal(nusd).scaleb(-9)


def usd_number(nusd: int) -> float:
    """Return nUSD as a number of dollars, for JSON, tables and spans: the nearest that there is."""
    return nusd / NUSD_PER_USD


def usd_text(nusd: int) -> str:
    """Write nUSD as plain dollars without an exponent: 1500 is "0.0000015", 0 is "0"."""
    sign, whole = ("-", -nusd) if nusd < 0 else ("", nusd)
    dollars, rest = divmod(whole, NUSD_PER_USD)
    return f"{sign}{dollars}.{rest:09d}".rstrip("0").rstrip(".") if rest else f"{sign}{dollars}"


class Certainty(StrEnum):
    """How sure a charge is."""

    REPORTED = "reported"
    """Priced from the usage that the provider reported."""
    COUNTED = "counted"
    """Priced from tokens that we counted, because the provider did not report them."""
    CEILING = "ceiling"
    """Not known yet, or never: the held ceiling stands in for it."""


class Ending(StrEnum):
    """How a request ended: the ledger's `outcome` and the metric label of that name."""

    HELD = "held"
    """Under way, or cut off by a crash before it was settled."""
    ANSWERED = "answered"
    CUT = "cut"
    """Answered, and ended by us at its budget with finish_reason "length"."""
    CANCELLED = "cancelled"
    """The caller hung up."""
    FAILED = "failed"
    """Every candidate failed, or the answer broke off."""
    REFUSED = "refused"
    """Refused by us before anything was sent."""
    SHADOW = "shadow"
    """Not a caller's request: one that was mirrored to a model on trial."""
    EXPERIMENT = "experiment"
    """Not a request: a canary was aborted or promoted."""


class Usage(Struct, frozen=True):
    """What one answer used, in tokens.

    `input_tokens` is every token of the prompt, whatever its class; `cached_tokens`, `cache_write_tokens`,
    `input_audio_tokens` and `input_image_tokens` are parts of it. `output_tokens` is every token generated;
    `reasoning_tokens`, `output_audio_tokens` and `output_image_tokens` are parts of that.
    """

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    """The part of `cache_write_tokens` that is kept for an hour, which some providers price apart."""
    input_audio_tokens: int = 0
    cached_audio_tokens: int = 0
    """The part of `cached_tokens` that is audio."""
    input_image_tokens: int = 0
    reasoning_tokens: int = 0
    output_audio_tokens: int = 0
    output_image_tokens: int = 0
    searches: int = 0
    """Billed web searches."""
    search_context: str = "medium"
    """The size of the search context (low, medium, high), which some providers price apart."""
    service_tier: str = "default"
    """The tier the provider says it served: default, flex, priority, batch."""


Verified = Literal["passed", "escalated", "failed", "unchecked"]
"""What the checks of an answer came to: it passed; it failed, and another model's answer was given; it failed, and
was given all the same, for no other was to be had; or it could not be checked, and was given."""


BESIDE = frozenset(("agree", "judge"))
"""The reasons of attempts that were made beside the answer and are never it."""

PASSING = frozenset(("passed", "unchecked"))
"""What an attempt's `check` says where it failed none."""


class Attempt(Struct, frozen=True):
    """One call to one target, as it ended."""

    model: str
    """Our name."""
    target: str
    """provider/model, as it was called."""
    reason: str
    """`answered`, or a `ProviderError.reason`, `cancelled`, `cut`; `check_…` of an answer that failed this check and
    was asked for elsewhere; `agree` or `judge` of what was asked beside it."""
    status: int | None
    """Of HTTP; None where it failed by none: no connection, no answer in time, one that broke off."""
    usage: Usage | None
    charge_nusd: int
    certainty: Certainty
    duration_s: float
    reported_model: str | None = None
    check: str | None = None
    """Of an answer that its rule checks: `passed`, `unchecked`, or the name of the check that it failed."""
    because: str | None = None
    """Of one that is unchecked, why: `stream`, or the check that could not be made and what it lacked."""
    started_s: float = 0.0
    """How long after the request's arrival the call began."""
    span_id: str | None = None
    """The span that its target was told of, 16 hexadecimal digits; None where nothing is traced."""


class Trace(Struct, frozen=True):
    """The distributed trace that a request belongs to, in the terms of W3C's Trace Context."""

    trace_id: str
    """32 hexadecimal digits."""
    parent_id: str | None = None
    """The caller's span, 16 hexadecimal digits; None where the trace begins here."""
    sampled: bool = True
    state: str | None = None
    """The caller's `tracestate`."""

    def under(self, span_id: str) -> Trace:
        """Return the trace as it is told to those who are called from within a span."""
        return Trace(self.trace_id, span_id, self.sampled, self.state)

    def headers(self) -> dict[str, str]:
        """Return the headers that pass it on; `parent_id` must be known."""
        told = {"traceparent": f"00-{self.trace_id}-{self.parent_id}-{'01' if self.sampled else '00'}"}
        return {**told, "tracestate": self.state} if self.state else told


class Outcome(Struct, frozen=True):
    """All that is known of a request when it ends, or when it is held: written once, read by ledger, metrics and log.

    Shares nothing with the text of the request: `facts` holds numbers and names only.
    """

    id: str
    at: datetime
    account: str | None
    task: str
    rule: str
    policy_revision: str
    requested_model: str
    ending: Ending
    certainty: Certainty
    routed_model: str | None = None
    reported_model: str | None = None
    provider: str | None = None
    kind: str | None = None
    usage: Usage | None = None
    estimated_nusd: int = 0
    held_nusd: int = 0
    charged_nusd: int = 0
    baseline_nusd: int = 0
    overhead_nusd: int = 0
    over_budget_nusd: int = 0
    attempts: tuple[Attempt, ...] = ()
    difficulty: float | None = None
    facts: dict[str, object] = {}
    verified: Verified | None = None
    """What its rule's checks came to; None where there were none."""
    refusal: str | None = None
    """The error code, where the ending is `refused` or `failed`."""
    latency_s: float = 0.0
    first_token_s: float | None = None
    own_s: float = 0.0
    """The part of `latency_s` that was spent in Farthing itself."""
    warnings: tuple[Level, ...] = ()
    """The soft budgets that it found used up."""
    trace: Trace | None = None
    """None where nothing is traced and the caller names no trace."""


Kind = Literal["account", "task", "global", "shadow"]
Window = Literal["hour", "day", "month"]
OnExceeded = Literal["downgrade", "reject", "warn"]


@functools.lru_cache(maxsize=8)
def _windows(hour: int) -> dict[Window, str]:
    """Name the calendar windows of one hour since the epoch; every request of that hour asks for them."""
    at = datetime.fromtimestamp(hour * 3600, UTC)
    return {"hour": at.strftime("%Y-%m-%dT%H"), "day": at.strftime("%Y-%m-%d"), "month": at.strftime("%Y-%m")}


@dataclass(frozen=True, slots=True)
class Scope:
    """One limit that a request draws on: what it bounds, for which calendar window (UTC), and how much."""

    kind: Kind
    name: str
    window: Window
    limit_nusd: int
    on_exceeded: OnExceeded = "downgrade"

    @property
    def is_soft(self) -> bool:
        """Whether it is only counted and warned of, and never refuses."""
        return self.on_exceeded == "warn"

    def bucket(self, now_s: float) -> str:
        """Return the window that `now_s` (seconds since the epoch) falls into, as "2026-11-21"."""
        return _windows(int(now_s) // 3600)[self.window]

    def since(self, now_s: float) -> datetime:
        """Return the beginning of the window that `now_s` falls into."""
        now = datetime.fromtimestamp(now_s, UTC).replace(minute=0, second=0, microsecond=0)
        if self.window == "hour":
            return now
        return now.replace(hour=0) if self.window == "day" else now.replace(hour=0, day=1)

    def ends_s(self, now_s: float) -> int:
        """Return when the window that `now_s` falls into is over, in seconds since the epoch."""
        begun = self.since(now_s)
        if self.window != "month":
            return int(begun.timestamp()) + (3600 if self.window == "hour" else 86400)
        after = begun.replace(year=begun.year + begun.month // 12, month=begun.month % 12 + 1)
        return int(after.timestamp())

    def __str__(self) -> str:
        whose = "everything" if self.kind == "global" else f"the {self.kind} '{self.name}'"
        return f"the {self.window}'s budget of {whose} (${usd_text(self.limit_nusd)})"


@dataclass(frozen=True, slots=True)
class Level:
    """How full one scope is, in nUSD. `spent_nusd + held_nusd` never passes a hard limit by a hold."""

    scope: Scope
    spent_nusd: int
    held_nusd: int

    @property
    def left_nusd(self) -> int:
        """What a further hold may take; never negative."""
        return max(0, self.scope.limit_nusd - self.spent_nusd - self.held_nusd)

    @property
    def is_used_up(self) -> bool:
        """Whether the limit is spent; what is held may yet come back."""
        return self.spent_nusd >= self.scope.limit_nusd

    @property
    def used_pct(self) -> float:
        """Spent and held, in percent of the limit."""
        return 100.0 * (self.spent_nusd + self.held_nusd) / self.scope.limit_nusd

    def __str__(self) -> str:
        return f"{self.scope} is at {100.0 * self.spent_nusd / self.scope.limit_nusd:.1f} %"


def short_of(levels: Sequence[Level], amount_nusd: int) -> Level | None:
    """Return the fullest of the hard scopes that have no room for this amount; None where all have."""
    full = [level for level in levels if level.left_nusd < amount_nusd and not level.scope.is_soft]
    return min(full, key=lambda level: level.left_nusd, default=None)


@dataclass(frozen=True, slots=True)
class Rate:
    """A limit on how fast: what it bounds, in what, and how many of them a minute."""

    kind: Literal["account", "model"]
    name: str
    unit: Literal["requests", "tokens", "ratings"]
    per_minute: int

    def __str__(self) -> str:
        return f"{self.per_minute} {self.unit} a minute of the {self.kind} '{self.name}'"
