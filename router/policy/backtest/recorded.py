"""Recorded requests as the ledger has them, read, and what became of each, then or now. Pure."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Struct

from router.policy.record import RecordedFacts
from router.values import BESIDE, Usage


class RecordedAttempt(Struct, frozen=True):
    """One call as the ledger has it. The classes of tokens are there where they are not none."""

    model: str
    target: str
    reason: str
    charged_nusd: int
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    input_audio_tokens: int = 0
    cached_audio_tokens: int = 0
    input_image_tokens: int = 0
    reasoning_tokens: int = 0
    output_audio_tokens: int = 0
    output_image_tokens: int = 0
    searches: int = 0
    search_context: str = "medium"
    service_tier: str = "default"
    check: str | None = None
    """Of an answer that was checked: `passed`, `unchecked`, or the check that it failed."""

    @property
    def usage(self) -> Usage | None:
        if self.input_tokens is None or self.output_tokens is None:
            return None
        return msgspec.convert(self, Usage, from_attributes=True)


class Record(Struct, frozen=True):
    """One row of the ledger, as far as it is played again; `facts` and `attempts` are JSON."""

    id: str
    at: str
    account: str | None
    task: str
    rule: str
    requested_model: str
    routed_model: str | None
    kind: str | None
    outcome: str
    charged_nusd: int
    attempts: str
    facts: str
    policy_revision: str


class Played(Struct, frozen=True):
    """What became of a request, then or now. `first_model` is what was decided; None where that was a refusal."""

    rule: str
    first_model: str | None
    answered_by: str | None
    kind: str | None
    nusd: int
    unknown_rules: tuple[str, ...] = ()
    """The rules of which it can't be told whether they held; they are taken not to."""
    spread_rules: tuple[str, ...] = ()
    """The rules that hang on a difficulty that was not recorded, and is taken as evenly spread."""
    recounted: bool = False
    """Whether the input was never counted as the model counts it, so that its tokens are an estimate."""


NOBODYS = Played("-", None, None, None, 0)
"""Of a request that no policy claims."""


class Request(Struct, frozen=True):
    """A row with its JSON read."""

    record: Record
    facts: RecordedFacts
    attempts: list[RecordedAttempt]

    @property
    def first_model(self) -> str | None:
        """What was decided then; in old rows, what was tried first."""
        if self.facts.first_model is not UNSET:
            return self.facts.first_model
        return self.attempts[0].model if self.attempts else self.record.routed_model

    def as_recorded(self) -> Played:
        record = self.record
        return Played(record.rule, self.first_model, record.routed_model, record.kind, record.charged_nusd)

    def answer(self) -> RecordedAttempt | None:
        """Return the attempt whose usage stands for the request's: the last that used anything, checks aside."""
        used = (attempt for attempt in reversed(self.attempts) if attempt.input_tokens is not None)
        return next((attempt for attempt in used if attempt.reason not in BESIDE), None)


_facts_of = msgspec.json.Decoder(RecordedFacts).decode
_attempts_of = msgspec.json.Decoder(list[RecordedAttempt]).decode


def read(record: Record) -> Request | None:
    """Read a row's JSON; None where it is not of a request that was decided, such as a row of another program."""
    try:
        return Request(record, _facts_of(record.facts), _attempts_of(record.attempts))
    except msgspec.DecodeError:
        return None
