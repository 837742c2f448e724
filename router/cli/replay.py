"""`farthing replay`: what would these policies have cost on the traffic that was recorded?"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli.folder import DEFAULT_FOLDER, FolderOption, JsonOption, read_folder
from router.cli.ledger import DEFAULT_LEDGER, LedgerOption, SinceOption, TasksOption, bad_tasks, since_of, tasks_of
from router.cli.table import Column, dollars, plural, print_json, print_table, progress_bar, say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from router.ledger.contract import Store
    from router.policy.backtest.recorded import Record
    from router.policy.backtest.replay import Player
    from router.policy.backtest.tally import Tally

MOST_SHOWN = 10
"""Of the requests that move most money, in a table; --json has all fifty."""

_TASKS = (
    Column("task"),
    Column("requests", number=True),
    Column("changed", number=True),
    Column("before", number=True),
    Column("replayed", number=True),
    Column("went to", prose=True, spare=True),
    Column("would go to", prose=True),
)
_LARGEST = (
    Column("request", spare=True),
    Column("task"),
    Column("rule", prose=True),
    Column("model", prose=True),
    Column("before", number=True),
    Column("replayed", number=True),
)


def replay(
    policies: FolderOption = DEFAULT_FOLDER,
    since: SinceOption = None,
    task: TasksOption = None,
    against: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Compare with these policies in place of what was recorded.")
    ] = None,
    ledger_url: LedgerOption = DEFAULT_LEDGER,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown, for a pull request.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what these policies would have cost on recorded traffic: dollars, mix, and which decisions change.

    No model is called. Each request is decided again by its recorded facts, and priced by what it used. It is safe
    beside a running proxy.

    Example: farthing replay --policies new-policies --since 7d
    Example: farthing replay --policies new-policies --task support,code
    Example: farthing replay --policies policies --against old-policies --markdown
    """
    from router.ledger.open import open_store
    from router.policy.backtest.replay import Player

    if as_json and markdown:
        raise typer.BadParameter("give --json or --markdown, not both")
    start = since_of(since) if since else None
    new = read_folder(policies).checked()
    old = read_folder(against).checked() if against else None
    tasks = tasks_of(task)
    with closing(open_store(ledger_url, read_only=True)) as store:
        with bad_tasks():
            store.require_tasks(tasks)
        player = Player(new)
        tally = _tallied(store, start, tasks, player, Player(old) if old else None)
    report = tally.report() | {
        "since": start.isoformat() if start else None,
        "policy_revision": new.revision,
        "against_revision": old.revision if old else None,
        "limits_met": player.limits.report(),
    }
    before = str(against) if against else "recorded"
    if as_json:
        print_json(report)
    elif markdown:
        print(_markdown(report, str(policies), before))
    else:
        _print(report, before)


def _tallied(store: Store, since: datetime | None, tasks: Sequence[str], new: Player, old: Player | None) -> Tally:
    from router.ledger.report import charged_before
    from router.policy.backtest.recorded import read
    from router.policy.backtest.tally import Tally
    from router.values import Ending

    tally = Tally()
    players = [new, old] if old else [new]
    if since:
        for task, account, hour, charged_nusd in charged_before(store, since):
            for player in players:
                player.keep(task, account, hour, charged_nusd)
    shared = any(player.shares_budgets for player in players)
    for record in _shown(store, since, () if shared else tasks):
        if record.outcome == Ending.EXPERIMENT:
            continue
        is_asked = not tasks or record.task in tasks
        # What is paid under any policies says nothing of where a caller's request would go.
        is_paid = record.outcome in ("correction", Ending.SHADOW)
        request = read(record) if is_asked and not is_paid else None
        if request is not None:
            tally.add(record, old.play(request) if old else request.as_recorded(), new.play(request))
            continue
        for player in players:
            player.keep(record.task, record.account, record.at, record.charged_nusd)
        if is_asked and is_paid:
            tally.add_correction(record.charged_nusd)
        elif is_asked:
            tally.add_unreadable(record.charged_nusd)
    return tally


def _shown(store: Store, since: datetime | None, tasks: Sequence[str]) -> Iterator[Record]:
    """Yield every row, with a progress bar on a terminal."""
    from router.ledger.report import count_since, records_since

    with progress_bar() as progress:
        bar = progress.add_task("replaying", total=count_since(store, since, tasks))
        for page in records_since(store, since, tasks):
            yield from page
            progress.advance(bar, len(page))


def _print(report: dict[str, Any], before: str) -> None:
    if not report["requests"]:
        print("Nothing was recorded in that time.")
        return
    print_table(_TASKS, [_task(row) for row in report["tasks"]], total=_task({"task": "total", **report}))
    if report["largest"]:
        print_table(_LARGEST, [_move(move) for move in report["largest"][:MOST_SHOWN]])
    for line in _said(report, before):
        say(line)


def _task(row: dict[str, Any]) -> list[str]:
    return [
        row["task"],
        f"{row['requests']:,}",
        f"{row['changed_decisions']:,}",
        dollars(row["before_usd"]),
        dollars(row["replayed_usd"]),
        _mix(row["mix_before"]),
        _mix(row["mix"]),
    ]


NO_MODEL = "none"
"""What metrics call it too: nobody answered, for all were refused."""


def _mix(mix: dict[str, float]) -> str:
    return ", ".join(f"{name} {100 * share:.0f}%" for name, share in mix.items()) or NO_MODEL


def _move(move: dict[str, Any]) -> list[str]:
    return [
        move["id"],
        move["task"],
        _change(move["rule_before"], move["rule"]),
        _change(move["model_before"] or "refused", move["model"] or "refused"),
        dollars(move["before_usd"]),
        dollars(move["replayed_usd"]),
    ]


def _change(before: str, after: str) -> str:
    return before if before == after else f"{before} → {after}"


def _said(report: dict[str, Any], before: str) -> list[str]:
    """Return what the figures say, a sentence each."""
    low, high = report["difference_interval_usd"]
    risk = report["quality_risk"]
    share = _share(risk["requests"], report["requests"])
    money = (
        f"{before}: {dollars(report['before_usd'])}; replayed: {dollars(report['replayed_usd'])}; "
        f"difference {dollars(report['difference_usd'])}, 95% between {dollars(low)} and {dollars(high)}."
    )
    decisions = (
        f"{report['changed_decisions']:,} of {plural(report['requests'], 'decision')} change "
        f"({_share(report['changed_decisions'], report['requests'])}); "
        f"{plural(report['refused'], 'request')} would be refused, {report['refused_before']:,} before."
    )
    quality = f"Quality at risk: {share} of the requests would move to a cheaper kind of model{_kinds(risk['moves'])}."
    lines = [money, decisions, quality]
    fewer = report["refused_before"] - report["refused"]
    if fewer > 0 and report["against_revision"] is None:
        lines.append(
            f"Assumed: one request after another. {plural(fewer, 'request')} fewer may be refused for that alone, "
            "where others under way held the money; --against with the present policies compares policies alone."
        )
    if unknown := report["unknown"]["requests"]:
        rules = ", ".join(f"{rule} ({number:,})" for rule, number in report["unknown"]["rules"].items())
        lines.append(
            f"Not known: {plural(unknown, 'request')} met a rule that looks at text or facts that were not recorded, "
            f"which is taken not to hold: {rules}."
        )
    if spread := report["spread"]["requests"]:
        rules = ", ".join(f"{rule} ({number:,})" for rule, number in report["spread"]["rules"].items())
        lines.append(
            f"Assumed: the difficulty of {plural(spread, 'request')} was not recorded, for no rule of the task asked "
            "for it then; it is taken as evenly spread, so shares hold, and which requests are the hard ones is not "
            f"known: {rules}."
        )
    lines += [_limit_met(met) for met in report["limits_met"]]
    if recounted := report["recounted"]:
        lines.append(f"Estimated: the input of {plural(recounted, 'request')}, which the new model never counted.")
    if unreadable := report["unreadable"]:
        lines.append(f"{plural(unreadable, 'row')} can't be read and stand as they are.")
    return lines


def _limit_met(met: dict[str, Any]) -> str:
    whose = "everything" if met["scope"] == "global" else f"the {met['scope']} '{met['name']}'"
    others = met["requests"] - met["downgraded"] - met["refused"]
    cut = f", {others:,} to the same for a shorter answer at the most" if others else ""
    return (
        f"Limited: the {met['window']}'s budget of {whose} ({dollars(met['limit_usd'])}) had too little left in "
        f"{met['reached']:,} of {plural(met['windows'], met['window'])}: of {plural(met['requests'], 'request')} "
        f"{met['downgraded']:,} would go to another model{cut}, and {met['refused']:,} be refused."
    )


def _kinds(moves: list[dict[str, Any]]) -> str:
    told = ", ".join(f"{move['from']} → {move['to']} {move['requests']:,}" for move in moves)
    return f"; between kinds: {told}" if told else ""


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}%" if whole else "0%"


def _markdown(report: dict[str, Any], after: str, before: str) -> str:
    """Write the report as a comment on a pull request."""
    lines = [f"### Replay of {plural(report['requests'], 'request')}: `{after}` beside {before}", ""]
    lines += [f"- {line}" for line in _said(report, before)]
    lines += ["", *_markdown_table(_TASKS, [_task(row) for row in (*report["tasks"], {"task": "total", **report})])]
    if report["largest"]:
        lines += ["", "<details><summary>The requests that move most money</summary>", ""]
        lines += _markdown_table(_LARGEST, [_move(move) for move in report["largest"]])
        lines += ["", "</details>"]
    return "\n".join(lines)


def _markdown_table(columns: tuple[Column, ...], rows: list[list[str]]) -> list[str]:
    marks = ["---:" if column.number else "---" for column in columns]
    cells = [[column.heading for column in columns], marks, *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells]
