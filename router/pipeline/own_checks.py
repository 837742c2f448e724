"""The threads that operators' own checks (`python:`) run in.

A thread can't be stopped, so one whose check hangs is lost until the check comes to an end of itself. Each check has a
few threads of its own: one that hangs uses up these, and neither another check's nor those that the rest works with.
They are daemons, so that a check that hangs does not keep the proxy from ending.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from router.policy.verify import OwnCheck

log = logging.getLogger("farthing.checks")

WITHIN_S = 5.0
"""How long a check may take, waiting for a thread included; a slower one counts as failed."""
MOST_THREADS = 32
"""Of one check, in one worker: what a check that asks another service for 50 ms needs for 640 answers a second."""

Hung = Literal["late", "skipped"]


class _Raised(Exception):
    """A check did not answer; where it raised, the message names the kind alone, for more may hold text."""


@dataclass(slots=True)
class _Threads:
    """Of one check."""

    check: OwnCheck
    free: asyncio.Semaphore
    began: dict[object, float] = field(default_factory=dict)
    """When the call in each thread that is not free began, in the order in which they did."""
    told: bool = False
    """Whether the log says that all of them hang."""


@dataclass(frozen=True, slots=True)
class OwnChecks:
    """Asks operators' checks, each within its time and its threads."""

    count: Callable[[Hung], None] = lambda hung: None
    """Told of each check that took too long, and of each that was not made because all of its threads hang."""
    within_s: float = WITHIN_S
    most_threads: int = MOST_THREADS
    _threads: dict[int, _Threads] = field(default_factory=dict)
    """By the id of the check, for not every callable has a hash; each is kept, so that no other gets its id."""

    async def passes(self, check: OwnCheck, request: dict[str, Any], answer: dict[str, Any]) -> bool:
        """Ask a check; what raises, takes too long or is not asked, for its threads hang, has not passed."""
        threads = self._threads.setdefault(id(check), _Threads(check, asyncio.Semaphore(self.most_threads)))
        if self._hang(threads):
            self.count("skipped")
            return False
        try:
            async with asyncio.timeout(self.within_s):
                await threads.free.acquire()
                return await _asked(threads, request, answer)
        except TimeoutError:
            self.count("late")
            log.warning("The check %r failed: it took longer than %g seconds", _name(check), self.within_s)
        except _Raised as error:
            log.warning("The check %r failed: %s", _name(check), error)
        return False

    def _hang(self, threads: _Threads) -> bool:
        """Say whether every thread of a check is held by a call that began too long ago; log it once."""
        last = next(reversed(threads.began.values()), 0.0)
        if len(threads.began) < self.most_threads or asyncio.get_running_loop().time() - last < self.within_s:
            return False
        if not threads.told:
            threads.told = True
            log.error(
                "The check %r fails at once until a call of it ends: %d, the most there may be, took over %g seconds",
                *(_name(threads.check), len(threads.began), self.within_s),
            )
        return True


async def _asked(threads: _Threads, request: dict[str, Any], answer: dict[str, Any]) -> bool:
    """Ask a check in the thread that was acquired for it, which is free again when the check ends, not before.

    Raises:
        _Raised: it did not answer.
    """
    loop = asyncio.get_running_loop()
    said: asyncio.Future[bool] = loop.create_future()
    call = object()

    def ended(passed: bool | None, raised: str) -> None:
        del threads.began[call]
        threads.told = False
        threads.free.release()
        if said.done():
            return  # nobody waits any more
        if passed is None:
            said.set_exception(_Raised(raised))
        else:
            said.set_result(passed)

    def asking() -> None:
        passed, raised = None, ""
        try:
            passed = _says_yes(threads.check, request, answer)
        except _Raised as error:
            raised = str(error)
        except BaseException as error:  # whatever it is, even an exit, it ends no more than the check
            raised = type(error).__name__
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(ended, passed, raised)

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(asking,), name=f"check {_name(threads.check)}", daemon=True)
    threads.began[call] = loop.time()
    try:
        thread.start()
    except RuntimeError as error:  # the system has none left
        ended(None, str(error))
    return await said


def _name(check: OwnCheck) -> str:
    return getattr(check, "__name__", type(check).__name__)


def _says_yes(check: OwnCheck, request: dict[str, Any], answer: dict[str, Any]) -> bool:
    """Ask a check; one that is `async` gets a loop of its own, so that it can't keep ours.

    Raises:
        _Raised: what it says is true whatever it means, so that no answer could fail.
    """

    async def awaited(said: Awaitable[object]) -> object:
        return await said

    said = check(request, answer)
    if inspect.isawaitable(said):
        said = asyncio.run(awaited(said))
    if isinstance(said, Iterator | AsyncIterator) or callable(said):
        raised = f"what it returned, of type {type(said).__name__}, is neither true nor false"
        raise _Raised(raised)
    return bool(said)
