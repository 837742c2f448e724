"""`farthing keys`: keys for accounts. A key is printed once and kept nowhere; the policies hold its hash."""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Annotated

import typer

from router.cli.folder import JsonOption
from router.cli.table import print_json

KEY_BYTES = 32
PREFIX = "fk-"

keys = typer.Typer(no_args_is_help=True)


@keys.callback()
def _group() -> None:
    """Make keys for accounts.

    Example: farthing keys new --account search-team
    """


@keys.command()
def new(
    account: Annotated[str, typer.Option(help="The account's name in accounts.yaml.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Print a new key once, and the line that accounts.yaml needs to know it.

    An account may have several keys: put the new one beside the old, move the callers, take the old one out.

    Example: farthing keys new --account search-team
    """
    from router.policy.schema.kinds import NAME

    if not re.fullmatch(NAME, account):
        raise typer.BadParameter(
            f"{account[:80]!r} can't be an account's name: use up to 64 letters, digits, dots, dashes and "
            "underscores, the first a letter or a digit.",
            param_hint="--account",
        )
    key = PREFIX + secrets.token_urlsafe(KEY_BYTES)
    digest = f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"
    if as_json:
        print_json({"account": account, "key": key, "sha256": digest})
        return
    print(f"The key of {account}, shown this once; give it to the caller as its API key:\n\n  {key}\n")
    print("Put this under `accounts:` in accounts.yaml (in a file of your own, after a line `version: 1`):\n")
    print(f'  {account}:\n    keys: ["{digest}"]')
