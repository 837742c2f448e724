"""Several workers that share one port: started, watched, started again when they die, and stopped, by this process.

They accept from one listening socket, which this process holds and never accepts from. So a worker's death loses no
connection that it had not accepted, and the port stays ours throughout; with a socket for each (SO_REUSEPORT) what
waits in a dead worker's queue is lost, and only Linux spreads the load over them. The price: under light load the
kernel wakes the same worker again and again, until it is busy.

The first worker starts alone. It finds what is wrong with policies or stores, and says so once.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client.multiprocess import mark_process_dead

from router.settings import Settings
from router.web.worker import READY, SHUT, Start

START_WITHIN_S = 60.0
"""A worker that is not ready by then is ended, and counts as one that failed to start."""
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0
STEADY_S = 30.0
"""A worker that lived so long has the pauses of its forerunners forgiven."""
STOP_WITHIN_S = 45.0
"""More than a worker's own bound for requests under way and their settlement; past it, workers are killed."""

log = logging.getLogger("farthing.workers")


@dataclass(frozen=True, slots=True)
class Worker:
    """A process and our end of its socket."""

    process: asyncio.subprocess.Process
    control: socket.socket
    began: float = field(default_factory=time.monotonic)
    said: bytearray = field(default_factory=bytearray)
    """What has been read of what it told us."""

    async def ready(self) -> bool:
        """Wait until it serves; False where it ended, or had to be ended, instead."""
        try:
            async with asyncio.timeout(START_WITHIN_S):
                while READY not in self.said:
                    if not (told := await asyncio.get_running_loop().sock_recv(self.control, 8)):
                        return False
                    self.said.extend(told)
                return True
        except (TimeoutError, ConnectionError):
            self.signal(signal.SIGKILL)
            return False

    def had_accounts(self) -> bool:
        """Say whether policies that have accounts were in force in it; only once it is ready or has ended."""
        with suppress(BlockingIOError, ConnectionError):
            self.said.extend(self.control.recv(8))
        return SHUT in self.said

    async def ended(self) -> str:
        """Wait until it has ended, and say how."""
        status = await self.process.wait()
        return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"

    def signal(self, number: int) -> None:
        # It may have ended without our having heard of it yet.
        with suppress(ProcessLookupError):
            self.process.send_signal(number)


class Workers:
    """Supervises `settings.workers` processes; `told` is called once, when each has tried to start."""

    def __init__(
        self,
        settings: Settings,
        listening: socket.socket,
        metrics_folder: Path,
        simulated_url: str | None,
        told: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._listening = listening
        self._metrics_folder = metrics_folder
        self._simulated_url = simulated_url
        self._told = told
        self._first_serves = asyncio.Event()
        self._stopping = asyncio.Event()
        self._alive: dict[int, Worker] = {}
        self._serving: set[int] = set()
        self._failing: set[int] = set()
        """Slots whose last worker ended before it served."""
        self._untried = set(range(settings.workers))
        self._failed = False
        self._stays_shut = False
        """Whether a worker that ended had accounts: without them one that comes later would let anyone call."""

    async def run(self) -> bool:
        """Supervise until SIGTERM, SIGINT or SIGHUP; False where no worker can be started, which has said why."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            # `nohup` has the last one ignored.
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self._stop, number)
        async with asyncio.TaskGroup() as tasks:
            for slot in range(self._settings.workers):
                tasks.create_task(self._keep(slot))
        return not self._failed

    async def _keep(self, slot: int) -> None:
        """Keep one worker running in this slot until told to stop."""
        if slot:
            await self._first_serves.wait()
        pause_s = FIRST_PAUSE_S
        while not self._stopping.is_set():
            worker = await self._start(slot)
            self._note_start(slot, ready=await worker.ready())
            how = await worker.ended()
            self._stays_shut = self._stays_shut or worker.had_accounts()
            worker.control.close()
            del self._alive[slot]
            self._serving.discard(slot)
            mark_process_dead(slot, str(self._metrics_folder))  # type: ignore[no-untyped-call]
            if self._stopping.is_set() or self._gives_up():
                return
            if time.monotonic() - worker.began > STEADY_S:
                pause_s = FIRST_PAUSE_S
            log.error("Worker %d (process %d) %s; it is started again in %g s.", slot, worker.process.pid, how, pause_s)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _start(self, slot: int) -> Worker:
        ours, theirs = socket.socketpair()
        listening_fd = self._listening.fileno()
        with theirs:
            fds = theirs.fileno(), listening_fd
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "router.web.worker", str(fds[0]), pass_fds=fds
            )
        start = Start(
            settings=self._settings,
            slot=slot,
            listening_fd=listening_fd,
            metrics_folder=str(self._metrics_folder),
            simulated_url=self._simulated_url,
            stays_shut=self._stays_shut or any(self._alive[each].had_accounts() for each in self._serving),
            log_level=logging.getLevelName(logging.getLogger("farthing").getEffectiveLevel()),
        )
        with suppress(ConnectionError):
            ours.sendall(start.line())
        ours.setblocking(False)
        worker = self._alive[slot] = Worker(process, ours)
        if self._stopping.is_set():
            worker.signal(signal.SIGTERM)
        return worker

    def _note_start(self, slot: int, *, ready: bool) -> None:
        (self._serving if ready else self._failing).add(slot)
        if ready:
            self._failing.discard(slot)
            self._first_serves.set()
        if slot in self._untried:
            self._untried.discard(slot)
            if not self._untried and not self._stopping.is_set():
                self._told()

    def _gives_up(self) -> bool:
        """Give up where the first worker never served, or none serves and each failed to start: callers would hang."""
        alone = not self._first_serves.is_set()
        if alone or (not self._serving and len(self._failing) == self._settings.workers):
            self._failed = True
            self._stop(signal.SIGTERM)
        return self._failed

    def _stop(self, number: int) -> None:
        """Have the workers end what is under way and stop; told again, pass the signal on: a second ^C hurries them."""
        for worker in self._alive.values():
            worker.signal(number if self._stopping.is_set() else signal.SIGTERM)
        if not self._stopping.is_set():
            self._stopping.set()
            self._first_serves.set()
            # Else who calls now would wait in its queue for nobody.
            self._listening.close()
            asyncio.get_running_loop().call_later(STOP_WITHIN_S, self._kill)

    def _kill(self) -> None:
        for worker in self._alive.values():
            worker.signal(signal.SIGKILL)
