"""`farthing difficulty`: what the difficulty score is made of, and weights of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from router.cli.folder import JsonOption
from router.cli.table import Column, plural, print_json, print_table

difficulty = typer.Typer(
    help="Train the weights of the difficulty score, or say what they are.\n\nExample: farthing difficulty show",
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
    from router.difficulty.train import read_examples, read_prompts
    from router.difficulty.train import train as trained
    from router.difficulty.weights import write_weights

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


@difficulty.command()
def show(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Weights; default: the shipped ones.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what weights were trained on, and how the score of unknown traffic is spread.

    Example: farthing difficulty show
    """
    from router.difficulty.weights import read_weights, shipped_weights

    weights = shipped_weights() if file is None else read_weights(file)
    told: dict[str, object] = {
        "format": weights.format,
        "trained_on": weights.trained_on,
        "data_sha256": weights.data_sha256,
        "reference": {f"{share}%": weights.reference[share] for share in (0, 10, 25, 50, 75, 90, 100)},
    }
    if as_json:
        print_json(told)
        return
    sources = ", ".join(f"{source} {count:,}" for source, count in weights.trained_on.items())
    rows = [("format", str(weights.format)), ("prompts", sources), ("SHA-256 of the data", weights.data_sha256)]
    rows += [(f"score of the {share}% point", f"{weights.reference[share]:.2f}") for share in (10, 25, 50, 75, 90)]
    print_table((Column("weights"), Column("value", prose=True)), rows)
