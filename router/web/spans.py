"""Outcomes as OpenTelemetry spans, sent by OTLP over HTTP to where OpenTelemetry's own variables say.

A request is one span, and each attempt a child of it; all are made when the request has ended, from its outcome, so
that they say what the ledger says. None holds any text of a request or an answer.
"""

from __future__ import annotations

import importlib.metadata
import threading

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from router.values import Attempt, Ending, Outcome, Trace, Usage, usd_number
from router.web.turned_away import TurnedAway

OPERATION = "chat"
NS_PER_S = 1_000_000_000
CLOSE_WITHIN_S = 3.0

_FINE = frozenset({"answered", "cut", "cancelled"})
_propagator = TraceContextTextMapPropagator()
Value = str | int | float | bool


class Spans:
    """Sends spans in batches from a thread of its own; what its bounded queue has no room for is left out."""

    def __init__(self) -> None:
        version = importlib.metadata.version("farthing")
        self._ids = _Ids()
        self._provider = TracerProvider(resource=_resource(version), id_generator=self._ids, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("farthing", version)

    def sampled(self, trace: Trace) -> bool:
        """Say whether the spans of a trace will be sent, as OpenTelemetry's sampler decides by the trace's id."""
        parent = self._parent(trace) if trace.parent_id else Context()
        said = self._provider.sampler.should_sample(parent, int(trace.trace_id, 16), OPERATION, SpanKind.SERVER)
        return said.decision is Decision.RECORD_AND_SAMPLE

    def turned_away(self, request: TurnedAway) -> None:
        """Make the span of a request that came to no outcome; never waits."""
        begun_ns = _ns(request.at_s)
        span = self._tracer.start_span(
            f"{request.method} {request.route}" if request.route else request.method,
            self._parent(request.trace),
            SpanKind.SERVER,
            _known(
                {
                    "http.request.method": request.method,
                    "http.route": request.route,
                    "http.response.status_code": request.status,
                    "error.type": request.code,
                    "farthing.request_id": request.id,
                    "farthing.outcome": Ending.REFUSED.value,
                }
            ),
            start_time=begun_ns,
        )
        # The caller's faults are no errors of ours, as OpenTelemetry's conventions for servers have it.
        if request.status >= 500:
            span.set_status(StatusCode.ERROR, request.code)
        span.end(begun_ns + _ns(request.latency_s))

    def record(self, outcome: Outcome) -> None:
        """Make the spans of one ended request; never waits."""
        begun_ns = int(outcome.at.timestamp()) * NS_PER_S + outcome.at.microsecond * 1_000
        request = self._tracer.start_span(
            f"{OPERATION} {outcome.requested_model}",
            self._parent(outcome.trace),
            SpanKind.SERVER,
            _attributes(outcome),
            start_time=begun_ns,
        )
        if outcome.ending is Ending.FAILED:
            request.set_status(StatusCode.ERROR, outcome.refusal)
        inside = set_span_in_context(request, Context())
        for attempt in outcome.attempts:
            self._record_attempt(attempt, inside, begun_ns + _ns(attempt.started_s))
        request.end(begun_ns + _ns(outcome.latency_s))

    def _record_attempt(self, attempt: Attempt, inside: Context, started_ns: int) -> None:
        provider, _, model = attempt.target.partition("/")
        self._ids.next_span_id = int(attempt.span_id, 16) if attempt.span_id else None
        span = self._tracer.start_span(
            f"{OPERATION} {model}",
            inside,
            SpanKind.CLIENT,
            _attempt_attributes(attempt, provider, model),
            start_time=started_ns,
        )
        if attempt.reason not in _FINE:
            span.set_status(StatusCode.ERROR, attempt.reason)
        span.end(started_ns + _ns(attempt.duration_s))

    def close(self) -> None:
        """Send what is left; blocks, and gives up where the collector is away."""
        # Its own shutdown has no deadline, and waits out the pauses between tries.
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_WITHIN_S)

    def _parent(self, trace: Trace | None) -> Context:
        """Return the caller's span as the parent; where there is none, see to it that the new trace has its id."""
        if trace is None:
            return Context()
        if trace.parent_id is None:
            self._ids.next_trace_id = int(trace.trace_id, 16)
            return Context()
        return _propagator.extract(trace.headers(), Context())


class _Ids(RandomIdGenerator):
    """Gives the next trace the id that it is to have, the request's, and the next span the one that was told of."""

    next_trace_id: int | None = None
    next_span_id: int | None = None

    def generate_span_id(self) -> int:
        chosen, self.next_span_id = self.next_span_id, None
        return chosen or super().generate_span_id()

    def generate_trace_id(self) -> int:
        chosen, self.next_trace_id = self.next_trace_id, None
        return super().generate_trace_id() if chosen is None else chosen


def _resource(version: str) -> Resource:
    """Return what the spans come from; the operator's own OTEL_SERVICE_NAME wins."""
    found = Resource.create({SERVICE_VERSION: version})
    if str(found.attributes[SERVICE_NAME]).startswith("unknown_service"):
        found = found.merge(Resource({SERVICE_NAME: "farthing"}))
    return found


def _ns(seconds: float) -> int:
    return int(seconds * NS_PER_S)


def _known(attributes: dict[str, Value | None]) -> dict[str, Value]:
    return {name: value for name, value in attributes.items() if value is not None}


def _attributes(outcome: Outcome) -> dict[str, Value]:
    return _known(
        {
            "gen_ai.operation.name": OPERATION,
            "gen_ai.provider.name": outcome.provider,
            "gen_ai.request.model": outcome.requested_model,
            "gen_ai.response.model": outcome.reported_model,
            **_usage(outcome.usage),
            "error.type": outcome.refusal,
            "farthing.request_id": outcome.id,
            "farthing.account": outcome.account,
            "farthing.task": outcome.task,
            "farthing.rule": outcome.rule,
            "farthing.model": outcome.routed_model,
            "farthing.kind": outcome.kind,
            "farthing.policy_revision": outcome.policy_revision,
            "farthing.outcome": outcome.ending.value,
            "farthing.certainty": outcome.certainty.value,
            "farthing.cost_usd": usd_number(outcome.charged_nusd),
            "farthing.baseline_usd": usd_number(outcome.baseline_nusd),
            "farthing.overhead_usd": usd_number(outcome.overhead_nusd),
            "farthing.estimate_usd": usd_number(outcome.estimated_nusd),
            "farthing.difficulty": outcome.difficulty,
            "farthing.first_token_s": outcome.first_token_s,
            "farthing.own_s": outcome.own_s,
        }
    )


def _attempt_attributes(attempt: Attempt, provider: str, model: str) -> dict[str, Value]:
    return _known(
        {
            "gen_ai.operation.name": OPERATION,
            "gen_ai.provider.name": provider,
            "gen_ai.request.model": model,
            "gen_ai.response.model": attempt.reported_model,
            **_usage(attempt.usage),
            "http.response.status_code": attempt.status,
            "error.type": None if attempt.reason in _FINE else attempt.reason,
            "farthing.model": attempt.model,
            "farthing.reason": attempt.reason,
            "farthing.certainty": attempt.certainty.value,
            "farthing.cost_usd": usd_number(attempt.charge_nusd),
        }
    )


def _usage(usage: Usage | None) -> dict[str, Value | None]:
    if usage is None:
        return {}
    return {
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens or None,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens or None,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens or None,
    }
