"""`farthing experiment`: what did the models on trial cost and give, beside those in use?"""

from __future__ import annotations

from contextlib import closing
from typing import Annotated, Any

import typer

from router.cli.folder import JsonOption
from router.cli.ledger import DEFAULT_LEDGER, LedgerOption, since_of
from router.cli.table import Column, plural, print_json, print_table

_COLUMNS = (
    Column("side"),
    Column("model"),
    Column("requests", number=True),
    Column("cost a request", number=True),
    Column("p50 ms", number=True),
    Column("p95 ms", number=True),
    Column("errors", number=True),
    Column("verified", number=True, spare=True),
    Column("agreement", number=True, spare=True),
    Column("spent", number=True, spare=True),
)
_HEADINGS = {"aborted": "aborted", "promoted": "promoted to every request"}


def experiment(
    task: Annotated[str | None, typer.Option(help="One task alone.")] = None,
    since: Annotated[
        str, typer.Option(help="From when on: 7d, 24h, 30m, 2w, or a date or time in ISO 8601 (UTC).")
    ] = "7d",
    ledger_url: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Compare the sides of every experiment: cost, latency, errors, checks passed, agreement, from the ledger.

    Each number stands with the interval that holds the true one in nineteen cases of twenty.

    Example: farthing experiment --task support --since 24h
    """
    from router.ledger.open import open_store
    from router.lifecycle.results import experiment_report

    start = since_of(since)
    with closing(open_store(ledger_url, read_only=True)) as store:
        report = experiment_report(store, task, start)
    if as_json:
        print_json(report)
        return
    if not report["experiments"]:
        print("No request had a part in an experiment. A rule's `experiment:` makes one.")
    for each in report["experiments"]:
        _print(each)


def _print(experiment: dict[str, Any]) -> None:
    state = _HEADINGS.get(experiment["state"], experiment["state"])
    because = f", since {experiment['since']}: {experiment['because']}" if experiment["because"] else ""
    print(f"{experiment['task']}/{experiment['rule']}: {state}{because}\n")
    print_table(_COLUMNS, [_row(side) for side in experiment["sides"]])
    if left_out := experiment["left_out"]:
        print(f"Left out: {plural(left_out, 'request')} from before the last edit of the experiment.\n")


def _row(side: dict[str, Any]) -> list[str]:
    return [
        side["side"],
        side["model"] or "the rule's own",
        f"{side['requests']:,}",
        _ranged(side["cost_usd"], "$", ".6f"),
        _ranged(side["latency_p50_ms"], "", ",.0f"),
        _ranged(side["latency_p95_ms"], "", ",.0f"),
        _ranged(side["error_rate"], "", ".1%"),
        _ranged(side["verify_pass_rate"], "", ".1%"),
        _ranged(side["agreement"], "", ".2f"),
        f"${side['total_usd']:,.6f}",
    ]


def _ranged(interval: dict[str, float] | None, sign: str, form: str) -> str:
    """Write a number with its interval; a dash where there is none."""
    if interval is None:
        return "-"
    value, low, high = (f"{interval[name]:{form}}" for name in ("value", "low", "high"))
    return f"{sign}{value} ({low} to {high})"
