"""`farthing difficulty`: what the difficulty score is made of, what a task learned, and weights of one's own."""

from __future__ import annotations

import asyncio
import sys
import uuid
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from router.cli.folder import DEFAULT_FOLDER, FolderOption, JsonOption, read_folder
from router.cli.ledger import DEFAULT_LEDGER, LedgerOption
from router.cli.table import Column, dollars, plural, print_json, print_table

if TYPE_CHECKING:
    from router.lifecycle.learned import Learned, Seconds
    from router.policy.policy import Policy, PolicySet

difficulty = typer.Typer(
    help="What the score is made of, and what tasks learned.\n\nExample: farthing difficulty show --task support",
    no_args_is_help=True,
)


@difficulty.command()
def train(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILES...",
            help="Labelled sets as `farthing evaluate` reads them, or a CSV of pairs (id, source, task, weak, strong, "
            "q_weak, q_strong) followed by the JSON lines of its prompts (id, prompt). May end in .gz.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Where the weights are written.")],
    reference: Annotated[
        list[Path] | None,
        typer.Option(help="JSON lines of prompts like your traffic, labelled or not; of several, each counts as much."),
    ] = None,
) -> None:
    """Train weights for the difficulty score. The same files give the same bytes on every machine.

    Example: farthing difficulty train labelled.jsonl --out weights.json
    """
    from router.cli.table import console
    from router.cli.written import spare
    from router.difficulty.train import doubt, read_examples, read_prompts
    from router.difficulty.train import train as trained
    from router.difficulty.weights import write_weights

    spare({"--out": out}, [*files, *(reference or ())])
    with console(stderr=True).status("Reading…") as status:
        examples = read_examples(files)
        references = [read_prompts(file) for file in reference or ()]
        status.update(f"Training on {plural(len(examples), 'prompt')}…")
        weights = trained(examples, references)
    try:
        write_weights(weights, out)
    except OSError as error:
        raise typer.BadParameter(f"{out} can't be written: {error.strerror}.", param_hint="--out") from None
    print(f"Wrote {out}: {out.stat().st_size:,} bytes, from {plural(len(examples), 'labelled prompt')}.")
    if why := doubt(examples):
        print(f"farthing: {why}.".replace("?.", "?"), file=sys.stderr)


@difficulty.command()
def show(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]", help="Weights; default: those in the folder of policies, else the shipped ones."
        ),
    ] = None,
    task: Annotated[str | None, typer.Option(help="Say what this task learned from its traffic instead.")] = None,
    policies: FolderOption = DEFAULT_FOLDER,
    ledger_url: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Say what a task learned from its traffic and how good that is, or what weights were trained on.

    Example: farthing difficulty show --task support
    """
    if task is not None:
        if file is not None:
            raise typer.BadParameter("Name a task or a file of weights, not both.", param_hint="--task")
        return _show_task(task, policies, ledger_url, as_json=as_json)
    return _show_weights(file, policies, as_json=as_json)


@difficulty.command()
def reset(
    task: Annotated[str, typer.Option(help="The task that is to forget.")],
    policies: FolderOption = DEFAULT_FOLDER,
    ledger_url: LedgerOption = DEFAULT_LEDGER,
) -> None:
    """Forget what a task learned: its labels leave the ledger, and every proxy scores as one that has just started.

    It is safe beside running proxies, which follow within seconds. Learning goes on where the policy says so.

    Example: farthing difficulty reset --task support
    """
    from router.ledger.labels import LabelRow
    from router.ledger.open import open_store
    from router.ledger.rows import time_text

    with closing(open_store(ledger_url, read_only=True)) as store:
        newest = store.newest_label(task)
        labels = store.labels(task, 0, 1)
        labelled = store.labelled_tasks()
    if task not in labelled and task not in (own := _tasks(policies)):
        known = ", ".join(dict.fromkeys((*own, *labelled))) or "none"
        raise typer.BadParameter(
            f"There is no task '{task}' in {policies} or with labels in the ledger. There is: {known}.",
            param_hint="--task",
        )
    if not labels or (labels[0].source == "reset" and newest == labels[0].seq):
        print(f"The task {task} has learned nothing.")
        return
    at = time_text(datetime.now(UTC))
    marker = LabelRow(task, at, f"reset.{uuid.uuid4().hex}", "reset", "", "", 0.0, None, 1.0, "{}")

    async def forget() -> None:
        with closing(open_store(ledger_url)) as writing:
            await writing.open()
            await writing.reset_labels(marker)

    asyncio.run(forget())
    print(f"The task {task} has forgotten its labels up to number {newest}.")


def _show_task(task: str, folder: Path, ledger_url: str, *, as_json: bool) -> None:
    from router.ledger.open import open_store
    from router.lifecycle.learned import learned

    found = read_folder(folder).checked()
    policy = _policy(task, found)
    with closing(open_store(ledger_url, read_only=True)) as store:
        told = learned(store, found, policy)
    if as_json:
        print_json(told.described())
        return
    print_table((Column("learning"), Column(task, prose=True)), _lines(told))


def _tasks(folder: Path) -> tuple[str, ...]:
    """Return the tasks that the folder of policies has; none where there is no folder, for labels tell of others."""
    return tuple(read_folder(folder).checked().policies) if folder.is_dir() else ()


def _policy(task: str, policies: PolicySet) -> Policy:
    policy = policies.policies.get(task)
    if policy is None:
        known = ", ".join(policies.policies)
        raise typer.BadParameter(f"There is no task '{task}'; there is: {known}.", param_hint="--task")
    return policy


def _lines(told: Learned) -> list[tuple[str, str]]:
    """Return what was learned as a table's rows."""
    sources = ", ".join(f"{source} {count:,}" for source, count in sorted(told.labels.items())) or "none"
    served = "no label" if told.version == 0 else f"label {told.version} of {told.newest}"
    if told.labels and not told.version:
        served = f"{served}, until what they teach is seen to tell those held back better"
    if told.left_out:
        sources += f"; {told.left_out:,} of other models or of ignored ratings are left out"
    rows = [("labels", sources), ("in service", served if told.learns else f"{served}; this task does not learn")]
    if told.seconds.asked:
        seconds = told.seconds
        graded = f"{seconds.graded:,} graded of the latest {seconds.asked:,}, for {dollars(seconds.cost_usd)}"
        rows.append(("second answers", graded if seconds.graded else f"{graded}: nothing is learned from them"))
    if told.seconds.has_no_room:
        rows.append(("budget of second answers", _no_room(told.seconds)))
    for name, quality in (("now", told.served), ("without labels", told.cold)):
        if quality is None:
            continue
        share = "-" if quality.recovered is None else f"{quality.recovered:.2f}"
        rows.append((f"held back: recovered {name}", f"{share} (random 0.50) on {plural(quality.labels, 'label')}"))
        rows.append((f"held back: error {name}", f"{quality.error:.3f}"))
    rows += [
        (f"share above {each.threshold:g}", f"{each.got:.1%} of {each.requests:,} requests, asked {each.asked:.1%}")
        for each in told.shares
    ]
    if told.drift is not None:
        drift = told.drift
        rows.append(("drift: mean gain", f"{drift.gain_before:.2f} before, {drift.gain_now:.2f} now"))
        rows.append(("drift: score", f"{drift.score_shift:+.2f} standard deviations"))
    return rows


def _no_room(seconds: Seconds) -> str:
    assert seconds.per_day_usd is not None, "it has no room in something"
    assert seconds.holds_usd is not None, "something has no room in it"
    return (
        f"the day's {dollars(seconds.per_day_usd)} has no room for what a request without max_tokens holds, "
        f"{dollars(seconds.holds_usd)}, so that such requests teach nothing: raise budget_per_day_usd, or lower the "
        "task's per_request_usd"
    )


def _show_weights(file: Path | None, folder: Path, *, as_json: bool) -> None:
    from router.difficulty.weights import read_weights, shipped_weights
    from router.policy.reading.load import WEIGHTS

    if file is None and (folder / WEIGHTS).exists():
        file = folder / WEIGHTS
    weights = shipped_weights() if file is None else read_weights(file)
    told: dict[str, object] = {
        "file": None if file is None else str(file),
        "format": weights.format,
        "trained_on": weights.trained_on,
        "data_sha256": weights.data_sha256,
        "reference": {f"{share}%": weights.reference[share] for share in (0, 10, 25, 50, 75, 90, 100)},
    }
    if as_json:
        print_json(told)
        return
    sources = ", ".join(f"{source} {count:,}" for source, count in weights.trained_on.items())
    rows = [("file", "the shipped one" if file is None else str(file)), ("format", str(weights.format))]
    rows += [("prompts", sources), ("SHA-256 of the data", weights.data_sha256)]
    rows += [(f"score of the {share}% point", f"{weights.reference[share]:.2f}") for share in (10, 25, 50, 75, 90)]
    print_table((Column("weights"), Column("value", prose=True)), rows)
