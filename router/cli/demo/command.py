"""`farthing demo`: sends a varied day of traffic through a running proxy and says where it went and what it cost."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from router.cli.folder import JsonOption
from router.cli.table import Column, dollars, percent, plural, print_json, print_table, progress_bar, say
from router.values import usd_number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from router.cli.demo.send import Result
    from router.cli.demo.tally import Tally

_COLUMNS = (
    Column("task"),
    Column("sent", number=True),
    Column("where it went", prose=True),
    Column("cost", number=True),
    Column("baseline", number=True),
    Column("saved", number=True, spare=True),
    Column("saved %", number=True, spare=True),
    Column("refused", number=True),
    Column("failed", number=True),
)


def demo(
    url: Annotated[
        str | None, typer.Option(envvar="FARTHING_URL", help="Where the proxy runs. Default: --port on this machine.")
    ] = None,
    port: Annotated[
        int, typer.Option(envvar="FARTHING_PORT", min=1, max=65535, help="Its port on this machine, without --url.")
    ] = 4100,
    requests: Annotated[int, typer.Option(min=1, max=100_000, help="How many to send.")] = 240,
    key: Annotated[str | None, typer.Option(envvar="FARTHING_KEY", help="The key, where the proxy wants one.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed sends the same day.")] = 1,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="How many at once.")] = 8,
    as_json: JsonOption = False,
) -> None:
    """Send a varied day of traffic through a running proxy, and say by task where it went and what it cost.

    Some requests bring a tiny budget of their own and are refused for it, as they should be. Where the proxy
    calls real providers this spends real money: about half a dollar by the shipped policies. Ends with status 1
    where any request failed.

    Example: farthing demo --requests 240 --url http://127.0.0.1:4100
    """
    import asyncio

    from router.cli.demo.tally import tallied

    url = url or f"http://127.0.0.1:{port}"
    started = time.perf_counter()
    results = asyncio.run(_day(url, key, requests, seed, concurrency))
    by_task, total = tallied(results)
    duration_s = time.perf_counter() - started
    if as_json:
        print_json(_as_json(url, by_task, total, duration_s))
    else:
        _print(by_task, total, duration_s)
    if total.failed:
        raise typer.Exit(1)


async def _day(url: str, key: str | None, requests: int, seed: int, concurrency: int) -> list[Result]:
    from router.cli.demo.send import Customer
    from router.cli.demo.traffic import day

    async with Customer(url, key) as customer:
        offer = await customer.offer()
        errands = day(offer.tasks, offer.names, requests, seed)
        with progress_bar() as progress:
            bar = progress.add_task(customer.url, total=len(errands))
            return await customer.send(errands, concurrency, lambda _: progress.advance(bar))


def _print(by_task: Mapping[str, Tally], total: Tally, duration_s: float) -> None:
    print_table(_COLUMNS, [_row(task, tally) for task, tally in by_task.items()], total=_row("total", total))
    say(
        f"{plural(total.requests, 'request')} in {duration_s:.0f} s: {total.answered} answered "
        f"({total.streamed} as streams), {total.refused} refused by a budget, {total.failed} failed."
    )
    cost, baseline, saved = (
        dollars(usd_number(nusd)) for nusd in (total.cost_nusd, total.baseline_nusd, total.saved_nusd)
    )
    share = percent(total.saved_nusd, total.baseline_nusd) or "0%"
    say(f"It cost {cost} and would have cost {baseline} at the baseline: {saved} saved ({share}).")
    if total.codes:
        say("Refusals and failures: " + ", ".join(f"{code} {count}" for code, count in total.codes.most_common()))
    if total.untold:
        say(f"The baseline of {plural(total.untold, 'answer')} is not told by the proxy; their cost stands in for it.")


def _row(name: str, tally: Tally) -> list[str]:
    return [
        name,
        f"{tally.requests:,}",
        tally.mix(),
        dollars(usd_number(tally.cost_nusd)),
        dollars(usd_number(tally.baseline_nusd)),
        dollars(usd_number(tally.saved_nusd)),
        percent(tally.saved_nusd, tally.baseline_nusd),
        str(tally.refused),
        str(tally.failed),
    ]


def _as_json(url: str, by_task: Mapping[str, Tally], total: Tally, duration_s: float) -> dict[str, object]:
    sums = _sums(total)
    return {
        "url": url,
        "duration_s": round(duration_s, 3),
        "total_usd": sums.pop("cost_usd"),
        **sums,
        "codes": dict(total.codes),
        "rows": [{"task": task, **_sums(tally)} for task, tally in by_task.items()],
    }


def _sums(tally: Tally) -> dict[str, object]:
    return {
        "requests": tally.requests,
        "answered": tally.answered,
        "refused": tally.refused,
        "failed": tally.failed,
        "cost_usd": usd_number(tally.cost_nusd),
        "baseline_usd": usd_number(tally.baseline_nusd),
        "saved_usd": usd_number(tally.saved_nusd),
        "baselines_untold": tally.untold,
        "models": dict(tally.models.most_common()),
    }
