"""What each task learns from its traffic: labels go to the ledger, and come back from there to every replica alike.

Nothing is learned that is not in the ledger, and all of it in the ledger's order, so that replicas and restarts know
the same. Labels of grades and checks may be lost with a process, a second's worth at the most; a rating is in the
ledger when its caller is told so. Lives on one event loop; learning itself is done in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from router.difficulty.gauge import Gauge
from router.difficulty.lessons import EPOCH, Lessons, first_of
from router.difficulty.scorer import Scorer
from router.difficulty.weights import Weights, shipped_weights
from router.errors import InvalidRequest, NotAllowed, RequestNotFound, StoreUnavailable
from router.ledger.contract import Store
from router.ledger.labels import MOST_RATINGS, MOST_RATINGS_OF_EPOCH, RATINGS, LabelRow
from router.ledger.rows import time_text
from router.lifecycle.grading import Graded
from router.lifecycle.labels import NoLabel, lesson_of, of_check, of_grades, of_rating
from router.pipeline import Answered
from router.policy.backtest.replay import Record
from router.policy.learn import Compared, compared
from router.policy.policy import Account, PolicySet

READ_EVERY_S = 2.0
"""How late a replica may learn what others wrote."""
WRITE_WITHIN_S = 1.0
SETTLED_WITHIN_S = 1.0
"""How long a rating waits for its request's row, which may follow an answer by some 20 ms, or more under load."""
ASK_AGAIN_S = 0.02
MOST_WAITING = 10_000
"""Labels that wait for the ledger; what comes then is dropped, for learning needs only some."""
READ_AT_ONCE = 500
CROWDED = "There are as many ratings as the proxy's own labels can confirm; those must come first."
TAKEN_AT_ONCE = 5
LOCK_LEFT_S = 0.0001
RESTORED_WITHIN_S = 2.0
"""How long a start waits for what was learned: about two tasks of 4,000 labels; others are scored cold till then."""

_RECORD = "id, at, account, task, rule, requested_model, routed_model, kind, outcome, charged_nusd, attempts, facts"

log = logging.getLogger("farthing.learning")


@dataclass(frozen=True, slots=True)
class Rated:
    """What became of a rating."""

    request_id: str
    task: str
    score: float
    because: str | None = None
    """Why nothing is learned from it; None where it is a label now."""


@dataclass(frozen=True, slots=True)
class _Learned:
    """What was learned of one task, and from which of its labels."""

    compared: Compared
    weights: Weights
    lessons: Lessons | None = None


class Learning:
    """Writes labels, reads them back, and gives the gauge what they taught."""

    def __init__(
        self,
        policies: Callable[[], PolicySet],
        store: Store,
        gauge: Gauge,
        clock: Callable[[], float],
        labelled: Callable[[str, str], None] = lambda task, source: None,
    ) -> None:
        """`labelled` is told of every label of this process: its task and its source."""
        self._policies = policies
        self._store = store
        self._gauge = gauge
        self._clock = clock
        self._labelled = labelled
        self._waiting: list[LabelRow] = []
        self._lessons: dict[str, _Learned] = {}
        self._resets: dict[str, int] = {}
        """By task, the last reset that this process followed."""
        self._wanted = asyncio.Event()
        self._restored = asyncio.Event()
        self._away = False

    def graded(self, graded: Graded) -> None:
        """Take two answers that were graded."""
        self._take(of_grades(graded, self._now()))

    def note(self, answered: Answered) -> None:
        """Take any answer; keeps what its rule's checks say."""
        if (label := of_check(answered, self._now())) is not None:
            self._take(label)

    async def rate(self, account: Account | None, request_id: str, score: float) -> Rated:
        """Take a caller's rating of an answer, 0 to 1; the last of several counts.

        Raises:
            RequestNotFound: no such request is in the ledger, or not of this account.
            NotAllowed: the account may not use the request's task any more.
            InvalidRequest: it had no answer, or was rated too often.
            StoreUnavailable: the ledger can't be asked or written; nothing is known of the rating.
        """
        owner = account.name if account else None
        record = await self._settled(request_id, owner)
        if record is None or record.account != owner:
            raise RequestNotFound(f"There is no request '{request_id[:80]}' of this account.", param="request_id")
        if account and account.tasks is not None and record.task not in account.tasks:
            raise NotAllowed(f"The account '{account.name}' may not use the task '{record.task}'.")
        if record.outcome == "held":
            raise InvalidRequest("This request is still under way; rate it when it is answered.", param="request_id")
        if record.outcome not in ("answered", "cut"):
            raise InvalidRequest("This request had no answer that could be rated.", param="request_id")
        try:
            label = await asyncio.to_thread(of_rating, record, score, self._policies(), self._now())
        except NoLabel as no:
            return Rated(request_id, record.task, score, str(no))
        if await asyncio.to_thread(self._is_crowded, label.task):
            return Rated(request_id, record.task, score, CROWDED)
        if not await self._store.label([label]):
            raise InvalidRequest(f"A request may be rated {MOST_RATINGS} times.", param="request_id")
        self._labelled(label.task, label.source)
        self._wanted.set()
        return Rated(request_id, record.task, score)

    async def restored(self) -> None:
        """Wait until `work` has learned what the ledger has, for two seconds at the most: what is left follows."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RESTORED_WITHIN_S):
                await self._restored.wait()

    async def work(self) -> None:
        """Learn what the ledger has; then write what was taken, and learn what is new, until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            await self._learn()
        finally:
            self._restored.set()
        due_s = 0.0
        while True:
            try:
                async with asyncio.timeout(WRITE_WITHIN_S):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            is_wanted = self._wanted.is_set()
            self._wanted.clear()
            await self._flush()
            if is_wanted or loop.time() >= due_s:
                await self._learn()
                due_s = loop.time() + READ_EVERY_S

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Write what is left, once `work` and all that takes labels have ended: what they had under way is back."""
        await self._flush()

    async def _flush(self) -> None:
        """Write what was taken; where the ledger is away, it waits."""
        if not self._waiting:
            return
        labels, self._waiting = self._waiting, []
        try:
            await self._store.label(labels)
        except StoreUnavailable as error:
            self._waiting = (labels + self._waiting)[:MOST_WAITING]
            self._lost(error)
        except BaseException:
            self._waiting = labels + self._waiting
            raise

    def _take(self, label: LabelRow) -> None:
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(label)
            self._labelled(label.task, label.source)

    async def _learn(self) -> None:
        """Bring every task that learns up to what the ledger has; put others back to what they were."""
        policies = self._policies()
        weights = policies.weights or shipped_weights()
        learning = {task: compared(policies, policy) for task, policy in policies.policies.items() if policy.learn}
        for task in self._lessons.keys() - learning.keys():
            del self._lessons[task]
            self._gauge.serve(task, Scorer(weights))
        for task, now in learning.items():
            known = self._lessons.get(task)
            if known is None or known.compared != now or known.weights is not weights:
                known = _Learned(now, weights)
            try:
                lessons = await asyncio.to_thread(_taught, self._store, task, now, known.lessons, weights)
            except StoreUnavailable as error:
                self._lost(error)
                return
            if (self._policies().weights or shipped_weights()) is not weights:
                # They came meanwhile, and the gauge has begun anew with them.
                self._wanted.set()
                return
            self._lessons[task] = _Learned(now, weights, lessons)
            before = self._gauge.version(task)
            if lessons.reset_at > self._resets.get(task, 0):
                self._resets[task] = lessons.reset_at
                self._gauge.forget(task)
            if lessons.served.version != before:
                by = f"what label {version} taught" if (version := lessons.served.version) else "no label"
                log.info("The task %s is scored by %s.", task, by)
            self._gauge.serve(task, lessons.served, lessons.shared)
        self._away = False

    async def _settled(self, request_id: str, owner: str | None) -> Record | None:
        """Return a request's row, once it is settled; as it is where that takes too long, or it is another's."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + SETTLED_WITHIN_S
        while True:
            record = await asyncio.to_thread(self._record, request_id)
            if record is None or record.account != owner or record.outcome != "held" or loop.time() > deadline_s:
                return record
            await asyncio.sleep(ASK_AGAIN_S)

    def _record(self, request_id: str) -> Record | None:
        if not (request_id.isascii() and request_id.isalnum()):
            # Nobody's request bears it, and nobody rates a second answer; PostgreSQL refuses to look for a zero byte.
            return None
        rows = self._store.ask(f"SELECT {_RECORD} FROM requests WHERE id = $1", [request_id])  # noqa: S608  names
        return Record(*rows[0]) if rows else None

    def _is_crowded(self, task: str) -> bool:
        """Say whether a task's ratings are so many that another would displace what confirms them."""
        policy = self._policies().policies.get(task)
        if policy is None or policy.learn is None or policy.learn.feedback != "checked":
            return False
        return int(self._store.ask(RATINGS, [task, EPOCH])[0][0]) >= MOST_RATINGS_OF_EPOCH

    def _lost(self, error: StoreUnavailable) -> None:
        if not self._away:
            log.warning("Learning waits for the ledger: %s", error)
        self._away = True

    def _now(self) -> str:
        return time_text(datetime.fromtimestamp(self._clock(), UTC))


def lessons_in(store: Store, task: str, compared: Compared, weights: Weights) -> Lessons:
    """Learn what the ledger has of a task, from the first label that matters; blocks.

    Raises:
        StoreUnavailable: the ledger can't be read.
    """
    return _taught(store, task, compared, None, weights)


def _taught(store: Store, task: str, compared: Compared, known: Lessons | None, weights: Weights) -> Lessons:
    lessons = known or Lessons(weights, first_of(store.newest_label(task)))
    while rows := store.labels(task, lessons.seq, READ_AT_ONCE):
        for at in range(0, len(rows), TAKEN_AT_ONCE):
            few = rows[at : at + TAKEN_AT_ONCE]
            lessons.take([lesson for row in few if (lesson := lesson_of(row, compared)) is not None])
            # The event loop would else wait for the interpreter's lock, 5 ms and more each time.
            time.sleep(LOCK_LEFT_S)
        lessons.reach(rows[-1].seq)
    return lessons
