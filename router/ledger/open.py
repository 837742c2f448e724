"""A ledger's URL turned into its store."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from router.errors import StoreUnavailable
from router.ledger.contract import Store
from router.ledger.instance import own_instance
from router.ledger.spool import Spool
from router.ledger.sqlite import SqliteStore

POSTGRES = ("postgresql://", "postgres://")


def open_store(url: str, *, read_only: bool = False) -> Store:
    """Open `sqlite:///relative/path`, `sqlite:////absolute/path` or `postgresql://user@host/database`.

    A database that is reached over the network may be away: its store connects when it is first used.

    Raises:
        StoreUnavailable: the scheme is unknown, or the file can't be opened.
        SchemaTooNew: a newer Farthing has brought the file up.
    """
    if url.startswith("sqlite:///"):
        return SqliteStore(Path(url.removeprefix("sqlite:///")), read_only=read_only)
    if url.startswith(POSTGRES):
        from router.ledger.postgres import PostgresStore  # noqa: PLC0415  its driver takes 0.1 s to import

        return PostgresStore(url)
    scheme, colon, _ = url.partition("://")
    wrong = f"Unknown ledger URL '{scheme}://…'" if colon else "The ledger's URL does not begin with the kind of ledger"
    raise StoreUnavailable(
        f"{wrong}; use sqlite:///farthing.db (four slashes for an absolute path) or postgresql://host/database."
    )


def open_spool(url: str, on_outage: Literal["auto", "spool", "closed"], folder: Path) -> Spool | None:
    """Return where rows go while the ledger at `url` is away; None where new work is refused instead.

    auto: spool for a database that is reached over the network, refuse where the ledger is a file of this machine.

    Raises:
        StoreUnavailable: the folder can't be made or written.
    """
    if on_outage == "closed" or (on_outage == "auto" and not url.startswith(POSTGRES)):
        return None
    return Spool(folder, own_instance())
