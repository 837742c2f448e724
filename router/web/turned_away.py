"""What is told of a request that had no task yet when it was refused: the value that becomes its span."""

from __future__ import annotations

from msgspec import Struct

from router.values import Trace


class TurnedAway(Struct, frozen=True):
    """A request that was refused before a policy was found for it, so that no outcome tells of it."""

    trace: Trace
    id: str
    at_s: float
    """When it came, in seconds since the epoch."""
    latency_s: float
    method: str
    route: str | None
    """The path that it was for; None where there is nothing at that path."""
    status: int
    code: str
