"""The local model in a process of its own, as the proxy sees it: a URL that is good at once, and word of how it is.

The proxy does not wait for it. Until the model is ready, and after it has ended, connections to its URL are refused,
so that requests go to the next model of their rule.
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from router.providers.child import LOOPBACK, ChildProcess
from router.providers.local.weights import require_packages

READY = "ready"
MOST_THREADS = 4
STOP_S = 1.0
"""Loading holds the child's interpreter for 2 s; nothing is lost by not waiting for that."""


class LocalModel:
    """`with LocalModel(tell) as model: model.start()`. `tell` is given each piece of news, from a thread of its own.

    Raises when made:
        NotInstalled: the extra farthing[local] is not installed.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        require_packages()
        self._tell = tell
        self._ready = threading.Event()
        self._stopping = False
        # Bound and never listened on, it keeps the port ours: llama.cpp binds it as well, by SO_REUSEPORT.
        self._reserved = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._reserved.bind((LOOPBACK, 0))
        self._port: int = self._reserved.getsockname()[1]
        self._child: ChildProcess | None = None
        self._listener = threading.Thread(target=self._listen, name="local-model", daemon=True)

    @property
    def base_url(self) -> str:
        return f"http://{LOOPBACK}:{self._port}/v1"

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    def start(self) -> None:
        """Begin to load the model, which is ready some seconds later; call this once."""
        self._tell(f"A small real model on this machine is being loaded, for {self.base_url}.")
        options = [f"--port={self._port}", f"--threads={_threads(os.cpu_count() or 1)}"]
        self._child = ChildProcess("router.providers.local", options, stdout=subprocess.PIPE)
        self._listener.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping = True
        if self._child is not None:
            self._child.stop(STOP_S)
            self._listener.join()
        self._reserved.close()

    def wait(self, timeout_s: float) -> bool:
        """Wait until the model is ready; False where it is not by then."""
        return self._ready.wait(timeout_s)

    def _listen(self) -> None:
        assert self._child is not None
        for line in self._child.lines():
            word, _, took_s = line.partition(" ")
            if word == READY:
                self._ready.set()
                self._tell(f"The local model is ready: it took {took_s} s.")
        if not self._stopping:
            self._tell("The local model has ended; its requests go to the next model of their rule.")


def _threads(cores: int) -> int:
    """Return half the cores, for each token waits for the slowest thread.

    On two cores that others use as well, two threads gave between 74 and 6 tokens a second, and one steadily 50 to 56
    (2026-11).
    """
    return max(1, min(MOST_THREADS, cores // 2))
