"""The ledger that a command reads: where it is, and from when on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

LedgerOption = Annotated[str, typer.Option("--ledger-url", envvar="FARTHING_LEDGER_URL", help="Where the ledger is.")]
SinceOption = Annotated[
    str | None,
    typer.Option("--since", help="30m, 24h, 7d, 2w, or a date or time (UTC). Default: from the beginning."),
]
DEFAULT_LEDGER = "sqlite:///farthing.db"


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
