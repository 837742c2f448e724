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
from datetime import UTC, datetime
from typing import Self

from router.difficulty.gauge import Gauge
from router.difficulty.lessons import Lessons, first_of
from router.difficulty.weights import Weights, shipped_weights
from router.errors import StoreUnavailable
from router.ledger.contract import Store
from router.ledger.labels import LabelRow
from router.ledger.rows import time_text
from router.lifecycle.grading import Graded
from router.lifecycle.labels import lesson_of, of_check, of_grades
from router.lifecycle.taught import Taught
from router.pipeline import Answered
from router.policy.compared import Compared, compared
from router.policy.policy import PolicySet

READ_EVERY_S = 2.0
"""How late a replica may learn what others wrote."""
WRITE_WITHIN_S = 1.0
MOST_WAITING = 10_000
"""Labels that wait for the ledger; what comes then is dropped, for learning needs only some."""
READ_AT_ONCE = 500
TAKEN_AT_ONCE = 5
LOCK_LEFT_S = 0.0001
RESTORED_WITHIN_S = 2.0
"""How long a start waits for what was learned: about two tasks of 4,000 labels; others are scored cold till then."""

log = logging.getLogger("farthing.learning")


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
        self._clock = clock
        self._labelled = labelled
        self._waiting: list[LabelRow] = []
        self._taught = Taught(gauge)
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

    def written(self, label: LabelRow) -> None:
        """Learn soon from a label of this process that is in the ledger already."""
        self._labelled(label.task, label.source)
        self._wanted.set()

    def amended(self) -> None:
        """Learn soon from a rating in the ledger that took the place of an earlier one of its request."""
        self._wanted.set()

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
        self._taught.keep_only(learning, weights)
        for task, now in learning.items():
            known = self._taught.lessons(task, now, weights)
            try:
                lessons = await asyncio.to_thread(_up_to_now, self._store, task, now, known, weights)
            except StoreUnavailable as error:
                self._lost(error)
                return
            if (self._policies().weights or shipped_weights()) is not weights:
                # They came meanwhile, and the gauge has begun anew with them.
                self._wanted.set()
                return
            self._taught.serve(task, now, weights, lessons)
        self._away = False

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
    return _up_to_now(store, task, compared, None, weights)


def _up_to_now(store: Store, task: str, compared: Compared, known: Lessons | None, weights: Weights) -> Lessons:
    lessons = known or Lessons(weights, first_of(store.newest_place(task)))
    while rows := store.labels(task, lessons.seq, READ_AT_ONCE):
        for at in range(0, len(rows), TAKEN_AT_ONCE):
            few = rows[at : at + TAKEN_AT_ONCE]
            lessons.take([lesson for row in few if (lesson := lesson_of(row, compared)) is not None])
            # The event loop would else wait for the interpreter's lock, 5 ms and more each time.
            time.sleep(LOCK_LEFT_S)
        lessons.reach(rows[-1].seq, max(row.place for row in rows))
    return lessons
