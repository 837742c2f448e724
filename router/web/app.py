"""The composition root: every part of a proxy, built once, in the event loop that runs it, and taken down in order."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial

from prometheus_client import CollectorRegistry

from router.budgets.memory import MemoryBudgets
from router.errors import FarthingError, InvalidRequest, PolicyFaults
from router.ledger.contract import Store
from router.ledger.open import open_store
from router.ledger.writer import LedgerWriter
from router.metrics import Metrics
from router.pipeline import Parts, Pipeline
from router.policy.load import load_folder
from router.policy.policy import PolicySet
from router.pricing import Catalogue
from router.providers.lanes import Lanes, simulated, with_keys, without_keys
from router.settings import Settings
from router.tokens import Counter
from router.values import Outcome
from router.web.asgi import JSON, BodyTooSlow, CallerGone, Message, Receive, Scope, Send, respond
from router.web.chat import ChatEndpoint, new_id
from router.web.log import log_outcome
from router.web.ops import Ops, windowed_scopes
from router.web.refusal import error_body, error_headers, status_of
from router.web.reload import PolicyFolder

LAG_EVERY_S = 0.5
NO_TASK = "none"
"""The task of a request that was refused before it had one, in metrics."""
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
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self._simulated_url = simulated_url
        self._clock = clock
        self._inflight = 0
        self._hot: dict[tuple[str, str], Endpoint] = {}
        self._admin: Endpoint | None = None
        self._make_admin: Callable[[], Endpoint] | None = None
        self._lifespan = self._life()
        self.folder: PolicyFolder | None = None
        self.on_ready: Callable[[], None] = lambda: None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; the outermost edge, where every failure becomes a response."""
        request_id = scope["farthing_id"] = new_id()
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        self._inflight += 1
        try:
            endpoint = self._hot.get((scope["method"], scope["path"]))
            if endpoint is None:
                endpoint = await self._other(scope)
            await endpoint(scope, receive, sending)
        except FarthingError as error:
            if not error.recorded:
                self._metrics.refused(NO_TASK, error.code)
            headers = [JSON, *error_headers(error), (b"x-farthing-request-id", request_id.encode())]
            if isinstance(error, BodyTooSlow):
                headers.append((b"connection", b"close"))
            await respond(send, status_of(error), error_body(error), headers)
        except CallerGone:
            pass
        except Exception:
            log.exception("Request %s failed inside Farthing; this is a bug.", request_id)
            if begun:
                raise
            body = b'{"error":{"message":"Farthing failed to handle this request; its log says why under %s.",' % (
                request_id.encode()
            )
            body += b'"type":"api_error","param":null,"code":"internal_error"}}'
            await respond(send, 500, body, [JSON, (b"x-farthing-request-id", request_id.encode())])
        finally:
            self._inflight -= 1

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
        metrics = self._metrics = Metrics(CollectorRegistry())
        folder = self.folder = PolicyFolder(
            settings.policies,
            partial(load_folder, catalogue=catalogue, environ=os.environ),
            self._admit,
            metrics.policies,
            clock,
        )
        policies = folder.read()
        counter = Counter()
        counter.warm(
            sorted({target.token_rules.encoding for model in policies.models.values() for target in model.targets})
        )
        store = open_store(settings.ledger_url)
        ledger = LedgerWriter(store, asyncio.get_running_loop())
        budgets = MemoryBudgets(clock)
        _restore(budgets, store, policies, clock())
        lanes = Lanes()
        metrics.watch(
            inflight=lambda: self._inflight,
            ledger_queue=lambda: ledger.queued,
            catalogue_age_days=lambda: catalogue.age_days(datetime.fromtimestamp(clock(), UTC).date()),
        )

        def observe(outcome: Outcome) -> None:
            metrics.record(outcome)
            log_outcome(outcome)

        pipeline = Pipeline(Parts(folder.current, counter, budgets, ledger, lanes, observe, clock))
        ops = Ops(folder.current, metrics, budgets, ledger, int(clock()))
        self._hot = {
            ("POST", "/v1/chat/completions"): ChatEndpoint(
                pipeline, folder.current, clock, settings.largest_body_bytes, settings.body_within_s
            ),
            ("GET", "/v1/models"): ops.models,
            ("GET", "/health/live"): ops.live,
            ("GET", "/health/ready"): ops.ready,
            ("GET", "/metrics"): ops.metrics,
        }
        self._make_admin = partial(_admin, settings, pipeline, folder, clock)

        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(_kept_up(partial(folder.watch, lambda changed: None))),
                tasks.create_task(_kept_up(partial(_measure_lag, metrics))),
                tasks.create_task(_kept_up(partial(lanes.warm, policies))),
            ]
            try:
                yield
            finally:
                for task in background:
                    task.cancel()
        await lanes.aclose()
        await budgets.aclose()
        await ledger.aclose()
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
        policies = with_keys(policies, os.environ)
        if self._simulated_url:
            return simulated(policies, self._simulated_url)
        for target in without_keys(policies):
            log.warning("%s has no API key, so calls to it will fail.", target.name)
        return policies


class NoSuchEndpoint(InvalidRequest):
    """A path or a method that there is not."""

    code = "not_found"


def _admin(settings: Settings, pipeline: Pipeline, folder: PolicyFolder, clock: Callable[[], float]) -> Endpoint:
    from router.web.admin import admin_app  # noqa: PLC0415  imported at first use, in a thread; see `_other`

    return admin_app(settings, pipeline, folder, clock)


def _restore(budgets: MemoryBudgets, store: Store, policies: PolicySet, now_s: float) -> None:
    """Start the budgets from what the ledger says was spent in the windows that run now."""
    for scope in windowed_scopes(policies):
        task = scope.name if scope.kind == "task" else None
        account = scope.name if scope.kind == "account" else None
        budgets.restore(scope, store.charged_since(scope.since(now_s), task=task, account=account))


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
