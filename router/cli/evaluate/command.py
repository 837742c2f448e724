"""`farthing evaluate`: what would these policies cost and keep on prompts whose outcomes are known?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from router.cli.folder import DEFAULT_FOLDER, FolderOption, JsonOption, read_folder
from router.cli.progress import shown_work
from router.cli.table import print_json

if TYPE_CHECKING:
    from router.difficulty.labelled import Labelled
    from router.policy.policy import Policy, PolicySet


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
    from router.cli.evaluate.show import show
    from router.cli.written import spare
    from router.difficulty.labelled import read_labelled
    from router.difficulty.measure import Curve

    if plot is not None:
        drawable(plot)
    for option, written in (("--scores", scores), ("--plot", plot)):
        if written is not None and not written.parent.is_dir():
            raise typer.BadParameter(f"There is no folder {written.parent} for {written.name}.", param_hint=option)
    spare({"--scores": scores, "--plot": plot}, [file])
    loaded = read_folder(policies).checked()
    policy = _policy(loaded, task)
    with shown_work() as work:
        work.step("Reading")
        rows = read_labelled(file)
        evaluated = evaluate_set(rows, loaded, policy, learn, work)
        found = report(evaluated, task, work)
    pair = evaluated.pair
    found["not_in_models"] = [name for name in (pair.cheap, pair.premium) if name not in loaded.models]
    if (again := _told_twice(rows)) is not None:
        print(f"farthing: {file}: {again}.", file=sys.stderr)
    if scores is not None:
        _write_scores(scores, evaluated.scores)
    if plot is not None:
        draw(plot, found, Curve(evaluated.prompts).plain().points())
    if as_json:
        print_json(found)
    else:
        show(found)


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
