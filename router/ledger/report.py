"""What a ledger's rows came to: the numbers behind `farthing spend` and GET /admin/spend."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

from router.errors import InvalidRequest
from router.ledger.baseline import Shift, shifts
from router.ledger.contract import Entry, Grouping, Spend, Store, rows_from
from router.ledger.correction import orphans
from router.ledger.rows import time_text
from router.ledger.spool import rows_waiting_in
from router.policy.backtest.recorded import Record
from router.policy.policy import PolicySet
from router.values import usd_number

_SPAN = re.compile(r"^(\d{1,6})([mhdw])$")
ROWS_A_PAGE = 2_000
"""How many rows are in memory at once, of about 1 kB each."""
_RECORD = ", ".join(Record.__struct_fields__)
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_since(text: str, now: datetime) -> datetime:
    """Read "7d", "24h", "30m", "2w", a date or a time in ISO 8601 (UTC where it names no zone).

    Raises:
        InvalidRequest: it is none of these.
    """
    try:
        if span := _SPAN.match(text):
            return now - timedelta(**{_UNITS[span[2]]: int(span[1])})
        at = datetime.fromisoformat(text)
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        # The latter is of a time before the year 1 or after 9999.
        raise InvalidRequest(f"'{text[:40]}' is no time: use 7d, 24h, 2026-11-21 or 2026-11-21T08:00.") from None


def groupings(by: str) -> tuple[Grouping, ...]:
    """Read "task,model" as groupings.

    Raises:
        InvalidRequest: one of them does not exist; says which there are.
    """
    known: tuple[Grouping, ...] = get_args(Grouping)
    names = tuple(dict.fromkeys(name.strip() for name in by.split(",") if name.strip()))
    for name in names:
        if name not in known:
            raise InvalidRequest(f"Can't group by '{name[:40]}'; there is: {', '.join(known)}.", param="by")
    return names  # type: ignore[return-value]  # each was found among the known


def task_names(written: Iterable[str]) -> tuple[str, ...]:
    """Read texts like "support,code" as names of tasks, each once.

    Raises:
        InvalidRequest: a text names none.
    """
    found: dict[str, None] = {}
    for text in written:
        names = [name.strip() for name in text.split(",") if name.strip()]
        if not names:
            raise InvalidRequest(f"'{text[:40]}' names no task; leave it out for all of them.", param="task")
        found |= dict.fromkeys(names)
    return tuple(found)


def spend_report(
    store: Store,
    by: str,
    since: datetime | None,
    spool: Path,
    policies: PolicySet | None = None,
    tasks: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the contract's object: totals in dollars, and a row a group with its own, dearest first.

    `baseline_low_usd` and `baseline_high_usd` lie around each baseline: it as it is, and with the answers of
    `baseline_compared` requests as long as the baseline model's own usually are; None where nobody knows, as without
    `policies`, which say which model that is and what it costs. `spooled_rows` are those that wait in this machine's
    `spool`, at most, and are in none of the sums. `orphans` and `orphaned_usd` are requests that a crash cut off, and
    what they are charged at, their ceilings; the sums count them. No `tasks` are all.

    Raises:
        InvalidRequest: `by` names something that can't be grouped by, or `tasks` one that has no rows.
        StoreUnavailable: the ledger can't be read.
    """
    names = groupings(by)
    store.require_tasks(tasks)
    total = store.spend((), since, tasks)[0]
    cut_off = _orphans(store, datetime.now(UTC), since, tasks)
    of_all = shifts(store, policies, (), since, tasks) if policies else {}
    of_groups = shifts(store, policies, names, since, tasks) if policies and names else {}
    return {
        "total_usd": usd_number(total.charged_nusd),
        **_sums(total),
        **_range(total, of_all.get(())),
        "rows": [
            {
                **dict(zip(names, row.group, strict=True)),
                "cost_usd": usd_number(row.charged_nusd),
                **_sums(row),
                **_range(row, of_groups.get(row.group)),
            }
            for row in (store.spend(names, since, tasks) if names else [])
        ],
        "orphans": len(cut_off),
        "orphaned_usd": usd_number(sum(entry.charged_nusd for entry in cut_off)),
        "spooled_rows": rows_waiting_in(spool),
    }


def orphans_report(
    store: Store, now: datetime, since: datetime | None = None, tasks: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the requests from `since` on that a crash cut off, oldest first, and what they are charged at together.

    Raises:
        InvalidRequest: there are no rows of one of the `tasks`.
        StoreUnavailable: the ledger can't be read.
    """
    store.require_tasks(tasks)
    found = _orphans(store, now, since, tasks)
    return {
        "held_usd": usd_number(sum(entry.charged_nusd for entry in found)),
        "orphans": [
            {
                "id": entry.id,
                "at": entry.at,
                "task": entry.task,
                "model": entry.routed_model,
                "account": entry.account,
                "held_usd": usd_number(entry.charged_nusd),
                "instance": entry.instance,
            }
            for entry in found
        ],
    }


def _orphans(store: Store, now: datetime, since: datetime | None, tasks: Sequence[str]) -> list[Entry]:
    found = (entry for entry in orphans(store, now) if entry.at >= _from(since))
    return [entry for entry in found if not tasks or entry.task in tasks]


def count_since(store: Store, since: datetime | None, tasks: Sequence[str] = ()) -> int:
    """Return how many rows there are from `since` on.

    Raises:
        StoreUnavailable: the ledger can't be read.
    """
    query = f"SELECT count(*) FROM requests WHERE {rows_from(tasks)}"  # noqa: S608  no input in it
    return int(store.ask(query, [_from(since), *tasks])[0][0])


def records_since(store: Store, since: datetime | None, tasks: Sequence[str] = ()) -> Iterator[list[Record]]:
    """Yield the rows from `since` on, oldest first, a page at a time; a page is never empty.

    Raises:
        StoreUnavailable: the ledger can't be read.
    """
    at, last_id = _from(since), ""
    past = f"(at > ${len(tasks) + 2} OR id > ${len(tasks) + 3})"
    while True:
        found = store.ask(
            f"SELECT {_RECORD} FROM requests WHERE {rows_from(tasks)} AND {past} "  # noqa: S608  names are ours
            f"ORDER BY at, id LIMIT {ROWS_A_PAGE}",
            [at, *tasks, at, last_id],
        )
        if not found:
            return
        yield [Record(*row) for row in found]
        last_id, at = found[-1][:2]


def charged_before(store: Store, since: datetime) -> list[tuple[str, str | None, str, int]]:
    """Return the nUSD charged in the month of `since` before it, by task, account and hour, in order of time.

    Raises:
        StoreUnavailable: the ledger can't be read.
    """
    begin = since.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    rows = store.ask(
        "SELECT task, account, substr(at, 1, 13) AS hour, CAST(sum(charged_nusd) AS BIGINT) FROM requests "
        "WHERE at >= $1 AND at < $2 GROUP BY task, account, hour ORDER BY hour",
        [time_text(begin), time_text(since)],
    )
    return [(task, account, hour, nusd) for task, account, hour, nusd in rows]


def _from(since: datetime | None) -> str:
    return time_text(since) if since else ""


def _sums(spend: Spend) -> dict[str, Any]:
    return {
        "requests": spend.requests,
        "baseline_usd": usd_number(spend.baseline_nusd),
        "overhead_usd": usd_number(spend.overhead_nusd),
        "saved_usd": usd_number(spend.baseline_nusd - spend.charged_nusd),
        "over_budget_usd": usd_number(spend.over_budget_nusd),
        "input_tokens": spend.input_tokens,
        "output_tokens": spend.output_tokens,
    }


def _range(spend: Spend, shift: Shift | None) -> dict[str, Any]:
    if shift is None:
        return {"baseline_low_usd": None, "baseline_high_usd": None, "baseline_compared": 0}
    ends = sorted((spend.baseline_nusd, spend.baseline_nusd + shift.nusd))
    low_usd, high_usd = (usd_number(max(0, end)) for end in ends)
    return {"baseline_low_usd": low_usd, "baseline_high_usd": high_usd, "baseline_compared": shift.requests}
