"""`farthing spend`: what did it cost, and what was saved?"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli.folder import JsonOption
from router.cli.table import Column, dollars, percent, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

_NUMBERS = (
    Column("requests", number=True),
    Column("cost", number=True),
    Column("baseline", number=True),
    Column("saved", number=True, spare=True),
    Column("saved %", number=True),
    Column("overhead", number=True, spare=True),
    Column("input tokens", number=True, spare=True),
    Column("output tokens", number=True, spare=True),
)


def spend(
    by: Annotated[
        str, typer.Option(help="Any of task, model, account, rule, kind, provider, outcome, day; several by comma.")
    ] = "task,model",
    since: Annotated[
        str | None, typer.Option(help="30m, 24h, 7d, 2w, or a date or time (UTC). Default: from the beginning.")
    ] = None,
    ledger_url: Annotated[
        str, typer.Option(envvar="FARTHING_LEDGER_URL", help="Where the ledger is.")
    ] = "sqlite:///farthing.db",
    as_json: JsonOption = False,
) -> None:
    """Say what was spent and what was saved against the baselines, from the ledger.

    Cost is every dollar paid; overhead is the part of it that bought no answer. It is safe beside a running proxy.

    Example: farthing spend --by task,day --since 7d
    """
    from router.errors import InvalidRequest
    from router.ledger.open import open_store
    from router.ledger.report import groupings, parse_since, spend_report

    try:
        groups = groupings(by)
        start = parse_since(since, datetime.now(UTC)) if since else None
    except InvalidRequest as error:
        raise typer.BadParameter(error.message) from None
    store = open_store(ledger_url, read_only=True)
    try:
        report = spend_report(store, by, start)
    finally:
        store.close()
    if as_json:
        print_json(report)
    else:
        _print(report, groups)


def _print(report: dict[str, Any], groups: Sequence[str]) -> None:
    columns = [*(Column(group) for group in groups), *_NUMBERS]
    rows = [[*(row[group] for group in groups), *_numbers(row, row["cost_usd"])] for row in report["rows"]]
    labels = ["total", *[""] * (len(groups) - 1)] if groups else []
    total = [*labels, *_numbers(report, report["total_usd"])]
    if groups:
        print_table(columns, rows, total=total)
    else:
        print_table(columns, [total])
    if report["over_budget_usd"]:
        print(f"Of this, {dollars(report['over_budget_usd'])} went above the requests' budgets.")


def _numbers(row: dict[str, Any], cost_usd: float) -> list[str]:
    return [
        f"{row['requests']:,}",
        dollars(cost_usd),
        dollars(row["baseline_usd"]),
        dollars(row["saved_usd"]),
        percent(row["saved_usd"], row["baseline_usd"]),
        dollars(row["overhead_usd"]),
        f"{row['input_tokens']:,}",
        f"{row['output_tokens']:,}",
    ]
