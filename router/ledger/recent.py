"""The newest rows of the ledger, as the console and GET /admin/requests show them: numbers and names, never a text."""

from __future__ import annotations

import msgspec

from router.ledger.contract import Store
from router.ledger.rows import CORRECTION
from router.values import Ending


class Tried(msgspec.Struct, frozen=True):
    """One attempt, as the ledger's column `attempts` has it."""

    model: str
    target: str
    reason: str
    status: int | None = None
    charged_nusd: int = 0
    ms: float = 0.0


class Recent(msgspec.Struct, frozen=True):
    """One request."""

    id: str
    at: str
    account: str | None
    task: str
    rule: str
    policy_revision: str
    requested_model: str
    routed_model: str | None
    provider: str | None
    kind: str | None
    outcome: str
    refusal: str | None
    certainty: str
    input_tokens: int | None
    output_tokens: int | None
    charged_nusd: int
    baseline_nusd: int
    overhead_nusd: int
    attempts: list[Tried]
    facts: dict[str, object]
    latency_ms: float


_NAMES = Recent.__struct_fields__
_JSON = ("attempts", "facts")


def recent(store: Store, limit: int, *, task: str | None = None) -> list[Recent]:
    """Return the last `limit` requests, newest first, those under way and shadows among them; blocks.

    Raises:
        StoreUnavailable: the ledger can't be read.
    """
    query = f"SELECT {', '.join(_NAMES)} FROM requests WHERE outcome NOT IN ($1, $2)"  # noqa: S608  names are ours
    values: list[str | int] = [CORRECTION, Ending.EXPERIMENT.value]
    if task is not None:
        query += " AND task = $3"
        values.append(task)
    values.append(limit)
    rows = store.ask(f"{query} ORDER BY at DESC, id DESC LIMIT ${len(values)}", values)
    return [_recent(dict(zip(_NAMES, row, strict=True))) for row in rows]


def _recent(row: dict[str, object]) -> Recent:
    for name in _JSON:
        text = row[name]
        row[name] = msgspec.json.decode(text) if isinstance(text, str) else text
    return msgspec.convert(row, Recent)
