"""What a store of the ledger promises, whichever it is, and the questions that all of them answer by the same SQL.

Rows are written on the event loop. Questions block, and may be asked from any thread: who asks is a command, a start,
or a thread beside the loop.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Literal, NamedTuple

from router.errors import InvalidRequest, LedgerUnavailable
from router.ledger.labels import NEWEST_PLACE, READ, Change, LabelRow, added, pruned
from router.ledger.rows import CORRECTION, Row, time_text
from router.values import Ending

Grouping = Literal["task", "model", "account", "rule", "kind", "provider", "outcome", "day", "hour", "minute"]

_COLUMN_OF: dict[Grouping, str] = {
    "task": "task",
    "model": "coalesce(routed_model, 'none')",
    "account": "coalesce(account, 'none')",
    "rule": "rule",
    "kind": "coalesce(kind, 'none')",
    "provider": "coalesce(provider, 'none')",
    "outcome": "outcome",
    "day": "substr(at, 1, 10)",
    "hour": "substr(at, 1, 13)",
    "minute": "substr(at, 1, 16)",
}
SHADOW_SUFFIX = ".s"
"""What a shadow's id ends in; the rest is that of the request that it mirrors."""
LABELS_AT_ONCE = 50
"""Some 40 ms at a PostgreSQL beside us; after an outage 10,000 may come at once."""
_SUMS = (
    "charged_nusd",
    "baseline_nusd",
    "overhead_nusd",
    "over_budget_nusd",
    "input_tokens",
    "output_tokens",
)
_ENTRY = "id, at, account, task, rule, policy_revision, requested_model, routed_model, provider, kind, outcome, "
_ENTRY += "held_nusd, charged_nusd, instance, held_until"


def rows_from(tasks: Sequence[str]) -> str:
    """Return the condition on rows from `$1`, a time, on, of the tasks that are `$2`, `$3`…; none are all."""
    named = ", ".join(f"${number}" for number in range(2, 2 + len(tasks)))
    return f"at >= $1 AND task IN ({named})" if named else "at >= $1"


@dataclass(frozen=True, slots=True)
class Spend:
    """What one group of requests came to, in nUSD. Savings are `baseline_nusd - charged_nusd`."""

    group: tuple[str, ...]
    """One value for each grouping, in the order asked; empty for the total."""
    requests: int
    charged_nusd: int
    baseline_nusd: int
    overhead_nusd: int
    over_budget_nusd: int
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Length:
    """How long the answers of one model to one task were together, in one group."""

    group: tuple[str, ...]
    task: str
    routed_model: str
    requests: int
    input_tokens: int
    output_tokens: int


class Output(NamedTuple):
    """How long one answer was."""

    task: str
    routed_model: str
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One row as far as a correction of it must know it."""

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
    held_nusd: int
    charged_nusd: int
    instance: str | None
    held_until: str | None


class Store(ABC):
    """Where rows are kept."""

    name: ClassVar[Literal["sqlite", "postgresql"]]

    @abstractmethod
    async def open(self) -> None:
        """Connect, and bring the schema up; `write` does it by itself where that has not been done.

        Raises:
            StoreUnavailable: it can't be reached.
            SchemaTooNew: a newer Farthing has been there.
        """

    def join(self) -> bool:
        """Serve from here until `close`; return whether another proxy does already, as far as that can be told."""
        return False

    @abstractmethod
    async def write(self, rows: Sequence[Row]) -> int:
        """Commit all the rows or none, and return how many of them were news. No two bear the same id.

        A row whose id is there already replaces it only while that one is held: whoever writes twice, writes once.

        Raises:
            StoreUnavailable: it is not known whether they were committed; the same call may be made again.
        """

    @abstractmethod
    async def change(self, changes: Sequence[Change]) -> int:
        """Carry out statements on labels in their order, all or none, beside no others; return the rows they changed.

        Raises:
            StoreUnavailable: it is not known whether they were carried out.
        """

    @abstractmethod
    def ask(self, query: str, values: Sequence[str | int] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query whose values are `$1`, `$2`…

        Raises:
            StoreUnavailable: it can't be read.
        """

    @abstractmethod
    def close(self) -> None: ...

    @property
    def damage(self) -> LedgerUnavailable | None:
        """What is lastingly wrong with what is stored; None as far as is known. Rows may be taken all the same."""
        return None

    async def label(self, labels: Sequence[LabelRow]) -> int:
        """Add labels, each under its task's next number, and return how many were added; a second call adds none.

        Old ones make room. Of many, a few are added at a time, for rows wait as long, and an answer for its row.

        Raises:
            StoreUnavailable: it is not known how many were added; the same call may be made again.
        """
        count = 0
        for at in range(0, len(labels), LABELS_AT_ONCE):
            count += await self.change([added(label) for label in labels[at : at + LABELS_AT_ONCE]])
        await self.change([pruned(task) for task in dict.fromkeys(label.task for label in labels)])
        return count

    async def reset_labels(self, reset: LabelRow) -> None:
        """Take all labels of a task away, and leave `reset`, whose source says so, in their place.

        Raises:
            StoreUnavailable: it is not known whether that was done; the same call may be made again.
        """
        await self.change([added(reset), pruned(reset.task, kept=1)])

    def labels(self, task: str, after: int, limit: int) -> list[LabelRow]:
        """Return a task's labels whose numbers are above `after`, in their order."""
        return [LabelRow(*row) for row in self.ask(READ, [task, after, limit])]

    def newest_label(self, task: str) -> int:
        """Return the number of a task's newest label; 0 where it has none."""
        return int(self.ask("SELECT coalesce(max(seq), 0) FROM labels WHERE task = $1", [task])[0][0])

    def newest_place(self, task: str) -> int:
        """Return the place of a task's newest label; 0 where it has none."""
        rows = self.ask(NEWEST_PLACE, [task])
        return int(rows[0][0]) if rows else 0

    def labelled_tasks(self) -> list[str]:
        """Return the tasks that have labels, or had some before a reset, by name; may be empty."""
        return [str(row[0]) for row in self.ask("SELECT DISTINCT task FROM labels ORDER BY task")]

    def spend(self, by: Sequence[Grouping], since: datetime | None, tasks: Sequence[str] = ()) -> list[Spend]:
        """Return what was charged, by group, dearest first; without groups, one row of totals. No `tasks` are all."""
        groups = [_COLUMN_OF[grouping] for grouping in by]
        sums = [f"CAST(coalesce(sum({name}), 0) AS BIGINT)" for name in _SUMS]
        others = f"outcome IN ('{CORRECTION}', '{Ending.EXPERIMENT}') OR id LIKE '%{SHADOW_SUFFIX}'"
        count = f"count(CASE WHEN NOT ({others}) THEN 1 END)"
        query = f"SELECT {count}, {', '.join(sums + groups)} FROM requests WHERE {rows_from(tasks)}"  # noqa: S608  no input in it
        if groups:
            query += f" GROUP BY {', '.join(groups)} ORDER BY 2 DESC, 1 DESC, {', '.join(groups)}"
        rows = self.ask(query, [time_text(since) if since else "", *tasks])
        return [Spend(tuple(row[7:]), *row[:7]) for row in rows]

    def lengths(self, by: Sequence[Grouping], since: datetime | None, tasks: Sequence[str] = ()) -> list[Length]:
        """Return how long whole answers were, by group, task and model; those that have no baseline are left out."""
        groups = ["task", "routed_model", *(_COLUMN_OF[grouping] for grouping in by)]
        sums = [f"CAST(sum({name}) AS BIGINT)" for name in ("input_tokens", "output_tokens")]
        rows = self.ask(
            f"SELECT count(*), {', '.join(sums + groups)} FROM requests WHERE {rows_from(tasks)} "  # noqa: S608  no input in it
            "AND outcome = 'answered' "
            "AND routed_model IS NOT NULL AND output_tokens IS NOT NULL AND baseline_nusd > 0 "
            f"GROUP BY {', '.join(dict.fromkeys(groups))}",
            [time_text(since) if since else "", *tasks],
        )
        return [Length(tuple(row[5:]), row[3], row[4], *row[:3]) for row in rows]

    def require_tasks(self, tasks: Sequence[str]) -> None:
        """Make sure that there are rows of each task.

        Raises:
            InvalidRequest: of one there are none; says of which there are.
            StoreUnavailable: the ledger can't be read.
        """
        for task in tasks:
            if not self.ask("SELECT 1 FROM requests WHERE task = $1 LIMIT 1", [task]):
                known = [row[0] for row in self.ask("SELECT DISTINCT task FROM requests ORDER BY task LIMIT 50")]
                there_are = ", ".join(known) or "none of any"
                raise InvalidRequest(
                    f"The ledger has no request of the task '{task[:80]}'. It has: {there_are}.", param="task"
                )

    def charged_since(
        self, since: datetime, *, task: str | None, account: str | None, shadow: str | None = None
    ) -> int:
        """Return the nUSD charged (or held and never settled) since then, for budgets to start from.

        `shadow` is an experiment's name, task/rule: what its shadows alone were charged.
        """
        query = "SELECT CAST(coalesce(sum(charged_nusd), 0) AS BIGINT) FROM requests WHERE at >= $1"
        values = [time_text(since)]
        for column, value in (("task", task), ("account", account)):
            if value is not None:
                values.append(value)
                query += f" AND {column} = ${len(values)}"
        if shadow is not None:
            values += shadow.split("/", 1)
            query += f" AND task = ${len(values) - 1} AND rule = ${len(values)} AND id LIKE '%{SHADOW_SUFFIX}'"
        return int(self.ask(query, values)[0][0])

    def recent_outputs(self, limit: int) -> list[Output]:
        """Return the lengths of the last answers, newest first; one that was cut at its budget is among them."""
        rows = self.ask(
            "SELECT task, routed_model, output_tokens FROM requests WHERE outcome IN ('answered', 'cut') "
            "AND routed_model IS NOT NULL AND output_tokens IS NOT NULL ORDER BY at DESC LIMIT $1",
            [limit],
        )
        return [Output(*row) for row in rows]

    def held(self) -> list[Entry]:
        """Return the rows that are held and were not corrected, oldest first: under way, or cut off by a crash."""
        rows = self.ask(
            f"SELECT {_ENTRY} FROM requests WHERE outcome = 'held' AND NOT EXISTS "  # noqa: S608  names are ours
            "(SELECT 1 FROM requests AS other WHERE other.corrects = requests.id) ORDER BY at, id"
        )
        return [Entry(*row) for row in rows]

    def entry(self, request_id: str) -> Entry | None:
        """Return one row, or None where there is none."""
        rows = self.ask(f"SELECT {_ENTRY} FROM requests WHERE id = $1", [request_id])  # noqa: S608  names are ours
        return Entry(*rows[0]) if rows else None

    def corrected(self, request_id: str) -> tuple[int, int]:
        """Return how many corrections a row has, and what they add to its charge, in nUSD."""
        query = "SELECT count(*), CAST(coalesce(sum(charged_nusd), 0) AS BIGINT) FROM requests WHERE corrects = $1"
        count, charged_nusd = self.ask(query, [request_id])[0]
        return count, charged_nusd
