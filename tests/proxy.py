"""A running proxy and running simulated providers on loopback sockets, for tests to call and to look into.

Each lives on an event loop in a thread of its own, so that a test may block and shares no loop with what it measures.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
import uvicorn
import uvloop
from prometheus_client.parser import text_string_to_metric_families

from router.providers.simulated import SimulatedProvider, Simulation
from router.settings import Settings
from router.values import NUSD_PER_USD
from router.web.app import App
from router.web.http import BoundedHttp

WITHIN_S = 10.0
"""Whatever a test waits for comes sooner than this, or the test fails."""

T = TypeVar("T")
Row = dict[str, Any]


class LoopThread:
    """An event loop in a thread, until the context is left; uvloop, as in production."""

    def __init__(self) -> None:
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WITHIN_S)
        self._loop.close()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(WITHIN_S)

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)


@contextmanager
def running_provider(simulation: Simulation | None = None) -> Iterator[SimulatedProvider]:
    """Serve the simulated providers; their faults may be set and their calls read from this thread."""
    with LoopThread() as loop:
        provider = SimulatedProvider(simulation)
        loop.run(provider.__aenter__())
        try:
            yield provider
        finally:
            loop.run(provider.__aexit__(None, None, None))


def eventually(found: Callable[[], T | None], what: str, within_s: float = WITHIN_S) -> T:
    """Return the first result that is true; fail with `what` where none comes.

    Who has waited long looks less often: a look is often a request, and takes time from what is waited for.
    """
    began = time.perf_counter()
    while True:
        if result := found():
            return result
        waited_s = time.perf_counter() - began
        if waited_s > within_s:
            raise AssertionError(f"This did not come within {within_s} s: {what}")
        time.sleep(min(max(waited_s / 10, 0.005), 0.05))


@dataclass(slots=True)
class Calls:
    """A proxy as its callers and its operators see it: by HTTP and by the rows of its ledger."""

    url: str
    ledger: Path
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.http = httpx.Client(base_url=self.url, timeout=WITHIN_S, trust_env=False, verify=False)

    @property
    def base_url(self) -> str:
        """Where OpenAI's SDKs start."""
        return f"{self.url}/v1"

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def ask(
        self, text: str = "Where is my parcel?", *, headers: Mapping[str, str] | None = None, **members: Any
    ) -> httpx.Response:
        """Send a chat request and return the answer once it is whole."""
        body = {"model": "auto", "messages": [{"role": "user", "content": text}], **members}
        return self.http.post("/v1/chat/completions", json=body, headers=headers)

    def send(self, raw: bytes, *, method: str = "POST", headers: Mapping[str, str] | None = None) -> httpx.Response:
        """Send these bytes as a chat request."""
        return self.http.request(method, "/v1/chat/completions", content=raw, headers=headers)

    def rows(self) -> list[Row]:
        """Return the ledger, oldest first, once all that was taken on is committed."""
        eventually(lambda: self.metric("farthing_ledger_queue") == 0, "an empty ledger queue")
        return ledger_rows(self.ledger)

    def row(self, request_id: str) -> Row:
        """Return the settled row of one request."""

        def settled() -> Row | None:
            return next((row for row in ledger_rows(self.ledger, request_id) if row["outcome"] != "held"), None)

        return eventually(settled, f"a settled row of {request_id}")

    def row_of(self, response: httpx.Response) -> Row:
        return self.row(response.headers["x-farthing-request-id"])

    def metric(self, name: str, /, **labels: str) -> float:
        """Return the sum of a metric's samples that bear these labels; 0 where there is none."""
        text = self.http.get("/metrics").text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def metric_nusd(self, name: str, /, **labels: str) -> int:
        return round(self.metric(name, **labels) * NUSD_PER_USD)

    def close(self) -> None:
        self.http.close()


def ledger_rows(ledger: Path, request_id: str | None = None) -> list[Row]:
    """Read the table `requests` as any reader would, in the order of the requests' ids."""
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True, timeout=WITHIN_S)) as connection:
        connection.row_factory = sqlite3.Row
        query, values = "SELECT * FROM requests", []
        if request_id is not None:
            query, values = f"{query} WHERE id = ?", [request_id]
        rows = [dict(row) for row in connection.execute(f"{query} ORDER BY id", values)]
    for row in rows:
        row["attempts"], row["facts"] = json.loads(row["attempts"]), json.loads(row["facts"])
    return rows


@dataclass(slots=True)
class Proxy(Calls):
    """A proxy in this process."""

    app: App
    policies: Path

    def rewrite(self, **files: str) -> None:
        """Edit policy files (named without .yaml) and wait until the proxy has read them, valid or not."""
        before = self.metric("farthing_policy_reloads_total")
        write_policies(self.policies, files)
        eventually(lambda: self.metric("farthing_policy_reloads_total") > before, "a policy reload")


def write_policies(folder: Path, files: Mapping[str, str]) -> None:
    """Write policy files; the names are without .yaml."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text("version: 1\n" + text)


class PromptServer(uvicorn.Server):
    """uvicorn's, which looks each 0.1 s whether it is to stop, and then waits as long: here it hears of it at once."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._told = asyncio.Event()

    async def stop(self) -> None:
        self._told.set()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self._told.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # The test has just closed its own connections, and the loop hears of that in its next rounds.
        for _ in range(3):
            await asyncio.sleep(0)
        # Where no others are left there is nobody to wait for.
        if self.server_state.connections or self.server_state.tasks:
            await super().shutdown(sockets)
        else:
            for server in self.servers:
                server.close()
            await self.lifespan.shutdown()


@contextmanager
def running_proxy(
    folder: Path,
    files: Mapping[str, str],
    *,
    settings: Mapping[str, Any] | None = None,
    simulated_url: str | None = None,
    clock: Callable[[], float] = time.time,
    http: type[BoundedHttp] = BoundedHttp,
) -> Iterator[Proxy]:
    """Serve these policies on a free port as `farthing serve` does; policies and ledger are in `folder`.

    Raises:
        RuntimeError: the start-up failed; why is on standard error.
    """
    policies, ledger = folder / "policies", folder / "ledger.db"
    write_policies(policies, files)
    given = Settings(policies=policies, ledger_url=f"sqlite:///{ledger}", **(settings or {}))
    app = App(given, simulated_url=simulated_url, clock=clock)
    ready = threading.Event()
    app.on_ready = ready.set
    config = uvicorn.Config(
        app,
        http=http,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=1,
    )
    server = PromptServer(config)
    with LoopThread() as loop, socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
        serving = loop.start(_serve(server, listening))
        while not ready.wait(0.05):
            if serving.done():
                serving.result()
                raise RuntimeError("The proxy did not start.")
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        proxy = Proxy(url, ledger, app, policies)
        try:
            yield proxy
        finally:
            proxy.close()
            loop.run(server.stop())
            serving.result(WITHIN_S)


async def _serve(server: uvicorn.Server, listening: socket.socket) -> None:
    try:
        await server.serve(sockets=[listening])
    except SystemExit as error:
        # It would end the loop's thread, which has more to do.
        raise RuntimeError("The proxy did not start.") from error


class ServeProcess:
    """`farthing serve` as a user starts it, in a process of its own that may be killed."""

    def __init__(
        self,
        folder: Path,
        files: Mapping[str, str],
        *options: str,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        policies, self.ledger = folder / "policies", folder / "ledger.db"
        self._calls: Calls | None = None
        write_policies(policies, files)
        command = [sys.executable, "-m", "router", "serve", "--port", "0", "--policies", str(policies)]
        command += ["--ledger-url", f"sqlite:///{self.ledger}", *options]
        self.child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **(environ or {})}
        )

    def ready(self) -> Calls:
        """Wait until it serves, and return how to call it.

        Raises:
            RuntimeError: it ended instead; carries what it wrote to standard error.
        """
        assert self.child.stdout is not None
        assert self.child.stderr is not None
        too_late = threading.Timer(3 * WITHIN_S, self.child.kill)
        too_late.start()
        line = self.child.stdout.readline()
        too_late.cancel()
        found = re.search(r"http://[\w.]+:\d+", line)
        if found is None:
            raise RuntimeError(self.child.stderr.read())
        self._calls = Calls(found[0], self.ledger)
        return self._calls

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self.child.send_signal(signal.SIGKILL)
        self.child.wait(WITHIN_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._calls is not None:
            self._calls.close()
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(WITHIN_S)
            except subprocess.TimeoutExpired:
                self.kill()
        for pipe in (self.child.stdout, self.child.stderr):
            if pipe is not None:
                pipe.close()


def events(text: str) -> list[dict[str, Any]]:
    """Return the JSON events of a stream, in order, without [DONE] and comments."""
    lines = (line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: "))
    return [json.loads(line) for line in lines if line != "[DONE]"]


def said(text: str, index: int = 0) -> str:
    """Return what a stream says in one of its choices."""
    choices = (choice for event in events(text) for choice in event.get("choices", ()))
    return "".join(choice["delta"].get("content") or "" for choice in choices if choice["index"] == index)
