"""`make bench`: throughput on one core, time added with one caller, memory and start-up.

The proxy has a core to itself; the upstream, the load generator and the stores share the other. Each round measures
the upstream called directly, through a proxy with its budgets in memory and its ledger in SQLite, and through one with
Redis and PostgreSQL; what is printed are medians over the rounds. Then come what looking at the difficulty adds to a
request, what a hold costs in either store, and what counting, deciding and replaying a request cost alone.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec
import uvloop
from rich.console import Console
from rich.table import Table

from bench.budgets import holds_table, running_redis
from bench.decide import measure_deciding
from bench.difficulty import added_table
from bench.load import Figures, load
from bench.metrics import measure_counting
from bench.proxy import KEY, instant_upstream, proxy, write_policies
from bench.replay import measure_replaying
from tests.ledger.server import PostgresServer

PROMPT = "Where is my parcel? I ordered it on Monday and the tracking page has not changed since then."
CALLERS = 64


def body(*, stream: bool, number: int = 0) -> bytes:
    """Return a small chat request, as a support desk sends it."""
    return msgspec.json.encode(
        {
            "model": "task:support",
            "messages": [
                {"role": "system", "content": "You are the support desk of a parcel service. Be brief."},
                {"role": "user", "content": f"{PROMPT} {number or ''}"},
            ],
            "max_tokens": 200,
            "stream": stream,
        }
    )


async def rounds(url: str, key: str | None, *, stream: bool, callers: int, requests: int) -> Figures:
    return await load(url + "/chat/completions", [body(stream=stream)], callers=callers, requests=requests, key=key)


@dataclass(frozen=True, slots=True)
class Way:
    """One way to the same answer: the upstream itself, or a proxy before it."""

    name: str
    url: str
    key: str | None = None


async def measure(ways: list[Way], scale: float, times: int) -> Table:
    """Measure every way in turn, round by round; the first is what the others are compared with."""
    table = Table(title=f"One core for the proxy, {times} rounds, medians")
    table.add_column("")
    for way in ways:
        table.add_column(way.name, justify="right")
    for what, stream in (("whole", False), ("streamed", True)):
        for callers, requests in ((1, int(2000 * scale)), (CALLERS, int(10000 * scale))):
            found: dict[str, list[Figures]] = {way.name: [] for way in ways}
            for way in ways:
                await rounds(way.url, way.key, stream=stream, callers=callers, requests=requests // 4)
            for _ in range(times):
                for way in ways:
                    figures = await rounds(way.url, way.key, stream=stream, callers=callers, requests=requests)
                    assert not figures.failed, f"{figures.failed} requests failed: {way.name}"
                    found[way.name].append(figures)
            if callers == 1:
                table.add_row(f"{what}, 1 caller, median", *_times(found, 0.5))
                table.add_row(f"{what}, 1 caller, p99", *_times(found, 0.99))
            else:
                table.add_row(f"{what}, {callers} callers", *_rates(found))
    return table


def _times(found: dict[str, list[Figures]], share: float) -> list[str]:
    first, *others = (statistics.median(each.quantile_ms(share) for each in figures) for figures in found.values())
    return [f"{first:.3f} ms", *(f"{other:.3f} ms (+{other - first:.3f})" for other in others)]


def _rates(found: dict[str, list[Figures]]) -> list[str]:
    """Write requests a second; for a proxy after the first one, also its share of the first proxy's."""
    rates = [statistics.median(each.per_s for each in figures) for figures in found.values()]
    return [
        f"{rate:,.0f} /s" + (f" ({rate / rates[1]:.0%} of it)" if place > 1 else "") for place, rate in enumerate(rates)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="how much longer than usual")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    console = Console(width=120)
    cores = sorted(os.sched_getaffinity(0))
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
        upstream_url = running.enter_context(instant_upstream(cores[0]))
        policies = folder / "policies"
        write_policies(policies, upstream_url)
        os.sched_setaffinity(0, {cores[0]})
        redis_url = running.enter_context(running_redis())
        postgres = running.enter_context(PostgresServer())
        alone = running.enter_context(proxy(policies, cores[-1], "--ledger-url", f"sqlite:///{folder}/ledger.db"))
        stores = ("--budgets-url", redis_url, "--ledger-url", postgres.new_database(), "--spool", str(folder / "spool"))
        shared = running.enter_context(proxy(policies, cores[-1], *stores))
        idle_mb = alone.rss_mb()
        ways = [
            Way("direct", upstream_url),
            Way("memory and SQLite", alone.url + "/v1", KEY),
            Way("Redis and PostgreSQL", shared.url + "/v1", KEY),
        ]
        console.print(uvloop.run(measure(ways, arguments.scale, arguments.rounds)))
        console.print(
            f"memory and SQLite: ready {alone.ready_s:.2f} s after `serve`, "
            f"{idle_mb:.0f} MB then, {alone.rss_mb():.0f} MB after the load"
        )
        console.print(uvloop.run(added_table(ways[1].url, KEY, arguments.scale, arguments.rounds)))
        console.print(holds_table(redis_url, arguments.rounds, int(2000 * arguments.scale)))
    console.print(measure_counting())
    console.print(measure_deciding())
    console.print(measure_replaying())


if __name__ == "__main__":
    main()
