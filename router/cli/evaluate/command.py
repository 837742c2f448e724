"""`farthing evaluate`: what would these policies cost and keep on prompts whose outcomes are known?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli.folder import DEFAULT_FOLDER, FolderOption, JsonOption, read_folder
from router.cli.table import Column, console, dollars, plural, print_json, print_table

if TYPE_CHECKING:
    from router.difficulty.labelled import Labelled
    from router.policy.policy import Policy, PolicySet

MANY_ALIKE = 0.3
"""The share of near duplicates from which a set is told to flatter. Of users' own words about one fifth are alike."""
_ROWS = {
    "policy": "this policy",
    "always_cheap": "always cheap",
    "always_premium": "always premium",
    "random_same_spend": "random, at the same spend",
    "score_same_spend": "by score, at the same spend",
    "longest_same_spend": "longest first, at the same spend",
    "task_prior_same_spend": "by task in hindsight, same spend",
    "oracle": "hindsight (oracle)",
}


def evaluate(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="JSON lines of {id, messages or prompt, task?, outcomes: {MODEL: {quality, cost_usd?, answer?}}}; "
            "may end in .gz.",
        ),
    ],
    task: Annotated[str, typer.Option(help="Whose policy decides.")] = "default",
    learn: Annotated[int, typer.Option(min=0, help="Feed so many lines as labels first, and judge the rest.")] = 0,
    scores: Annotated[Path | None, typer.Option(help="Write id,score of every line here, as CSV.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw cost against quality here: .svg, or .png with farthing\\[plot] installed.")
    ] = None,
    policies: FolderOption = DEFAULT_FOLDER,
    as_json: JsonOption = False,
) -> None:
    """Say what policies would cost and keep on a labelled set, beside simple ways to spend the same. No call is made.

    Two models are compared: the policy's own where the set names them, else the set's cheapest and dearest. Where a
    line has no cost_usd, prompt and answer are priced by the policies.

    Example: farthing evaluate labelled.jsonl --task support --learn 500
    """
    from router.cli.evaluate.plot import draw, drawable
    from router.cli.evaluate.report import report
    from router.cli.evaluate.run import evaluate_set
    from router.difficulty.labelled import read_labelled
    from router.difficulty.measure import Curve

    if plot is not None:
        drawable(plot)
    loaded = read_folder(policies).checked()
    policy = _policy(loaded, task)
    with console(stderr=True).status("Reading…") as status:
        rows = read_labelled(file)
        evaluated = evaluate_set(rows, loaded, policy, learn, lambda doing: status.update(f"{doing}…"))
        status.update("Measuring…")
        found = report(evaluated, task)
    if (again := _told_twice(rows)) is not None:
        print(f"farthing: {file}: {again}.", file=sys.stderr)
    if scores is not None:
        _write_scores(scores, evaluated.scores)
    if plot is not None:
        draw(plot, found, Curve(evaluated.prompts).plain().points())
    if as_json:
        print_json(found)
    else:
        _print(found)


def _policy(policies: PolicySet, task: str) -> Policy:
    if task not in policies.policies:
        known = ", ".join(policies.policies)
        raise typer.BadParameter(f"There is no task '{task}'. There is: {known}.", param_hint="--task")
    return policies.policies[task]


def _told_twice(rows: list[Labelled]) -> str | None:
    """Say which id is the first that two lines have; None where each has its own."""
    lines: dict[str, int] = {}
    for row in rows:
        if lines.setdefault(row.id, row.line) != row.line:
            return f"lines {lines[row.id]} and {row.line} have the same id '{row.id[:80]}'"
    return None


def _write_scores(file: Path, scores: list[tuple[str, float]]) -> None:
    import csv

    try:
        with file.open("w", encoding="utf-8", newline="") as opened:
            writer = csv.writer(opened, lineterminator="\n")
            writer.writerow(("id", "score"))
            writer.writerows((name, f"{score:.9g}") for name, score in scores)
    except OSError as error:
        raise typer.BadParameter(f"{file} can't be written: {error.strerror}.", param_hint="--scores") from None


def _print(found: dict[str, Any]) -> None:
    premium, intervals = found["always_premium"]["cost_usd"], found["interval_95"]
    print_table(
        (
            Column("way"),
            Column("quality", number=True),
            Column("cost", number=True),
            Column("of premium", number=True),
            Column("premium calls", number=True),
        ),
        [
            (
                said,
                f"{found[name]['quality']:.4f}",
                dollars(found[name]["cost_usd"]),
                f"{100 * found[name]['cost_usd'] / premium:.1f}%" if premium else "-",
                f"{100 * found[name]['premium_share']:.1f}%",
            )
            for name, said in _ROWS.items()
        ],
    )
    print_table(
        (
            Column("of premium quality"),
            Column("by score", number=True),
            Column("95 %", number=True),
            Column("random mix", number=True),
        ),
        [
            (
                f"{level}%",
                _dollars(usd),
                _dollars_between(intervals["usd_at_quality"][level]),
                _dollars(found["random_usd_at_quality"][level]),
            )
            for level, usd in found["usd_at_quality"].items()
        ],
    )
    print_table(
        (
            Column("area (random: 0.5)"),
            Column("by score", number=True),
            Column("95 %", number=True),
            Column("longest first", number=True),
            Column("by task", number=True),
        ),
        [
            (
                said,
                _number(found[name]),
                _between(intervals[name]),
                _number(found["longest"][name]),
                _number(found["task_prior"][name]),
            )
            for name, said in (("apgr_calls", "over calls"), ("apgr_usd", "over dollars"))
        ],
    )
    learned = f", after {found['learned']:,} labels" if found["learned"] else ""
    quality, cost = intervals["quality"], intervals["cost_usd"]
    console().print(
        f"{plural(found['n'], 'prompt')}{learned}: {found['cheap']} or {found['premium']}. The policy's quality is "
        f"within {_between(quality)} and its cost within {dollars(cost[0])} to {dollars(cost[1])} (95 %).",
        soft_wrap=True,
    )
    if found["near_duplicates"] >= MANY_ALIKE * found["n"]:
        console().print(
            f"Warning: {found['near_duplicates']:,} of them nearly repeat a line before them, as filled-in templates "
            "do. The intervals take each for a prompt of its own, and what --learn gains is partly learned by heart: "
            "other traffic will show less. Judge by more kinds of prompts.",
            soft_wrap=True,
        )
    if checks := found["checks"]:
        said = f"{checks['n']:,} had checks: {checks['passed']:.1%} passed, {checks['escalated']:.1%} escalated."
        if checks["not_judged"]:
            said += (
                f" Taken as passed on {checks['lines_not_judged']:,} of them, for the set can't tell: "
                f"{', '.join(checks['not_judged'])}."
            )
        console().print(said, soft_wrap=True)
    if found["refused"]:
        print(f"{found['refused']:,} of them were refused, and count as quality 0.")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _dollars(usd: float | None) -> str:
    return "not reached" if usd is None else dollars(usd)


def _dollars_between(pair: tuple[float, float] | None) -> str:
    return "-" if pair is None else f"{dollars(pair[0])} to {dollars(pair[1])}"


def _between(pair: tuple[float, float] | None) -> str:
    return "-" if pair is None else f"{pair[0]:.3f} to {pair[1]:.3f}"
