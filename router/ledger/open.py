"""A ledger's URL turned into its store."""

from __future__ import annotations

from pathlib import Path

from router.errors import StoreUnavailable
from router.ledger.contract import Store
from router.ledger.sqlite import SqliteStore

DEFAULT_URL = "sqlite:///farthing.db"


def open_store(url: str, *, read_only: bool = False) -> Store:
    """Open `sqlite:///relative/path` or `sqlite:////absolute/path`.

    Raises:
        StoreUnavailable: the scheme is unknown, or the store can't be opened.
    """
    if url.startswith("sqlite:///"):
        return SqliteStore(Path(url.removeprefix("sqlite:///")), read_only=read_only)
    raise StoreUnavailable(f"Unknown ledger URL '{url.split('://', 1)[0]}://…'; use sqlite:///farthing.db.")
