"""The `farthing` command. One file a command; each imports what it needs when it is called, so that all start fast.

Exit status: 0 fine, 1 found what it looks for (a failing policy test, a broken file), 2 bad usage.
"""

from __future__ import annotations

import sys
from typing import Annotated, TextIO

import typer

from router.cli.advise import advise
from router.cli.check import check
from router.cli.demo.command import demo
from router.cli.difficulty import difficulty
from router.cli.evaluate.command import evaluate
from router.cli.experiment import experiment
from router.cli.explain import explain
from router.cli.init import init
from router.cli.keys import keys
from router.cli.replay import replay
from router.cli.schema import schema
from router.cli.serve import serve
from router.cli.spend import spend
from router.cli.table import unbroken
from router.cli.test import test
from router.errors import FarthingError, PolicyFaults

app = typer.Typer(
    name="farthing",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def farthing(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """A cost-aware routing proxy for large language models.

    Example: farthing serve --policies policies --simulate auto
    """
    if version:
        from importlib.metadata import version as installed

        print(f"farthing {installed('farthing')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


for command in (serve, check, test, explain, replay, evaluate, spend, advise, experiment, init, demo, schema):
    app.command(help=unbroken(command.__doc__ or ""))(command)
app.add_typer(keys, name="keys")
app.add_typer(difficulty, name="difficulty")


def main() -> None:
    """Run the command; a failure raised on purpose is one clear line, never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        _never_fail(stream)
    try:
        app()
    except PolicyFaults as error:
        for fault in error.faults:
            print(fault, file=sys.stderr)
        sys.exit(1)
    except FarthingError as error:
        print(f"farthing: {error.message}", file=sys.stderr)
        sys.exit(1)


def _never_fail(stream: TextIO) -> None:
    """Write what the terminal's encoding lacks as a question mark instead of failing."""
    from io import TextIOWrapper

    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="replace")
