"""The ledger that a command reads: where it is, and from when on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated

import typer

LedgerOption = Annotated[str, typer.Option("--ledger-url", envvar="FARTHING_LEDGER_URL", help="Where the ledger is.")]
SinceOption = Annotated[
    str | None,
    typer.Option("--since", help="30m, 24h, 7d, 2w, or a date or time (UTC). Default: from the beginning."),
]
TasksOption = Annotated[
    list[str] | None, typer.Option("--task", help="Of these tasks alone: one, or several with commas. Default: all.")
]
DEFAULT_LEDGER = "sqlite:///farthing.db"


def tasks_of(written: list[str] | None) -> tuple[str, ...]:
    """Return the tasks that `--task` names, each once; empty where it is not given.

    Raises:
        BadParameter: it is given, and names none.
    """
    from router.ledger.report import task_names

    with bad_tasks():
        return task_names(written or ())


@contextmanager
def bad_tasks() -> Iterator[None]:
    """Turn the ledger's word on what it can't be asked for into bad usage."""
    from router.errors import InvalidRequest

    try:
        yield
    except InvalidRequest as error:
        raise typer.BadParameter(error.message, param_hint="--task") from None


def since_of(text: str) -> datetime:
    """Return the time that `--since` names.

    Raises:
        BadParameter: it names none.
    """
    from router.errors import InvalidRequest
    from router.ledger.report import parse_since

    try:
        return parse_since(text, datetime.now(UTC))
    except InvalidRequest as error:
        raise typer.BadParameter(error.message, param_hint="--since") from None
