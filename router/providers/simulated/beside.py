"""The simulated providers in a process of their own, so that they share no event loop with the proxy."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Self

from router.providers.child import LOOPBACK, ChildProcess
from router.providers.simulated.address import Address
from router.providers.simulated.question import Simulation


class SimulatedProcess(Address):
    """Simulated providers in a child process: `with SimulatedProcess() as process: process.base_url`.

    The URL is good at once: the socket listens before the child is started, and the first callers wait in
    its queue for the second that the child needs. Only pace, port, key and the mean length go along: for an
    `answerer`, `models` or figures by model use a `SimulatedProvider`. The port is known once it was entered.
    """

    def __init__(self, simulation: Simulation | None = None, *, instant: bool = False) -> None:
        self._simulation = simulation or Simulation()
        self._instant = instant
        self._child: ChildProcess | None = None
        self.port = 0

    def __enter__(self) -> Self:
        # Were it left open here, callers of a dead child would wait instead of being refused.
        with socket.create_server((LOOPBACK, self._simulation.port), backlog=1_024) as listening:
            self.port = listening.getsockname()[1]
            fd = listening.fileno()
            self._child = ChildProcess("router.providers.simulated", self._options(fd), pass_fds=(fd,))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child is not None:
            self._child.stop()

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.running

    def _options(self, fd: int) -> list[str]:
        simulation, pace = self._simulation, self._simulation.pace
        return [
            f"--fd={fd}",
            f"--first-token-s={pace.first_token_s}",
            f"--tokens-per-s={pace.tokens_per_s or 0}",
            f"--mean-output-tokens={simulation.mean_output_tokens}",
            *([f"--api-key={simulation.api_key}"] if simulation.api_key is not None else []),
            *(["--instant"] if self._instant else []),
            "--until-stdin-closes",
        ]
