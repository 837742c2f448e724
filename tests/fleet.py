"""Several proxies on one Redis and one PostgreSQL, and callers that go on whatever happens to any of them.

Every answer costs what was held for it, so that an amount that is missing or doubled shows to the nano-dollar.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import redis
from ledger.server import PostgresServer, asyncio_run
from proxy import Calls, Row, ServeProcess, eventually
from redis_server import RedisServer

from router.budgets.contract import HOLD_TTL_S
from router.budgets.open import open_budgets
from router.providers.simulated import SimulatedProvider
from router.values import Scope

TOKENS = 24
EACH_NUSD = TOKENS * 600
PATIENCE_S = 30.0
LEFT = "left"
"""How a call ended whose connection broke."""

POLICIES = {
    "models": """
models:
  exact:
    target: openai/gpt-4o-mini
    base_url: {url}
    price: {{input_usd_per_mtok: 0, output_usd_per_mtok: 0.6}}
""",
    "default": "task: default\nbudget: {per_day_usd: 1000, per_month_usd: 9000}\nroute: [{use: exact}]\n",
}
DAY = Scope("task", "default", "day", 10**12)
MONTH = Scope("task", "default", "month", 9 * 10**12)


@dataclass(slots=True)
class Fleet:
    """Replicas, each a process of its own; `started` gives one more."""

    folder: Path
    policies: dict[str, str]
    options: tuple[str, ...]
    redis: RedisServer
    postgres: PostgresServer
    ledger_url: str
    stack: ExitStack
    live: list[ServeProcess] = field(default_factory=list)
    calls: dict[ServeProcess, Calls] = field(default_factory=dict)

    def started(self) -> ServeProcess:
        """Start one more, which takes no calls before `join`."""
        stores = ("--budgets-url", self.redis.url, "--ledger-url", self.ledger_url)
        spool = ("--spool", str(self.folder / "spool"))
        process = ServeProcess(self.folder, self.policies, *stores, *spool, *self.options)
        return self.stack.enter_context(process)

    def join(self, process: ServeProcess) -> None:
        """Let callers come to it, once it serves."""
        self.calls[process] = process.ready()
        self.live.append(process)

    def kill(self, process: ServeProcess) -> None:
        """End it as `kill -9` does, under the calls that it has."""
        process.kill()
        self.live.remove(process)
        del self.calls[process]

    def metric(self, name: str, /, **labels: str) -> float:
        """Return the sum over the replicas that live."""
        return sum(calls.metric(name, **labels) for calls in self.calls.values())

    def heard(self) -> None:
        """Wait until each replica has answered, and so knows what is left of the budgets."""
        for calls in self.calls.values():
            eventually(partial(calls.metric, "farthing_requests_total", outcome="answered"), "an answer", PATIENCE_S)

    def settled(self) -> None:
        """Wait until nothing of what the living replicas were told is still on its way to either store."""
        names = ("farthing_unsettled_holds", "farthing_ledger_queue")
        eventually(lambda: not any(map(self.metric, names)), "every settlement and every row", PATIENCE_S)

    def stop(self) -> None:
        """End all as an operator does."""
        for process in self.live:
            process.child.terminate()
        for process in self.live:
            assert process.child.wait(PATIENCE_S) in (0, -15)
        self.live.clear()

    def rows(self) -> dict[str, Row]:
        """Return the ledger by id."""

        async def read() -> list[Any]:
            connection = await asyncpg.connect(self.ledger_url)
            try:
                return list(await connection.fetch("SELECT * FROM requests"))
            finally:
                await connection.close()

        found = asyncio_run(read())
        assert len({row["id"] for row in found}) == len(found)
        return {row["id"]: dict(row) for row in found}

    def budget(self, window: str) -> tuple[int, int]:
        """Return what is spent and held of the task's budget in Redis, in all its hours, days or months together."""
        with redis.Redis(port=self.redis.port, decode_responses=True) as client:
            tallies = [client.hgetall(key) for key in client.keys(f"{{farthing}}:tally:task:default:{window}:*")]
        return sum(int(t.get("spent", 0)) for t in tallies), sum(int(t.get("held", 0)) for t in tallies)  # type: ignore[union-attr]

    def expire_holds(self, now_s: float) -> None:
        """Look at the budgets as a replica does whose clock is past the expiry of every hold."""

        async def look() -> None:
            store = open_budgets(self.redis.url, lambda: now_s + HOLD_TTL_S + 1, within_s=PATIENCE_S)
            work = asyncio.create_task(store.work())
            for _ in range(1 + self.open_holds() // 32):
                await store.levels((DAY, MONTH))
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            await store.aclose()

        asyncio_run(look())

    def open_holds(self) -> int:
        """Return how many holds Redis has that are neither settled nor expired."""
        with redis.Redis(port=self.redis.port, decode_responses=True) as client:
            return sum(record.startswith("H") for record in client.hvals("{farthing}:holds"))  # type: ignore[union-attr]


@contextmanager
def running_fleet(
    folder: Path,
    provider: SimulatedProvider,
    redis_server: RedisServer,
    postgres: PostgresServer,
    replicas: int,
    *options: str,
) -> Iterator[Fleet]:
    """Serve with so many replicas; all that were started end with the context."""
    policies = {
        name: text.format(url=provider.base_url) if name == "models" else text for name, text in POLICIES.items()
    }
    with ExitStack() as stack:
        database = postgres.new_database()
        fleet = Fleet(folder, policies, options, redis_server, postgres, database, stack)
        for process in [fleet.started() for _ in range(replicas)]:
            fleet.join(process)
        yield fleet


class Load:
    """Callers that ask as fast as they are answered, each time a replica that lives; every other one for a stream."""

    def __init__(self, fleet: Fleet, callers: int = 8) -> None:
        self._fleet = fleet
        self._ended = threading.Event()
        self.whole: list[str] = []
        self.streamed: list[str] = []
        self.endings: Counter[int | str] = Counter()
        """By status, or `LEFT`; a stream that broke off is `LEFT` too."""
        self.refusals: Counter[str] = Counter()
        """By code."""
        self.slowest_s = 0.0
        self._threads = [threading.Thread(target=partial(self._ask, number)) for number in range(callers)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive(), "a caller that was never answered"

    @property
    def answered(self) -> set[str]:
        """The ids of the requests whose answers a caller has whole."""
        return {*self.whole, *self.streamed}

    def more(self, number: int) -> None:
        """Wait until so many more are answered."""
        goal = len(self.whole) + len(self.streamed) + number
        eventually(lambda: len(self.whole) + len(self.streamed) >= goal, f"{number} more answers", PATIENCE_S)

    def more_refused(self, number: int) -> None:
        """Wait until so many more are refused for a store that is away."""
        goal = self.endings[503] + number
        eventually(lambda: self.endings[503] >= goal, f"{number} more refusals", PATIENCE_S)

    def _ask(self, number: int) -> None:
        stream = number % 2 == 0
        body = {"model": "exact", "max_tokens": TOKENS, "stream": stream}
        body["messages"] = [{"role": "user", "content": "Tell me a long story."}]
        with httpx.Client(timeout=PATIENCE_S, trust_env=False, verify=False) as client:
            while not self._ended.is_set():
                url = random.choice([calls.url for calls in list(self._fleet.calls.values())])
                try:
                    answer = client.post(f"{url}/v1/chat/completions", json=body)
                except httpx.TransportError:
                    self.endings[LEFT] += 1
                    continue
                self._note(answer, stream=stream)

    def _note(self, answer: httpx.Response, *, stream: bool) -> None:
        self.slowest_s = max(self.slowest_s, answer.elapsed.total_seconds())
        if answer.status_code != 200:
            self.endings[answer.status_code] += 1
            self.refusals[answer.json()["error"]["code"]] += 1
        elif not stream:
            self.whole.append(answer.headers["x-farthing-request-id"])
        elif answer.text.endswith("data: [DONE]\n\n"):
            self.streamed.append(answer.headers["x-farthing-request-id"])
        else:
            self.endings[LEFT] += 1
