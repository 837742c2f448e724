"""`make bench`: throughput on one core, time added with one caller, memory and start-up.

The proxy has a core to itself; the upstream and the load generator share the other. Each round measures the
upstream called directly and through the proxy, one after the other; what is printed are medians over the rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from pathlib import Path

import msgspec
import uvloop
from rich.console import Console
from rich.table import Table

from bench.load import Figures, load
from bench.proxy import KEY, instant_upstream, proxy, write_policies

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
    return await load(url + "/chat/completions", body(stream=stream), callers=callers, requests=requests, key=key)


async def measure(upstream_url: str, proxy_url: str, scale: float, times: int) -> Table:
    table = Table(title=f"One core for the proxy, {times} rounds, medians")
    for name in ("", "direct", "through Farthing", "added"):
        table.add_column(name, justify="left" if not name else "right")
    for what, stream in (("whole", False), ("streamed", True)):
        for callers, requests in ((1, int(2000 * scale)), (CALLERS, int(12000 * scale))):
            direct: list[Figures] = []
            through: list[Figures] = []
            await rounds(proxy_url + "/v1", KEY, stream=stream, callers=callers, requests=requests // 4)
            for _ in range(times):
                direct.append(await rounds(upstream_url, None, stream=stream, callers=callers, requests=requests))
                through.append(await rounds(proxy_url + "/v1", KEY, stream=stream, callers=callers, requests=requests))
            failed = sum(figures.failed for figures in through)
            assert not failed, f"{failed} requests failed through the proxy"
            if callers == 1:
                for label, share in (("median", 0.5), ("p99", 0.99)):
                    a = statistics.median(figures.quantile_ms(share) for figures in direct)
                    b = statistics.median(figures.quantile_ms(share) for figures in through)
                    table.add_row(f"{what}, 1 caller, {label}", f"{a:.3f} ms", f"{b:.3f} ms", f"{b - a:.3f} ms")
            else:
                a = statistics.median(figures.per_s for figures in direct)
                b = statistics.median(figures.per_s for figures in through)
                table.add_row(f"{what}, {callers} callers", f"{a:,.0f} /s", f"{b:,.0f} /s", f"{b / a:.0%} of direct")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="how much longer than usual")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    console = Console(width=100)
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as name, instant_upstream(cores[0]) as upstream_url:
        folder = Path(name)
        write_policies(folder / "policies", upstream_url)
        with proxy(folder / "policies", folder / "ledger.db", cores[-1]) as running:
            os.sched_setaffinity(0, {cores[0]})
            idle_mb = running.rss_mb()
            table = uvloop.run(measure(upstream_url, running.url, arguments.scale, arguments.rounds))
            console.print(table)
            console.print(
                f"ready {running.ready_s:.2f} s after `serve` · {idle_mb:.0f} MB then, "
                f"{running.rss_mb():.0f} MB after the load"
            )


if __name__ == "__main__":
    main()
