"""Callers' ratings of answers: whether one may be given, and the label that it becomes, in the ledger at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from router.difficulty.lessons import EPOCH
from router.errors import InvalidRequest, LedgerUnavailable, NotAllowed, RequestNotFound
from router.ledger.contract import Store
from router.ledger.labels import MOST_RATINGS, MOST_RATINGS_OF_EPOCH, RATED, RATINGS, LabelRow
from router.ledger.rows import time_text
from router.lifecycle.labels import NoLabel, of_rating
from router.lifecycle.learning import Learning
from router.policy.backtest.recorded import Record
from router.policy.policy import Account, PolicySet

SETTLED_WITHIN_S = 1.0
"""How long a rating waits for its request's row, which may follow an answer by some 20 ms, or more under load."""
ASK_AGAIN_S = 0.02
CROWDED = "There are as many ratings as the proxy's own labels can confirm; those must come first."
OVER_SHARE = (
    "This account has as many ratings as leave room for those of others; the proxy's own labels must come first."
)
TIMES_WHAT_IS_FREE = 2
"""An account's ratings may be so many times as many as there is room left: one alone may take two thirds of the room,
and k of them 2 / (2k + 1) each, so that there is always some for one that comes later."""

_RECORD = ", ".join(Record.__struct_fields__)


@dataclass(frozen=True, slots=True)
class Rated:
    """What became of a rating."""

    request_id: str
    task: str
    score: float
    because: str | None = None
    """Why nothing is learned from it; None where it is a label now."""


class Ratings:
    """Takes ratings; `learning` is told of every one that is a label in the ledger."""

    def __init__(
        self,
        policies: Callable[[], PolicySet],
        store: Store,
        clock: Callable[[], float],
        learning: Learning,
        any_spooled: Callable[[], bool],
    ) -> None:
        """`any_spooled` says, from any thread, whether there may be rows that are not in the store yet."""
        self._policies = policies
        self._store = store
        self._clock = clock
        self._learning = learning
        self._any_spooled = any_spooled

    async def rate(self, account: Account | None, request_id: str, score: float) -> Rated:
        """Take a caller's rating of an answer, 0 to 1; the last of several counts.

        Raises:
            RequestNotFound: no such request is in the ledger, or not of this account.
            NotAllowed: the account may not use the request's task any more.
            InvalidRequest: it had no answer, or was rated too often.
            StoreUnavailable: the ledger can't be asked or written, or the request's row may still be on its way there;
                nothing is known of the rating.
        """
        owner = account.name if account else None
        record, any_spooled = await self._settled(request_id, owner)
        if any_spooled and (record is None or (record.account == owner and record.outcome == "held")):
            late = "rows wait in the spool, and this request's may be among them"
            raise LedgerUnavailable(f"The request '{request_id[:80]}' can't be rated yet: {late}.", why=late)
        if record is None or record.account != owner:
            raise RequestNotFound(f"There is no request '{request_id[:80]}' of this account.", param="request_id")
        if account and account.tasks is not None and record.task not in account.tasks:
            raise NotAllowed(f"The account '{account.name}' may not use the task '{record.task}'.")
        if record.outcome == "held":
            raise InvalidRequest("This request is still under way; rate it when it is answered.", param="request_id")
        if record.outcome not in ("answered", "cut"):
            raise InvalidRequest("This request had no answer that could be rated.", param="request_id")
        at = time_text(datetime.fromtimestamp(self._clock(), UTC))
        try:
            label = await asyncio.to_thread(of_rating, record, score, self._policies(), at)
        except NoLabel as no:
            return Rated(request_id, record.task, score, str(no))
        before = await self._last(label)
        if before == _said(label):
            return Rated(request_id, record.task, score)
        # One that is given again takes the first one's place, and so nobody's room.
        if before is None and (why := await asyncio.to_thread(self._why_crowded, label.task, owner)):
            return Rated(request_id, record.task, score, why)
        if not await self._store.label([label]):
            if await self._last(label) == _said(label):  # a retry was faster
                return Rated(request_id, record.task, score)
            raise InvalidRequest(f"A rating may be changed {MOST_RATINGS - 1} times.", param="request_id")
        if before is None:
            self._learning.written(label)
        else:
            self._learning.amended()
        return Rated(request_id, record.task, score)

    async def _last(self, label: LabelRow) -> tuple[object, ...] | None:
        """Return what the last rating of a label's request said; None where there is none."""
        rows = await asyncio.to_thread(self._store.ask, RATED, [label.task, label.request_id])
        return tuple(rows[0]) if rows else None

    async def _settled(self, request_id: str, owner: str | None) -> tuple[Record | None, bool]:
        """Return a request's row, once it is settled, and whether it may be news to the store.

        As it is where that takes too long, or it is another's.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + SETTLED_WITHIN_S
        while True:
            record, any_spooled = await asyncio.to_thread(self._record, request_id)
            if record is None or record.account != owner or record.outcome != "held" or loop.time() > deadline_s:
                return record, any_spooled
            await asyncio.sleep(ASK_AGAIN_S)

    def _record(self, request_id: str) -> tuple[Record | None, bool]:
        if not (request_id.isascii() and request_id.isalnum()):
            # Nobody's request bears it, and nobody rates a second answer; PostgreSQL refuses to look for a zero byte.
            return None, False
        # In this order: what leaves the spool meanwhile is in the store.
        any_spooled = self._any_spooled()
        rows = self._store.ask(f"SELECT {_RECORD} FROM requests WHERE id = $1", [request_id])  # noqa: S608  names
        return (Record(*rows[0]) if rows else None), any_spooled

    def _why_crowded(self, task: str, owner: str | None) -> str | None:
        """Say why another rating would displace what confirms a task's ratings, or those of others; None: it would not.

        It is for the newest labels in the ledger to say, so that every replica says the same.
        """
        policies = self._policies()
        policy = policies.policies.get(task)
        if policy is None or policy.learn is None or policy.learn.feedback != "checked":
            return None
        ratings, own = map(int, self._store.ask(RATINGS, [task, EPOCH, owner or ""])[0])
        free = MOST_RATINGS_OF_EPOCH - ratings
        if free <= 0:
            return CROWDED
        users = sum(1 for each in policies.accounts.values() if each.tasks is None or task in each.tasks)
        return OVER_SHARE if users > 1 and own >= TIMES_WHAT_IS_FREE * free else None


def _said(label: LabelRow) -> tuple[object, ...]:
    """Return what a rating says, as `RATED` does."""
    return label.gain, label.cheap, label.premium, label.cheap_targets, label.premium_targets
