"""The composition root: every part of a proxy, built once, in the event loop that runs it, and taken down in order."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry

from router.budgets.contract import HOLD_TTL_S, Budgets
from router.budgets.lengths import Lengths
from router.budgets.open import MEMORY_URL, open_budgets
from router.difficulty.gauge import Gauge
from router.difficulty.pacing import Pacing
from router.errors import FarthingError, NoSuchEndpoint, PolicyFaults, StoreUnavailable
from router.ledger.contract import Output, Store
from router.ledger.open import open_spool, open_store
from router.ledger.writer import LedgerWriter
from router.lifecycle.gauges import ExperimentGauges
from router.lifecycle.grading import Grader
from router.lifecycle.learning import Learning
from router.lifecycle.rollout import Rollouts
from router.lifecycle.scopes import windowed_scopes
from router.lifecycle.shadow import Mirror
from router.lifecycle.warmth import Warmth
from router.metrics import Metrics
from router.pipeline import Answered, Parts, Pipeline
from router.pipeline.own_checks import OwnChecks
from router.policy.load import load_folder
from router.policy.policy import PolicySet
from router.pricing import Catalogue
from router.providers.breaker import Breakers
from router.providers.lanes import Lanes, simulated, with_keys, without_keys
from router.settings import Settings
from router.tokens import Counter
from router.values import Ending, Outcome
from router.web.asgi import JSON, BodyTooSlow, CallerGone, Receive, Scope, Send, id_headers, respond
from router.web.chat import ChatEndpoint, request_ids
from router.web.console import PATH as CONSOLE_PATH
from router.web.console import Console
from router.web.feedback import FeedbackEndpoint
from router.web.idempotency.once import Once
from router.web.idempotency.open import open_results
from router.web.log import log_outcome
from router.web.ops import Ops
from router.web.refusal import error_body, error_headers, status_of
from router.web.reload import PolicyFolder
from router.web.spending import Spending, spent
from router.web.traces import Traces, TurnedAway, open_traces, trace_of

LAG_EVERY_S = 0.5
NO_TASK = "none"
"""The task of a request that was refused before it had one, in metrics."""
RESTORED_WITHIN_S = 10.0
MOST_RECENT = 10_000
"""Answers whose lengths are read at the start."""
AGAIN_S = 1.0
"""How long after its failure a background task is started again."""
DRAIN_WITHIN_S = 30.0

Endpoint = Callable[[Scope, Receive, Send], Awaitable[None]]
log = logging.getLogger("farthing")


class App:
    """The ASGI application. Its parts exist between the lifespan's start-up and shutdown.

    Raises at start-up:
        PolicyFaults: the policies are not valid, or leave an open proxy on a public address.
        StoreUnavailable: the ledger can't be opened.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        simulated_url: str | None = None,
        metrics_folder: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self._simulated_url = simulated_url
        self._metrics_folder = metrics_folder
        self._clock = clock
        self._inflight = 0
        self._ids = request_ids()
        self._hot: dict[tuple[str, str], Endpoint] = {}
        self._admin: Endpoint | None = None
        self._console: Endpoint = Console(open_to_admin=bool(settings.admin_key))
        self._make_admin: Callable[[], Endpoint] | None = None
        self._lifespan = self._life()
        self.folder: PolicyFolder | None = None
        self._spending: Spending | None = None
        self._budgets: Budgets | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._traces: Traces | None = None
        self.on_ready: Callable[[], None] = lambda: None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; the outermost edge, where every failure becomes a response."""
        started = time.perf_counter()
        request_id = scope["farthing_id"] = next(self._ids)
        self._inflight += 1
        try:
            endpoint = self._hot.get((scope["method"], scope["path"]))
            if endpoint is None:
                endpoint = await self._other(scope)
            await endpoint(scope, receive, send)
        except FarthingError as error:
            if not error.recorded:
                self._turned_away(scope, error, time.perf_counter() - started)
            headers = [JSON, *error_headers(error), *id_headers(request_id)]
            if isinstance(error, BodyTooSlow):
                headers.append((b"connection", b"close"))
            await respond(send, status_of(error), error_body(error), headers)
        except CallerGone:
            pass
        except Exception:
            log.exception("Request %s failed inside Farthing; this is a bug.", request_id)
            body = b'{"error":{"message":"Farthing failed to handle this request; its log says why under %s.",' % (
                request_id.encode()
            )
            body += b'"type":"api_error","param":null,"code":"internal_error"}}'
            # Where an answer has begun, the server refuses a second one, and ends the connection.
            await respond(send, 500, body, [JSON, *id_headers(request_id)])
        finally:
            self._inflight -= 1

    def _turned_away(self, scope: Scope, error: FarthingError, latency_s: float) -> None:
        """Tell of a refusal that no outcome tells of."""
        self._metrics.refused(NO_TASK, error.code)
        if self._traces is None:
            return
        request_id, method, path = scope["farthing_id"], scope["method"], scope["path"]
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        trace = trace_of(headers, request_id, self._traces)
        assert trace is not None, "every request has a trace where requests are traced"
        known = any(path == known for _, known in self._hot)
        self._traces.turned_away(
            TurnedAway(
                trace=trace,
                id=request_id,
                at_s=self._clock() - latency_s,
                latency_s=latency_s,
                method=method,
                route=path if known else None,
                status=status_of(error),
                code=error.code,
            )
        )

    async def _other(self, scope: Scope) -> Endpoint:
        """Return the endpoint of a path that is not hot.

        Raises:
            InvalidRequest: there is nothing at that path, or not for that method.
        """
        method, path = scope["method"], scope["path"]
        if path.startswith("/admin/"):
            if self._admin is None:
                assert self._make_admin is not None
                # FastAPI takes 0.3 s to import, which a start-up need not wait for.
                self._admin = await asyncio.to_thread(self._make_admin)
            return self._admin
        if path.startswith(f"{CONSOLE_PATH}/"):
            return self._console
        if method == "HEAD" and (endpoint := self._hot.get(("GET", path))):
            return endpoint
        allowed = [verb for verb, known in self._hot if known == path]
        if allowed:
            raise NoSuchEndpoint(f"{path} takes {' and '.join(allowed)}, not {method}.")
        paths = ", ".join(sorted({known for _, known in self._hot}))
        raise NoSuchEndpoint(f"There is nothing at {path[:200]}. There is: {paths}.")

    async def _live(self, receive: Receive, send: Send) -> None:
        """Speak ASGI's lifespan protocol around `_life`."""
        await receive()
        try:
            await self._lifespan.__aenter__()
        except PolicyFaults as error:
            for fault in error.faults:
                print(fault, file=sys.stderr)
            await send({"type": "lifespan.startup.failed", "message": ""})
            return
        except FarthingError as error:
            print(f"farthing: {error.message}", file=sys.stderr)
            await send({"type": "lifespan.startup.failed", "message": ""})
            return
        await send({"type": "lifespan.startup.complete"})
        self.on_ready()
        await receive()
        await self._lifespan.__aexit__(None, None, None)
        await send({"type": "lifespan.shutdown.complete"})

    @asynccontextmanager
    async def _life(self) -> AsyncIterator[None]:
        settings, clock = self.settings, self._clock
        catalogue = Catalogue()
        registry = CollectorRegistry()
        metrics = self._metrics = Metrics(
            registry, shared=self._metrics_folder, account_label=settings.metrics_account_label
        )
        folder = self.folder = PolicyFolder(
            settings.policies,
            partial(load_folder, catalogue=catalogue, environ=os.environ),
            self._admit,
            metrics.policies,
            clock,
        )
        policies = folder.read()
        metrics.expect(policies)
        counter = Counter()
        counter.warm(
            sorted({target.token_rules.encoding for model in policies.models.values() for target in model.targets})
        )
        store = open_store(settings.ledger_url)
        ledger = LedgerWriter(
            store,
            open_spool(settings.ledger_url, settings.ledger_on_outage, settings.spool),
            most_queued=settings.ledger_queue_rows,
            held_for_s=HOLD_TTL_S,
            timed=partial(metrics.store, store.name, "commit"),
        )
        await ledger.open()
        spending = Spending(settings.ledger_url, folder.current, clock)
        budgets = open_budgets(
            settings.budgets_url,
            clock,
            spending=partial(spending.with_holds, ledger),
            late_rows=lambda: ledger.late_rows,
            rebuilt=metrics.rebuilt,
            timed=lambda verb, taken_s: metrics.store("redis", verb, taken_s),
            on_outage=settings.budgets_on_outage,
            replicas=settings.replicas * settings.workers,
        )
        if settings.budgets_url == MEMORY_URL:
            try:
                await budgets.restore(spent(store, windowed_scopes(policies), clock()))
            except StoreUnavailable as error:
                if not ledger.degraded:
                    raise
                ledger.held_back = f"The budgets start from the ledger. {error.message}"
        self._spending, self._budgets, self._loop = spending, budgets, asyncio.get_running_loop()
        lengths = Lengths()
        lengths.restore(_recent(store))
        lanes = Lanes()
        metrics.watch(
            inflight=lambda: self._inflight,
            ledger_queue=lambda: ledger.queued,
            unsettled=lambda: budgets.unsettled,
            catalogue_age_days=lambda: catalogue.age_days(datetime.fromtimestamp(clock(), UTC).date()),
        )

        gauges = ExperimentGauges(registry)
        rollouts = Rollouts(folder.current, store, ledger, clock, gauges.states)
        await rollouts.restore()
        warmth = Warmth(clock)
        gauge = Gauge(policies.weights)
        traces = self._traces = open_traces(os.environ)

        def observe(outcome: Outcome) -> None:
            metrics.record(outcome)
            gauges.record(outcome)
            rollouts.note(outcome)
            log_outcome(outcome)
            if traces:
                traces.record(outcome)
            if outcome.ending is Ending.ANSWERED and outcome.usage and outcome.routed_model:
                lengths.add(outcome.task, outcome.routed_model, outcome.usage.output_tokens)

        def changed(policies: PolicySet) -> None:
            metrics.expect(policies)
            gauge.use(policies.weights)
            parts.breakers.keep_only(policies)

        parts = Parts(
            policies=rollouts.policies,
            counter=counter,
            budgets=budgets,
            ledger=ledger,
            lane=lanes,
            breakers=Breakers(settings.breaker_failures, metrics.breaker),
            observe=observe,
            escalated=metrics.escalated,
            clock=clock,
            usual_output_tokens=lengths.usual,
            own_checks=OwnChecks(metrics.own_check_hung),
            gauge=gauge,
            pacing=Pacing(),
            traced=traces is not None,
        )
        mirror = Mirror(parts, gauges.dropped)
        learning = Learning(folder.current, store, gauge, clock, metrics.labelled)
        grader = Grader(parts, learning.graded, gauges.dropped)

        def answered(answer: Answered) -> None:
            warmth.note(answer)
            mirror.offer(answer)
            if answer.plan.policy.learn:
                learning.note(answer)
                grader.offer(answer)

        pipeline = Pipeline(replace(parts, warm_at=warmth.at, answered=answered))
        ops = Ops(folder.current, metrics, budgets, ledger, int(clock()))
        results = open_results(settings.budgets_url, clock)
        once = Once(results) if settings.idempotency == "on" else None
        self._hot = {
            ("POST", "/v1/chat/completions"): ChatEndpoint(
                pipeline,
                rollouts.policies,
                clock,
                settings.largest_body_bytes,
                settings.body_within_s,
                once,
                traces,
            ),
            ("POST", "/v1/feedback"): FeedbackEndpoint(
                learning, ledger, rollouts.policies, settings.largest_body_bytes, settings.body_within_s
            ),
            ("GET", "/v1/models"): ops.models,
            ("GET", "/health/live"): ops.live,
            ("GET", "/health/ready"): ops.ready,
            ("GET", "/metrics"): ops.metrics,
            ("GET", CONSOLE_PATH): self._console,
        }
        self._make_admin = partial(_admin, settings, pipeline, folder, rollouts, budgets, clock)

        async with ledger, asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(_kept_up(partial(spending.restore_late, ledger, budgets))),
                tasks.create_task(_kept_up(partial(folder.watch, changed))),
                tasks.create_task(_kept_up(partial(_measure_lag, metrics))),
                tasks.create_task(_kept_up(partial(spending.measure_orphans, metrics))),
                tasks.create_task(_kept_up(results.renew)),
                tasks.create_task(_kept_up(partial(lanes.warm, policies))),
                tasks.create_task(_kept_up(budgets.work)),
                tasks.create_task(_kept_up(rollouts.work)),
                tasks.create_task(_kept_up(mirror.work)),
                tasks.create_task(_kept_up(grader.work)),
                tasks.create_task(_kept_up(learning.work)),
            ]
            try:
                await learning.restored()
                yield
            finally:
                for task in background:
                    task.cancel()
                await learning.flush()
        await lanes.aclose()
        if traces:
            await asyncio.to_thread(traces.close)
        await results.aclose()
        await budgets.aclose()
        store.close()

    def _admit(self, policies: PolicySet) -> PolicySet:
        """Complete a set that was read: keys from the environment, simulated providers where they stand in.

        Raises:
            PolicyFaults: it has no accounts although others than this machine can reach the proxy.
        """
        if not policies.accounts and not self.settings.loopback_only:
            message = (
                f"there are no accounts, so the proxy is open and may only listen on 127.0.0.1, not on "
                f"{self.settings.host}; make one with `farthing keys new --account NAME`"
            )
            raise PolicyFaults((f"{self.settings.policies / 'accounts.yaml'}:1:1: {message}",))
        self._restore_new(policies)
        policies = with_keys(policies, os.environ)
        if self._simulated_url:
            return simulated(policies, self._simulated_url)
        for target in without_keys(policies):
            log.warning("%s has no API key, so calls to it will fail.", target.name)
        return policies

    def _restore_new(self, policies: PolicySet) -> None:
        """Start the budgets that an edit adds from what the ledger says was spent. Runs before it is in force.

        Raises:
            PolicyFaults: the ledger can't be read now, so that the new budgets would start from nothing.
        """
        if self._spending is None or self._budgets is None or self._loop is None:
            return
        try:
            if added := self._spending.added_by(policies):
                asyncio.run_coroutine_threadsafe(self._budgets.restore(added), self._loop).result(RESTORED_WITHIN_S)
        except StoreUnavailable as error:
            raise PolicyFaults((f"{self.settings.policies}: new budgets can't be started: {error.message}",)) from error


def _admin(
    settings: Settings,
    pipeline: Pipeline,
    folder: PolicyFolder,
    rollouts: Rollouts,
    budgets: Budgets,
    clock: Callable[[], float],
) -> Endpoint:
    from router.web.admin import admin_app  # noqa: PLC0415  imported at first use, in a thread; see `_other`

    return admin_app(settings, pipeline, folder, rollouts, budgets, clock)


def _recent(store: Store) -> Sequence[Output]:
    """Return how long the last answers were; nothing where the ledger is away, for a ceiling serves as well."""
    try:
        return store.recent_outputs(MOST_RECENT)
    except StoreUnavailable:
        return ()


async def _kept_up(work: Callable[[], Awaitable[None]]) -> None:
    """Run a background task until it is done or cancelled, again after each failure: it must not end the proxy."""
    while True:
        try:
            return await work()
        except Exception:
            log.exception("A background task failed; it starts again in %s s.", AGAIN_S)
        await asyncio.sleep(AGAIN_S)


async def _measure_lag(metrics: Metrics) -> None:
    """Measure how late the event loop runs its timers, until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LAG_EVERY_S
        await asyncio.sleep(LAG_EVERY_S)
        metrics.loop_lag.set(max(0.0, loop.time() - due))
        metrics.refresh()
