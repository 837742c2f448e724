"""What operations and SDKs ask beside answers: health, metrics, and the list of models."""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable

import msgspec

from router.budgets.contract import Budgets
from router.errors import StoreUnavailable
from router.ledger.writer import LedgerWriter
from router.lifecycle.scopes import windowed_scopes
from router.metrics import Metrics
from router.metrics.text import Encoder, encoder_for
from router.policy.claim import AUTO, TASK_PREFIX
from router.policy.policy import PolicySet
from router.values import Level
from router.web.asgi import JSON, Receive, Scope, Send, respond
from router.web.auth import account_of

MOST_SCRAPES = 20
AGAIN_S = 0.02

log = logging.getLogger("farthing.metrics")


class Ops:
    """The small endpoints."""

    def __init__(
        self,
        policies: Callable[[], PolicySet],
        metrics: Metrics,
        budgets: Budgets,
        ledger: LedgerWriter,
        started_s: int,
    ) -> None:
        self._policies = policies
        self._metrics = metrics
        self._budgets = budgets
        self._ledger = ledger
        self._started_s = started_s

    async def live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /health/live: the process runs."""
        await respond(send, 200, b'{"status":"live"}', [JSON])

    async def ready(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /health/ready: new work can be taken on, or why not; `degraded` says what is wrong meanwhile.

        Whoever asks needs no key, and so hears of no address.
        """
        why = self._ledger.not_ready
        state = {"status": "not ready", "reason": why} if why else {"status": "ready"}
        if degraded := [told for told in (self._ledger.degraded, self._budgets.degraded) if told]:
            state["degraded"] = " ".join(degraded)
        state["policy_revision"] = self._policies().revision
        await respond(send, 503 if why else 200, msgspec.json.encode(state), [JSON])

    async def metrics(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /metrics: in the format that the scraper asks for."""
        accept = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"accept"), "")
        self._metrics.budgets = await self._levels()
        self._metrics.refresh()
        encoder, content_type = encoder_for(accept)
        body = await self._encoded(encoder)
        await respond(send, 200, body, [(b"content-type", content_type.encode())])

    async def _encoded(self, encoder: Encoder) -> bytes:
        """Write the metrics; with several workers, again where one of them was just making or dropping its file.

        Raises:
            StoreUnavailable: their files stayed unreadable.
        """
        for _ in range(MOST_SCRAPES):
            try:
                return encoder(self._metrics.registry)
            except (OSError, ValueError, RuntimeError, struct.error) as error:
                log.warning("The workers' metrics can't be read at this moment: %r", error)
            await asyncio.sleep(AGAIN_S)
        raise StoreUnavailable("The workers' metrics can't be read now; scrape again.")

    async def models(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /v1/models: every name that `model` may have, in OpenAI's shape."""
        policies = self._policies()
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        account = account_of(policies, headers)
        tasks = [task for task in policies.policies if not account or account.tasks is None or task in account.tasks]
        claimed = [name for task in tasks for name in sorted(policies.policies[task].match.models)]
        present = [name for name, model in policies.models.items() if not model.absent]
        names = dict.fromkeys([AUTO, *present, *(TASK_PREFIX + task for task in tasks), *claimed])
        entries = [
            {"id": name, "object": "model", "created": self._started_s, "owned_by": "farthing"} for name in names
        ]
        await respond(send, 200, msgspec.json.encode({"object": "list", "data": entries}), [JSON])

    async def _levels(self) -> tuple[Level, ...]:
        try:
            return await self._budgets.levels(windowed_scopes(self._policies()))
        except StoreUnavailable:
            return ()
