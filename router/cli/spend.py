"""`farthing spend`: what did it cost, and what was saved?"""

from __future__ import annotations

import asyncio
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli.folder import DEFAULT_FOLDER, FolderOption, JsonOption
from router.cli.ledger import DEFAULT_LEDGER, LedgerOption, SinceOption, TasksOption, bad_tasks, tasks_of
from router.cli.table import Column, dollars, percent, plural, print_json, print_table, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from router.ledger.rows import Row
    from router.policy.policy import PolicySet

MOST_USD = 1_000_000
"""A charge above that is a slip of the keyboard."""

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
_RANGE = Column("baseline range", number=True, spare=True)
_ORPHANS = (
    Column("id"),
    Column("at"),
    Column("task"),
    Column("model"),
    Column("held", number=True),
    Column("held by", spare=True),
)


def spend(
    by: Annotated[
        str,
        typer.Option(help="Any of task, model, account, rule, kind, provider, outcome, day, hour, minute, by comma."),
    ] = "task,model",
    since: SinceOption = None,
    task: TasksOption = None,
    orphans: Annotated[
        bool, typer.Option("--orphans", help="List the requests that a crash cut off: charged at their ceiling.")
    ] = False,
    correct: Annotated[
        str | None, typer.Option(metavar="ID", help="Put the charge of this request right, by a row that is added.")
    ] = None,
    usd: Annotated[str | None, typer.Option(help="What it cost in truth, in dollars; with --correct.")] = None,
    note: Annotated[str | None, typer.Option(help="How you know; with --correct.")] = None,
    ledger_url: LedgerOption = DEFAULT_LEDGER,
    spool: Annotated[
        Path, typer.Option(envvar="FARTHING_SPOOL", help="Where rows wait while the ledger is away, to be counted.")
    ] = Path("farthing-spool"),
    policies: FolderOption = DEFAULT_FOLDER,
    as_json: JsonOption = False,
) -> None:
    """Say what was spent and what was saved against the baselines, from the ledger.

    Cost is every dollar paid; overhead is the part of it that bought no answer. The baseline prices the same input and
    the output that was really answered; its range, what it would be if the baseline model had answered at its own usual
    length, where the ledger has answers of it to the same task. It is safe beside a running proxy.

    Example: farthing spend --by task,day --since 7d; farthing spend --by day --task support,code
    Example: farthing spend --orphans; farthing spend --correct 019ab… --usd 0.0012 --note "the provider's invoice"
    """
    from router.errors import InvalidRequest
    from router.ledger.open import open_store
    from router.ledger.report import groupings, orphans_report, parse_since, spend_report

    if correct is not None:
        return _correct(ledger_url, correct, usd, note, as_json=as_json)
    if usd is not None or note is not None:
        raise typer.BadParameter("--usd and --note belong to --correct ID")
    try:
        groups = groupings(by)
        start = parse_since(since, datetime.now(UTC)) if since else None
    except InvalidRequest as error:
        raise typer.BadParameter(error.message) from None
    tasks = tasks_of(task)
    in_force, why = (None, None) if orphans else _policies(policies)
    with closing(open_store(ledger_url, read_only=True)) as store, bad_tasks():
        if orphans:
            report = orphans_report(store, datetime.now(UTC), start, tasks)
        else:
            report = spend_report(store, by, start, spool, in_force, tasks)
    if as_json:
        print_json(report)
    elif orphans:
        _print_orphans(report)
    else:
        _print(report, groups)
        _print_range(report, why)
        if in_force is not None:
            _print_without_baseline(report, in_force, tasks)
        if cut_off := report["orphans"]:
            what, held = plural(cut_off, "request"), dollars(report["orphaned_usd"])
            say(f"Of the cost, {held} is the ceiling of {what} that a crash cut off; --orphans lists them.")
        if waiting := report["spooled_rows"]:
            say(f"Not counted: up to {waiting:,} rows that wait in {spool} for the ledger to be written.")
    return None


def _correct(ledger_url: str, request_id: str, usd: str | None, note: str | None, *, as_json: bool) -> None:
    from router.errors import InvalidRequest
    from router.ledger.correction import correction
    from router.ledger.open import open_store
    from router.ledger.rows import NAMES
    from router.values import nusd_cost, usd_number

    if not usd or not note:
        raise typer.BadParameter("--correct needs --usd, what it cost in truth, and --note, how you know")
    try:
        cost_usd = Decimal(usd)
    except InvalidOperation:
        cost_usd = Decimal("NaN")
    if not cost_usd.is_finite() or not 0 <= cost_usd <= MOST_USD:
        raise typer.BadParameter(f"'{usd[:40]}' is no amount of dollars", param_hint="--usd")
    store = open_store(ledger_url)

    async def add() -> Row | None:
        with closing(store):
            await store.open()
            row = correction(store, request_id, nusd_cost(cost_usd), note, datetime.now(UTC))
            if row is not None and not await store.write([row]):
                raise InvalidRequest(f"'{request_id}' was corrected at this very moment; look at it again.")
            return row

    added = asyncio.run(add())
    if added is None:
        if as_json:
            print_json({"id": None, "corrects": request_id, "charged_usd": 0.0, "note": None})
        else:
            say(f"Nothing added: {request_id} comes to {dollars(float(cost_usd))} already.")
        return
    row = dict(zip(NAMES, added, strict=True))
    difference_usd = usd_number(row["charged_nusd"])
    if as_json:
        print_json({"id": row["id"], "corrects": request_id, "charged_usd": difference_usd, "note": note})
    else:
        say(f"Added {row['id']}: {dollars(difference_usd)}, so that {request_id} comes to {dollars(float(cost_usd))}.")


def _print_orphans(report: dict[str, Any]) -> None:
    if not report["orphans"]:
        say("No request was cut off.")
        return
    rows = [
        [row["id"], row["at"], row["task"], row["model"] or "none", dollars(row["held_usd"]), row["instance"] or "-"]
        for row in report["orphans"]
    ]
    print_table(_ORPHANS, rows, total=["total", "", "", "", dollars(report["held_usd"]), ""])


def _policies(folder: Path) -> tuple[PolicySet | None, str | None]:
    """Return the policies, which know each task's baseline model and its price, or why there are none."""
    from router.cli.folder import read_folder
    from router.errors import PolicyFaults

    try:
        return read_folder(folder).checked(), None
    except typer.BadParameter:
        return None, f"there is no folder of policies at {folder} (--policies) to say which models the baselines are"
    except PolicyFaults as error:
        return None, f"the policies in {folder} are not valid: {error.causes[0]}"


def _print_without_baseline(report: dict[str, Any], policies: PolicySet, asked: tuple[str, ...]) -> None:
    """Say which tasks can't save anything by the table: those in it, or all asked for where it does not tell them."""
    without = {task for task, policy in policies.policies.items() if policy.baseline is None}
    named = {row["task"] for row in report["rows"] if "task" in row} or set(asked)
    if report["requests"] and (tasks := sorted(without & named if named else without)):
        say(
            f"No baseline: {', '.join(tasks)}. What they save counts as nothing until their files name, as "
            "`baseline:`, the model that they would have gone to."
        )


def _print_range(report: dict[str, Any], why: str | None) -> None:
    """Say what the baseline takes for granted, and how far it may be off."""
    if not report["baseline_usd"]:
        return
    said = "The baseline prices the same input, and the output that was really answered; "
    if compared := report["baseline_compared"]:
        low_usd, high_usd = report["baseline_low_usd"], report["baseline_high_usd"]
        say(
            f"{said}with {compared:,} answers as long as the baseline models' own usually are it lies between "
            f"{dollars(low_usd)} and {dollars(high_usd)}, and what is saved between "
            f"{dollars(low_usd - report['total_usd'])} and {dollars(high_usd - report['total_usd'])}."
        )
    else:
        say(f"{said}how long the baseline models' own answers are is not known: {why or 'the ledger has too few'}.")


def _print(report: dict[str, Any], groups: Sequence[str]) -> None:
    known = any(row["baseline_compared"] for row in report["rows"])
    columns = [*(Column(group) for group in groups), *_NUMBERS, *([_RANGE] if known else [])]
    rows = [
        [*(row[group] for group in groups), *_numbers(row, row["cost_usd"]), *([_range(row)] if known else [])]
        for row in report["rows"]
    ]
    labels = ["total", *[""] * (len(groups) - 1)] if groups else []
    total = [*labels, *_numbers(report, report["total_usd"]), *([_range(report)] if known else [])]
    if groups:
        print_table(columns, rows, total=total)
    else:
        print_table(columns, [total])
    if report["over_budget_usd"]:
        say(f"Of this, {dollars(report['over_budget_usd'])} went above what budgets allowed.")


def _range(row: dict[str, Any]) -> str:
    if not row["baseline_compared"]:
        return "-"
    return f"{dollars(row['baseline_low_usd'])} to {dollars(row['baseline_high_usd'])}"


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
