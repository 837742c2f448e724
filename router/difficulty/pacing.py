"""How freely each task may spend, so that its day's budget lasts for the day's usual traffic and is used by its end.

The pace is 1 where a task begins, and follows what is left of the budget over what is left of the traffic: reading it
changes nothing, equal state gives an equal pace, and replicas that share a budget agree without talking. State is
bounded: so many tasks, and for each the shape of its day. It lives on the event loop.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from itertools import accumulate

MOST_TASKS = 500
DAY_S = 86_400
HOURS = 24
GAIN = 12.0
"""How sharply the pace answers: spending that is 6 % ahead of what is left halves it."""
KEPT_BACK = 0.01
"""The share of a budget that is left for the cheapest calls, so that the day's last requests are not refused."""
LONGEST_LOG = math.log(1_000.0)
"""The pace stays between a thousandth and a thousand."""
SETTLES_IN_DAYS = 1.0
"""So much usual traffic later, the pace that was needed is what a day begins with."""
KEPT_OF_DAYS = 0.7
"""What a day before counts for beside the day after it, in the shape of the usual day."""
FEWEST_WATCHED = 8
"""Hours of a first day that must be watched for it to count; those before them are taken to be like their mean."""
EVEN = 1.0
"""Requests for each hour that every shape has, so that no hour is taken to have none."""


class _Task:
    __slots__ = ("base_log", "day", "last_share", "since", "today", "usual")

    def __init__(self, now_s: float) -> None:
        self.day = int(now_s // DAY_S)
        self.since = now_s % DAY_S * HOURS / DAY_S
        """The hour from which this day was watched."""
        self.today = [0.0] * HOURS
        self.usual = [0.0] * HOURS
        self.base_log = 0.0
        self.last_share: float | None = None

    def share_over(self, now_s: float) -> float:
        """Return the share of a usual day's traffic that comes before this time of the day."""
        upto = [0.0, *accumulate(EVEN + count for count in self.usual)]
        hour, within_s = divmod(now_s % DAY_S, DAY_S / HOURS)
        at = int(hour)
        return (upto[at] + (upto[at + 1] - upto[at]) * within_s / (DAY_S / HOURS)) / upto[-1]

    def turn(self, day: int) -> None:
        """Begin another day; one that was watched for long enough has a part in what is usual."""
        watched = HOURS - self.since
        if watched >= FEWEST_WATCHED:
            mean = sum(self.today) / watched
            for hour, count in enumerate(self.today):
                self.usual[hour] = KEPT_OF_DAYS * self.usual[hour] + (mean if hour < self.since else count)
        self.day, self.since, self.today, self.last_share = day, 0.0, [0.0] * HOURS, None


class Pacing:
    """The pace of every task; one for a process, owned by whoever builds its parts."""

    def __init__(self) -> None:
        self._tasks: OrderedDict[str, _Task] = OrderedDict()

    def pace(self, task: str, used: float, now_s: float) -> float:
        """Return how freely a task may spend, where it has used such a share of its day's budget. Changes nothing."""
        known = self._tasks.get(task) or _Task(now_s)
        left, to_come = 1.0 - used / (1 - KEPT_BACK), 1.0 - known.share_over(now_s)
        if left <= 0:
            return math.exp(-LONGEST_LOG)
        log = known.base_log + GAIN * (math.log(left) - math.log(max(to_come, 1 / DAY_S)))
        return math.exp(max(-LONGEST_LOG, min(LONGEST_LOG, log)))

    def seen(self, task: str, pace: float, now_s: float) -> None:
        """Count a request that was served at such a pace."""
        day = int(now_s // DAY_S)
        known = self._known(task, now_s)
        if day != known.day:
            known.turn(day)
        known.today[int(now_s % DAY_S * HOURS / DAY_S)] += 1
        share = known.share_over(now_s)
        if known.last_share is not None:
            moved = min(1.0, max(0.0, share - known.last_share) / SETTLES_IN_DAYS)
            known.base_log += moved * (math.log(pace) - known.base_log)
        known.last_share = share

    def _known(self, task: str, now_s: float) -> _Task:
        known = self._tasks.get(task)
        if known is None:
            if len(self._tasks) == MOST_TASKS:
                self._tasks.popitem(last=False)
            known = self._tasks[task] = _Task(now_s)
        self._tasks.move_to_end(task)
        return known
