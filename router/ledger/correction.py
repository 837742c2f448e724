"""Rows that a crash cut off, and how an operator puts a charge right: by a row that is added, never by a change.

A correction bears the time of the row that it corrects, so that sums of that day come out right; its own time is in
its `facts`. Counters of budgets that run do not hear of it: they are right again when they are rebuilt.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from router.errors import InvalidRequest
from router.ledger.contract import Entry, Store
from router.ledger.instance import is_gone
from router.ledger.rows import CORRECTION, HELD_FOR_S, NAMES, Row, time_text
from router.values import Certainty, Ending


def orphans(store: Store, now: datetime) -> list[Entry]:
    """Return the requests that nobody will settle, oldest first; each stays charged at its ceiling until corrected."""
    return [entry for entry in store.held() if is_orphan(entry, now)]


def is_orphan(entry: Entry, now: datetime) -> bool:
    """Say whether a held row's process is gone, or its time is past."""
    if entry.outcome != Ending.HELD:
        return False
    until = entry.held_until
    if until is None:
        until = time_text(datetime.fromisoformat(entry.at) + timedelta(seconds=HELD_FOR_S))
    return until < time_text(now) or (entry.instance is not None and is_gone(entry.instance))


def correction(store: Store, request_id: str, right_nusd: int, note: str, now: datetime) -> Row | None:
    """Return the row that makes a request's charge `right_nusd` in all, whatever earlier corrections made of it.

    None where it is that already; a row that a crash cut off gets one all the same, for it says that somebody looked.
    Its id counts the corrections of that request, so that of two that are made at once only one is written.

    Raises:
        InvalidRequest: there is no such request, it is a correction itself, or it may still be settled.
    """
    entry = store.entry(request_id)
    if entry is None:
        raise InvalidRequest(f"There is no request '{request_id[:80]}' in the ledger.")
    if entry.outcome == CORRECTION:
        raise InvalidRequest(f"'{request_id[:80]}' is a correction; correct the request that it names.")
    if entry.outcome == Ending.HELD and not is_orphan(entry, now):
        raise InvalidRequest(f"'{request_id[:80]}' is under way and will be settled; it can be corrected after that.")
    count, added_nusd = store.corrected(request_id)
    added_now_nusd = right_nusd - entry.charged_nusd - added_nusd
    if not added_now_nusd and (count or entry.outcome != Ending.HELD):
        return None
    values = {
        "id": f"{request_id}/{count + 1}",
        "at": entry.at,
        "account": entry.account,
        "task": entry.task,
        "rule": entry.rule,
        "policy_revision": entry.policy_revision,
        "requested_model": entry.requested_model,
        "routed_model": entry.routed_model,
        "provider": entry.provider,
        "kind": entry.kind,
        "outcome": CORRECTION,
        "certainty": Certainty.REPORTED.value,
        "estimated_nusd": 0,
        "held_nusd": 0,
        "charged_nusd": added_now_nusd,
        "baseline_nusd": 0,
        "overhead_nusd": 0,
        "over_budget_nusd": 0,
        "attempts": "[]",
        "facts": msgspec.json.encode({"corrected_at": time_text(now)}).decode(),
        "latency_ms": 0.0,
        "corrects": request_id,
        "note": note,
    }
    return tuple(values.get(name) for name in NAMES)
