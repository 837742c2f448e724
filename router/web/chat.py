"""POST /v1/chat/completions: OpenAI's wire format in, and the provider's own bytes out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import msgspec

from router.chat import ChatBody
from router.errors import FarthingError, InvalidRequest
from router.pipeline import Arrival, CheckedStream, Pipeline, Plan, StreamedAnswer
from router.policy.decide import Route
from router.policy.fault import nearest
from router.policy.policy import PolicySet
from router.policy.purse import BUDGET_HEADER, asked_nusd
from router.values import Level, Outcome, Verified, usd_text
from router.web.asgi import EVENTS, JSON, HangUp, Headers, Receive, Scope, Send, id_headers, read_body, respond
from router.web.auth import account_of
from router.web.idempotency.once import HEADER as IDEMPOTENCY_KEY
from router.web.idempotency.once import Asked, Once
from router.web.refusal import error_body
from router.web.traces import Traces, trace_of

PREFIX = "x-farthing-"
TASK_HEADER, DRY_RUN_HEADER = PREFIX + "task", PREFIX + "dry-run"
ASKED_BY = tuple(name.removeprefix(PREFIX) for name in (TASK_HEADER, BUDGET_HEADER, DRY_RUN_HEADER))
"""What a caller may set in headers of ours."""


class ChatEndpoint:
    """Answers chat completions, whole and streamed."""

    def __init__(
        self,
        pipeline: Pipeline,
        policies: Callable[[], PolicySet],
        clock: Callable[[], float],
        largest_body_bytes: int,
        body_within_s: float,
        once: Once | None,
        traces: Traces | None,
    ) -> None:
        self._pipeline = pipeline
        self._policies = policies
        self._clock = clock
        self._largest_body_bytes = largest_body_bytes
        self._body_within_s = body_within_s
        self._once = once
        self._traces = traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Raises:
            FarthingError: nothing has been sent yet; the caller of this writes the error.
        """
        started = time.perf_counter()
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        _refuse_misspelt(headers)
        policies = self._policies()
        account = account_of(policies, headers)
        raw = await read_body(scope, receive, self._largest_body_bytes, self._body_within_s)
        body = ChatBody(raw)
        arrival = Arrival(
            id=scope["farthing_id"],
            at_s=self._clock(),
            started=started,
            body=body,
            account=account,
            headers=headers,
            task=headers.get(TASK_HEADER),
            budget_nusd=asked_nusd(asked) if (asked := headers.get(BUDGET_HEADER)) is not None else None,
            policies=policies,
            trace=trace_of(headers, scope["farthing_id"], self._traces),
        )
        if _is_true(DRY_RUN_HEADER, headers.get(DRY_RUN_HEADER)):
            await self._explain(arrival, send)
            return
        answer = partial(self._stream if body.chat.stream else self._whole, arrival)
        with HangUp(scope):
            if self._once is None or (key := headers.get(IDEMPOTENCY_KEY)) is None:
                await answer(send)
            else:
                await self._once.reply(Asked.of(key, arrival, raw), send, answer)

    async def _explain(self, arrival: Arrival, send: Send) -> None:
        plan = await self._pipeline.plan(arrival)
        await respond(send, 200, msgspec.json.encode(plan.explained()), [JSON, *_plan_headers(arrival.id, plan)])

    async def _whole(self, arrival: Arrival, send: Send) -> None:
        answer = await self._pipeline.whole(arrival)
        await respond(send, 200, answer.body, [JSON, *_outcome_headers(answer.outcome)])

    async def _stream(self, arrival: Arrival, send: Send) -> None:
        answer = await self._pipeline.stream(arrival)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": _stream_headers(answer)})
            try:
                async for piece in answer.pieces():
                    await send({"type": "http.response.body", "body": piece, "more_body": not answer.ended})
            except FarthingError as error:
                # The status is out already: an error event is what SDKs raise on. No [DONE] follows it.
                piece = b"data: " + error_body(error) + b"\n\n"
                await send({"type": "http.response.body", "body": piece})
        finally:
            await answer.aclose()


def request_ids() -> Iterator[str]:
    """Yield request ids: unique, hard to guess, and in the order of time."""
    while True:
        # The system is asked for many at once: a call to it takes longer than all the rest of this.
        random = os.urandom(10 * 400).hex()
        for start in range(0, len(random), 20):
            yield f"{time.time_ns() // 1_000_000:012x}{random[start : start + 20]}"


def _refuse_misspelt(headers: Mapping[str, str]) -> None:
    """Refuse a header that is nearly one of ours: what it asks for, a budget say, would be passed over, and paid."""
    for name in headers:
        if name.startswith(PREFIX) and (own := name.removeprefix(PREFIX)) not in ASKED_BY:
            meant = nearest(own, ASKED_BY)
            if meant is not None:
                raise InvalidRequest(
                    f"There is no header {name[:100]}; it is called {PREFIX}{meant}.", param=name[:100]
                )


def _is_true(name: str, text: str | None) -> bool:
    if text is None or text.lower() == "false":
        return False
    if text.lower() == "true":
        return True
    raise InvalidRequest(f"The header {name} must be true or false, not {text[:40]!r}.", param=name)


def _plan_headers(request_id: str, plan: Plan) -> Headers:
    headers = _headers(request_id, plan.policy.task, plan.decision.rule.name)
    if isinstance(plan.decision, Route):
        chosen = plan.decision.candidates[0]
        headers.append((b"x-farthing-model", _ascii(chosen.model.name)))
        headers.append((b"x-farthing-estimate-usd", usd_text(plan.decision.estimate_nusd).encode()))
    return headers


def _outcome_headers(outcome: Outcome) -> Headers:
    return [
        *_headers(outcome.id, outcome.task, outcome.rule),
        (b"x-farthing-model", _ascii(outcome.routed_model or "")),
        (b"x-farthing-estimate-usd", usd_text(outcome.estimated_nusd).encode()),
        (b"x-farthing-cost-usd", usd_text(outcome.charged_nusd).encode()),
        (b"x-farthing-baseline-usd", usd_text(outcome.baseline_nusd).encode()),
        (b"x-farthing-attempts", str(len(outcome.attempts)).encode()),
        *_verified_headers(outcome.verified),
        *_warning_headers(outcome.warnings),
    ]


def _stream_headers(answer: StreamedAnswer | CheckedStream) -> Headers:
    plan, candidate = answer.run.plan, answer.leg.candidate
    return [
        EVENTS,
        (b"cache-control", b"no-cache"),
        *_headers(answer.run.arrival.id, plan.policy.task, plan.decision.rule.name),
        (b"x-farthing-model", _ascii(candidate.model.name)),
        (b"x-farthing-estimate-usd", usd_text(plan.estimate_nusd(candidate)).encode()),
        *_verified_headers(answer.run.record.verified),
        *_warning_headers(answer.run.record.warnings),
    ]


def _verified_headers(verified: Verified | None) -> Headers:
    """Say what the checks of the rule came to, where it has some."""
    return [(b"x-farthing-verified", verified.encode())] if verified else []


def _warning_headers(over: tuple[Level, ...]) -> Headers:
    """Say which soft budgets are used up, in one header."""
    return [(b"x-farthing-budget-warning", _ascii("; ".join(map(str, over))))] if over else []


def _headers(request_id: str, task: str, rule: str) -> Headers:
    return [
        *id_headers(request_id),
        (b"x-farthing-task", _ascii(task)),
        (b"x-farthing-rule", _ascii(rule)),
    ]


def _ascii(name: str) -> bytes:
    """Write a name as a header can hold it."""
    return name.encode("ascii", "backslashreplace")
