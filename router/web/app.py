"""The composition root: every part of a proxy, built once, in the event loop that runs it, and taken down in order."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry

from router.errors import FarthingError, PolicyFaults
from router.lifecycle.gauges import ExperimentGauges
from router.metrics import Metrics
from router.policy.policy import PolicySet
from router.policy.reading.load import load_folder
from router.pricing import Catalogue
from router.settings import Settings
from router.tokens import Counter
from router.web.admission import Admission
from router.web.answering import open_answering
from router.web.asgi import JSON, BodyTooSlow, CallerGone, Receive, Scope, Send, id_headers, respond
from router.web.background import keeping_up, measure_lag
from router.web.books import open_books
from router.web.chat import request_ids
from router.web.idempotency.open import open_results
from router.web.ops import Ops
from router.web.refusal import error_body, error_headers, keep_for_operators, status_of
from router.web.reload import PolicyFolder
from router.web.routes import Routes, open_routes
from router.web.traces import Traces, trace_of
from router.web.turned_away import TurnedAway

NO_TASK = "none"
"""The task of a request that was refused before it had one, in metrics."""

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
        stays_shut: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`stays_shut` says that it takes the place of a worker that had accounts, so that it never opens itself."""
        self.settings = settings
        self._simulated_url = simulated_url
        self._metrics_folder = metrics_folder
        self._stays_shut = stays_shut
        self._clock = clock
        self._inflight = 0
        self._ids = request_ids()
        self._routes: Routes
        self._metrics: Metrics
        self._lifespan = self._life()
        self.folder: PolicyFolder | None = None
        self._traces: Traces | None = None
        self.on_ready: Callable[[], None] = lambda: None
        self.on_accounts: Callable[[], None] = lambda: None
        """Called when policies that have accounts are in force, at the start and after each edit."""

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
            method, path = scope["method"], scope["path"]
            endpoint = self._routes.hot.get((method, path))
            if endpoint is None:
                endpoint = await self._routes.other(method, path)
            await endpoint(scope, receive, send)
        except FarthingError as error:
            keep_for_operators(error, request_id)
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
        self._traces.turned_away(
            TurnedAway(
                trace=trace,
                id=request_id,
                at_s=self._clock() - latency_s,
                latency_s=latency_s,
                method=method,
                route=path if self._routes.knows(path) else None,
                status=status_of(error),
                code=error.code,
            )
        )

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
        admission = Admission(settings, self._simulated_url)
        folder = self.folder = PolicyFolder(
            settings.policies,
            partial(load_folder, catalogue=catalogue, environ=os.environ),
            admission.admit,
            metrics.policies,
            clock,
            stays_shut=self._stays_shut,
        )
        policies = folder.read()
        if policies.accounts:
            self.on_accounts()
        metrics.expect(policies)
        counter = Counter()
        counter.warm(
            sorted({target.token_rules.encoding for model in policies.models.values() for target in model.targets})
        )
        books = admission.books = await open_books(settings, folder.current, metrics, clock)
        ledger, spending, budgets = books.ledger, books.spending, books.budgets
        metrics.watch(
            inflight=lambda: self._inflight,
            ledger_queue=lambda: ledger.queued,
            unsettled=lambda: budgets.unsettled,
            catalogue_age_days=lambda: catalogue.age_days(datetime.fromtimestamp(clock(), UTC).date()),
        )
        gauges = ExperimentGauges(registry)
        answering = await open_answering(settings, folder.current, counter, books, metrics, gauges, clock)
        lanes, learning, traces = answering.lanes, answering.learning, answering.traces
        ops = Ops(folder.current, metrics, budgets, ledger, int(clock()))
        results = open_results(settings.budgets_url, clock)
        self._traces = traces
        self._routes = open_routes(settings, answering, books, folder, ops, results, clock)

        def changed(policies: PolicySet) -> None:
            metrics.expect(policies)
            answering.use(policies)
            if policies.accounts:
                self.on_accounts()

        closing = AsyncExitStack()
        closing.callback(books.store.close)
        closing.push_async_callback(budgets.aclose)
        closing.push_async_callback(results.aclose)
        if traces:
            closing.push_async_callback(asyncio.to_thread, traces.close)
        closing.push_async_callback(lanes.aclose)
        works = (
            partial(spending.restore_late, ledger, budgets),
            partial(folder.watch, changed),
            partial(measure_lag, metrics),
            partial(spending.measure_orphans, metrics),
            results.renew,
            partial(lanes.warm, policies),
            budgets.work,
            answering.rollouts.work,
            answering.mirror.work,
            answering.grader.work,
            learning.work,
        )
        # The last first; one that fails to close keeps no other open.
        async with closing, ledger, learning, keeping_up(works):
            await learning.restored()
            yield
