"""Ways in which a simulated provider misbehaves when told to, and the words that tell it.

Every count of events is of events sent before the fault; a whole answer counts its pieces of 64 bytes. A
fault that is asked for past the end strikes before the last event, so that it always strikes.
"""

from __future__ import annotations

import shlex
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

ANY_MODEL = "*"


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with one answer; by default nothing. Faults combine where they can."""

    status: int | None = None
    """Answer with this error status, in the shape of the wire."""
    code: str | None = None
    """The error's code instead of the usual one for the status, say `insufficient_quota`."""
    retry_after: str | None = None
    """The header as it is sent, or `date+N`: an HTTP date N seconds from now."""
    html: bool = False
    """The error's body is a web page, as from a gateway in between."""
    reset_after: int | None = None
    """Reset the connection; 0 is before the first byte."""
    silence_after: int | None = None
    """Send nothing more and keep the connection; 0 is before the first byte."""
    early_headers: bool = False
    """Send the headers at once, so that `reset_after` and `silence_after` 0 come after them."""
    drip_s: float = 0.0
    """Pause between two pieces."""
    piece_bytes: int | None = None
    """Send pieces of this many bytes, which split characters and lines."""
    malformed_after: int | None = None
    """Cut one event in two; a whole body is cut in the middle, with a content-length that agrees."""
    error_after: int | None = None
    """End a stream with an error event."""
    no_usage: bool = False
    usage_factor: float = 1.0
    """Report this many times the tokens used."""
    ignore_limit: bool = False
    """Give at least twice as many tokens as the request allows (and 100,000 at most)."""
    redirect: str | None = None
    """Answer 307 to this place."""
    huge_headers: bool = False
    empty: bool = False
    """Answer 200 with no body."""
    no_done: bool = False
    """End a stream properly, but without its last event."""
    crlf: bool = False
    """End the lines of a stream with CR LF."""
    comments: bool = False
    """Send a comment before each event of a stream."""

    def retry_after_header(self) -> str | None:
        if self.retry_after is None or not self.retry_after.startswith("date+"):
            return self.retry_after
        moment = datetime.now(UTC) + timedelta(seconds=float(self.retry_after.removeprefix("date+")))
        return format_datetime(moment, usegmt=True)


NO_FAULT = Fault()

_Set = Callable[[Fault, str], Fault]
_WORDS: Mapping[str, _Set] = {
    "status": lambda fault, value: replace(fault, status=int(value)),
    "code": lambda fault, value: replace(fault, code=value),
    "retry-after": lambda fault, value: replace(fault, retry_after=value),
    "html": lambda fault, _: replace(fault, html=True),
    "reset": lambda fault, value: replace(fault, reset_after=int(value or 0)),
    "silence": lambda fault, value: replace(fault, silence_after=int(value or 0)),
    "early-headers": lambda fault, _: replace(fault, early_headers=True),
    "drip": lambda fault, value: replace(fault, drip_s=float(value)),
    "pieces": lambda fault, value: replace(fault, piece_bytes=max(1, int(value or 1))),
    "malformed": lambda fault, value: replace(fault, malformed_after=int(value or 0)),
    "error": lambda fault, value: replace(fault, error_after=int(value or 0)),
    "no-usage": lambda fault, _: replace(fault, no_usage=True),
    "usage-factor": lambda fault, value: replace(fault, usage_factor=float(value)),
    "ignore-limit": lambda fault, _: replace(fault, ignore_limit=True),
    "redirect": lambda fault, value: replace(fault, redirect=value or "/elsewhere"),
    "huge-headers": lambda fault, _: replace(fault, huge_headers=True),
    "empty": lambda fault, _: replace(fault, empty=True),
    "no-done": lambda fault, _: replace(fault, no_done=True),
    "crlf": lambda fault, _: replace(fault, crlf=True),
    "comments": lambda fault, _: replace(fault, comments=True),
}


def parse_fault(text: str) -> Fault:
    """Read words such as `status=429 retry-after=2` or `reset=3 pieces=7`, separated by spaces.

    Raises:
        ValueError: an unknown word or a wrong number; says which, and which words there are.
    """
    fault = NO_FAULT
    for word in shlex.split(text):
        name, _, value = word.partition("=")
        if (apply := _WORDS.get(name)) is None:
            message = f"Unknown fault {name!r} in {text!r}; there are: {', '.join(_WORDS)}."
            raise ValueError(message)
        try:
            fault = apply(fault, value)
        except ValueError:
            message = f"Wrong number in {word!r}."
            raise ValueError(message) from None
    return fault


class Faults:
    """The faults to come, by model. A queued one strikes one call, a standing one all until it is changed."""

    def __init__(self) -> None:
        self._queued: dict[str, deque[Fault]] = {}
        self._standing: dict[str, Fault] = {}

    def queue(self, *faults: Fault | str, model: str = ANY_MODEL) -> None:
        """Give the next calls of `model` these faults, one each; `""` lets one call pass."""
        self._queued.setdefault(model, deque()).extend(map(_as_fault, faults))

    def always(self, fault: Fault | str, model: str = ANY_MODEL) -> None:
        """Give every call of `model` this fault where none is queued; `""` ends it."""
        self._standing[model] = _as_fault(fault)

    def take(self, model: str) -> Fault:
        """Return the fault of the next call of `model`, and take it from the queue."""
        for name in (model, ANY_MODEL):
            if queued := self._queued.get(name):
                return queued.popleft()
        return self._standing.get(model) or self._standing.get(ANY_MODEL) or NO_FAULT


def _as_fault(fault: Fault | str) -> Fault:
    return parse_fault(fault) if isinstance(fault, str) else fault
