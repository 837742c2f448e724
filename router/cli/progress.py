"""How commands say on stderr how far long work is: a bar on a terminal, else a line from time to time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")
EVERY_S = 5.0
"""Between two lines; work that is done sooner says nothing."""


class Work:
    """Tells of the steps of one command, one after the other."""

    def __init__(self, bar: Progress, clock: Callable[[], float] = time.perf_counter) -> None:
        self._bar = bar
        self._clock = clock
        self._told_s = clock()

    def step(self, doing: str) -> None:
        """Say what is done now, where its share can't be told."""
        for task in self._bar.task_ids:
            self._bar.remove_task(task)
        self._bar.add_task(doing, total=None)
        self._tell(f"{doing}…")

    def over(self, doing: str, items: Iterable[T], total: int) -> Iterator[T]:
        """Yield the items, of which there are `total`, and say which share of them is done."""
        self.step(doing)
        task = self._bar.task_ids[-1]
        self._bar.update(task, total=total)
        for done, item in enumerate(items):
            self._tell(f"{doing}: {100 * done // total} % of {total:,}")
            yield item
            self._bar.advance(task)

    def _tell(self, said: str) -> None:
        if self._bar.disable and self._clock() >= self._told_s + EVERY_S:
            self._told_s = self._clock()
            print(f"farthing: {said}", file=sys.stderr)


@contextmanager
def shown_work() -> Iterator[Work]:
    """Show what is told while the block runs."""
    from router.cli.table import progress_bar

    with progress_bar() as bar:
        yield Work(bar)
