"""A Python module that runs beside the proxy, in a process of its own that ends when the proxy does.

The child watches its standard input, a pipe that only the parent holds open: however the parent ends, the pipe closes.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence

STOP_S = 5.0
LOOPBACK = "127.0.0.1"
"""Where a child listens: nobody but this machine has any business with it."""


class ChildProcess:
    """`python -m MODULE OPTIONS…`, started when this is made. What it writes to standard error goes where ours does.

    `stdout` is as in `subprocess.Popen`; with `subprocess.PIPE`, `lines` must be read to its end.
    """

    def __init__(
        self, module: str, options: Sequence[str], *, pass_fds: Sequence[int] = (), stdout: int = subprocess.DEVNULL
    ) -> None:
        self._process = subprocess.Popen(  # noqa: S603  our own interpreter, and options of our own making
            [sys.executable, "-m", module, *options], stdin=subprocess.PIPE, stdout=stdout, pass_fds=pass_fds
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def lines(self) -> Iterator[str]:
        """Yield what the child writes, line by line without their ends, until it ends."""
        if self._process.stdout is not None:
            with self._process.stdout as written:
                yield from (line.decode(errors="replace").rstrip() for line in written)

    def stop(self, within_s: float = STOP_S) -> None:
        """End the child, by force where it has not ended `within_s` after its pipe closed. Safe to call again."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
