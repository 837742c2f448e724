"""The versions of the ledger's schema, and the statements that bring an older one up.

A version only ever adds: a proxy of the version before goes on writing beside a newer one while replicas are replaced
one by one. Each store runs the statements in one transaction, under a lock that all replicas take.
"""

from __future__ import annotations

from collections.abc import Iterator

from router.errors import FarthingError
from router.ledger.labels import ADD_PLACE, ADD_TARGETS, CREATE, INDEX
from router.ledger.rows import COLUMNS

NEWEST = 5

_INDEXES: dict[int, tuple[str, ...]] = {
    1: ("CREATE INDEX IF NOT EXISTS requests_at ON requests (at)",),
    2: (
        # Holds all that the budgets ask for, so that a start reads the index alone: 0.1 to 0.2 s for a million rows.
        "CREATE INDEX requests_charged ON requests (at, task, account, charged_nusd)",
        "DROP INDEX requests_at",
        "CREATE INDEX requests_held ON requests (at) WHERE outcome = 'held'",
        "CREATE INDEX requests_corrects ON requests (corrects) WHERE corrects IS NOT NULL",
    ),
    3: (INDEX,),
}
_LABELS = {3: (CREATE,), 4: ADD_TARGETS, 5: ADD_PLACE}
"""What makes the table `labels`, by version; `requests` is made of its columns."""


class SchemaTooNew(FarthingError):
    """A newer Farthing has brought the ledger up; this one may misread it."""

    code = "schema_too_new"


def at_odds(found: int) -> str | None:
    """Say what is wrong with a ledger whose tables lack what a question asks for, and what to do; None for its version.

    `found` is its version, 0 where it has none.
    """
    if found == NEWEST:
        return None
    if found > NEWEST:
        return f"its schema is of version {found} and this Farthing knows {NEWEST} at most: use the newer Farthing"
    of = f"its schema is of version {found}" if found else "it is no ledger yet, or one of before schemas had versions"
    return (
        f"{of}, and this Farthing reads version {NEWEST}: start this version's `farthing serve` on it once, which "
        "brings it up and keeps its rows, or use the Farthing that wrote it"
    )


def pending(found: int, *, text: str = "TEXT") -> Iterator[str]:
    """Return the statements from version `found` (0: an empty database, or one of before there were versions) to ours.

    `text` is the type that the store uses for text.

    Raises:
        SchemaTooNew: the ledger is of a version that we do not know.
    """
    if found > NEWEST:
        raise SchemaTooNew(
            f"The ledger's schema is of version {found} and this Farthing knows {NEWEST} at most: "
            "use the newer Farthing that made it, or another ledger."
        )
    for version in range(found + 1, NEWEST + 1):
        columns = [f"{name} {kind.replace('TEXT', text)}" for name, kind, since in COLUMNS if since == version]
        if version == 1:
            yield f"CREATE TABLE IF NOT EXISTS requests ({', '.join(columns)})"
        else:
            yield from (f"ALTER TABLE requests ADD COLUMN {column}" for column in columns)
        yield from (statement.replace("TEXT", text) for statement in _LABELS.get(version, ()))
        yield from _INDEXES.get(version, ())
        yield f"INSERT INTO farthing_schema (version, at) VALUES ({version}, CURRENT_TIMESTAMP)"  # noqa: S608  ours
