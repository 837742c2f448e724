"""`farthing advise`: does a cascade pay, and would a fine-tuned model?"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli.folder import DEFAULT_FOLDER, FolderOption, JsonOption, read_folder
from router.cli.ledger import DEFAULT_LEDGER, LedgerOption, SinceOption, since_of
from router.cli.table import Column, dollars, print_json, print_table, say

if TYPE_CHECKING:
    from datetime import datetime

    from router.ledger.contract import Store
    from router.policy.backtest.advice import Tuning
    from router.policy.backtest.recorded import Request
    from router.policy.policy import PolicySet

FINE_TUNED = "fine-tuned"
"""The `kind` of models.yaml that is looked for where no model is named."""

_CASCADES = (
    Column("task"),
    Column("rule"),
    Column("requests", number=True),
    Column("passed (95 %)", number=True),
    Column("right if passed", number=True, spare=True),
    Column("pays from", number=True, spare=True),
    Column("cost each (95 %)", number=True),
    Column("always dear", number=True),
    Column("advice", prose=True),
)
_TUNING = (
    Column("task"),
    Column("requests", number=True),
    Column("cost each", number=True),
    Column("tuned", number=True),
    Column("paid after requests (95 %)", number=True),
    Column("days", number=True),
    Column("advice", prose=True),
)


def advise(
    task: Annotated[str | None, typer.Option(help="Only this task.")] = None,
    policies: FolderOption = DEFAULT_FOLDER,
    since: SinceOption = None,
    tuned: Annotated[
        str | None, typer.Option(metavar="MODEL", help="A model of models.yaml. Default: the one of kind fine-tuned.")
    ] = None,
    training_usd: Annotated[
        float | None, typer.Option(min=0, help="What the fine-tuning costs; without it only cascades are looked at.")
    ] = None,
    saved_prompt_tokens: Annotated[
        int, typer.Option(min=0, help="Tokens of each prompt that the tuned model would need no more.")
    ] = 0,
    ledger_url: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Say where checking a cheap answer pays, and after how many requests fine-tuning would, from recorded traffic.

    Example: farthing advise --task support --since 7d
    Example: farthing advise --training-usd 40 --tuned support-ft --saved-prompt-tokens 800
    """
    from router.ledger.open import open_store
    from router.policy.backtest.advice import cascades, tuning

    start = since_of(since) if since else None
    found = read_folder(policies).checked()
    if task is not None and task not in found.policies:
        raise typer.BadParameter(f"There is no task '{task}'; there is: {', '.join(found.policies)}.")
    asked = _tuning(found, tuned, training_usd, saved_prompt_tokens)
    with closing(open_store(ledger_url, read_only=True)) as store:
        requests = _requests(store, start, task)
    report = {"cascades": cascades(requests, found), "tuning": tuning(requests, asked) if asked else []}
    if as_json:
        print_json(report)
    else:
        _print(report, tuned=asked is not None)


def _tuning(policies: PolicySet, name: str | None, training_usd: float | None, saved_tokens: int) -> Tuning | None:
    from router.policy.backtest.advice import Tuning

    if training_usd is None:
        if name is not None or saved_tokens:
            raise typer.BadParameter("give --training-usd as well: without it there is nothing to pay back")
        return None
    if name is None:
        named = [model.name for model in policies.models.values() if model.kind == FINE_TUNED]
        if len(named) != 1:
            which = f"there are {', '.join(named)}" if named else "models.yaml has none"
            raise typer.BadParameter(f"name a model by --tuned: of kind {FINE_TUNED} {which}")
        name = named[0]
    if name not in policies.models:
        raise typer.BadParameter(f"There is no model '{name}'; there is: {', '.join(policies.models)}.")
    return Tuning(policies.models[name], training_usd, saved_tokens)


def _requests(store: Store, since: datetime | None, task: str | None) -> list[Request]:
    from router.ledger.report import records_since
    from router.policy.backtest.recorded import read

    records = (record for page in records_since(store, since) for record in page)
    wanted = (record for record in records if task is None or record.task == task)
    read_ones = (read(record) for record in wanted if record.outcome != "correction")
    return [request for request in read_ones if request is not None]


def _print(report: dict[str, Any], *, tuned: bool) -> None:
    if report["cascades"]:
        print_table(_CASCADES, [_cascade(row) for row in report["cascades"]])
    else:
        say("No answer was checked in that time; `verify:` on a rule does.")
    if report["tuning"]:
        print_table(_TUNING, [_tuned(row) for row in report["tuning"]])
        say("An answer of the tuned model is taken to be as long, and as good, as the recorded one.")
    elif tuned:
        print("Nothing was answered in that time.")


def _cascade(row: dict[str, Any]) -> list[str]:
    return [
        row["task"],
        row["rule"],
        f"{row['requests']:,}",
        _percents(row["pass_rate"]),
        _percents(row["quality_if_passed"]),
        f"{100 * row['break_even_pass_rate']:.0f}%" if row["break_even_pass_rate"] is not None else "",
        _dollars(row["cost_usd"]),
        dollars(row["always_usd"]["mean"]) if row["always_usd"] else "",
        row["advice"],
    ]


def _tuned(row: dict[str, Any]) -> list[str]:
    needed = row["break_even_requests"]
    return [
        row["task"],
        f"{row['requests']:,}",
        dollars(row["cost_usd"]["mean"]) if row["cost_usd"] else "",
        dollars(row["tuned_usd"]["mean"]) if row["tuned_usd"] else "",
        f"{_count(needed['mean'])} ({_count(needed['low'])} to {_count(needed['high'])})" if needed else "",
        f"{row['break_even_days']:,.1f}" if row["break_even_days"] is not None else "",
        row["advice"],
    ]


def _count(number: float | None) -> str:
    return "never" if number is None else f"{number:,.0f}"


def _percents(interval: dict[str, float] | None) -> str:
    if interval is None:
        return ""
    return f"{100 * interval['mean']:.0f}% ({100 * interval['low']:.0f} to {100 * interval['high']:.0f})"


def _dollars(interval: dict[str, float] | None) -> str:
    if interval is None:
        return ""
    return f"{dollars(interval['mean'])} ({dollars(interval['low'])} to {dollars(interval['high'])})"
