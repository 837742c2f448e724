"""Which trace a request belongs to, and whether spans are sent; OpenTelemetry is imported only where they are."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Protocol

from msgspec import structs

from router.values import Outcome, Trace
from router.web.turned_away import TurnedAway

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL = "http/protobuf"

_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_STATE = re.compile(r"[ -~]{1,512}")
"""A `tracestate` that can be passed on: printable ASCII, and no longer than W3C has everybody pass on."""
log = logging.getLogger("farthing.traces")


class Traces(Protocol):
    """Where spans go."""

    def sampled(self, trace: Trace) -> bool:
        """Say whether the spans of a trace will be sent."""
        ...

    def turned_away(self, request: TurnedAway) -> None:
        """Make the span of a request that came to no outcome; never waits."""
        ...

    def record(self, outcome: Outcome) -> None:
        """Make the spans of one ended request; never waits."""
        ...

    def close(self) -> None:
        """Send what is left; blocks."""
        ...


def trace_of(headers: Mapping[str, str], request_id: str, traces: Traces | None) -> Trace | None:
    """Return the trace that the caller names, or, where requests are traced, one that bears the request's own id.

    Where requests are traced, `sampled` is what OpenTelemetry's sampler says, so that those we call are told the same.
    """
    named = _named(headers)
    if traces is None:
        return named
    trace = named or Trace(request_id)
    return structs.replace(trace, sampled=traces.sampled(trace))


def _named(headers: Mapping[str, str]) -> Trace | None:
    """Return the caller's trace; a `traceparent` that is not well formed counts as none, as W3C has it."""
    named = headers.get("traceparent")
    if named is not None and (match := _TRACEPARENT.fullmatch(named.strip())):
        version, trace_id, parent_id, flags, more = match.groups()
        if version != "00" or more is None:
            state = headers.get("tracestate", "")
            return Trace(trace_id, parent_id, bool(int(flags, 16) & 1), state if _STATE.fullmatch(state) else None)
    return None


def open_traces(environ: Mapping[str, str]) -> Traces | None:
    """Return where spans go by OpenTelemetry's variables; None where they name no endpoint, or switch it off."""
    off = environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or environ.get("OTEL_TRACES_EXPORTER") == "none"
    if off or not any(environ.get(name) for name in ENDPOINTS):
        return None
    protocol = next((environ[name] for name in PROTOCOLS if environ.get(name)), PROTOCOL)
    if protocol != PROTOCOL:
        log.error("Spans are sent by %s alone, not by %s, so none are sent; set %s.", PROTOCOL, protocol, PROTOCOLS[0])
        return None
    from router.web.spans import Spans  # noqa: PLC0415  takes 0.1 s and 4 MB, which only who traces should pay

    return Spans()
