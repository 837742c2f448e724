"""Labels as rows of the table `labels`: what was learned of a request, in one order for every reader.

A task's labels are numbered without gaps in the order in which they were committed, so that whoever has read up to a
number has read all before it. A rating that is given again is another row, in the place of the first: places number
what was labelled, and how many labels there are is told by places. Rows hold numbers, names and hashes of words, never
text. They are added, never changed; old ones are taken away, and a reset takes all away but a row that says so.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from router.difficulty.lessons import EPOCH

Source = Literal["shadow", "feedback", "check", "reset"]

KEPT = 3 * EPOCH
"""Labels of a task that are kept; readers need twice an epoch."""
MOST_RATINGS = 10
"""How often one request may be rated otherwise than before; the last rating counts, and they are one label."""
MOST_RATINGS_OF_EPOCH = EPOCH * 3 // 4
"""Of the newest `EPOCH` labels, where ratings need others to confirm them: what they displaced could confirm none."""


class LabelRow(Struct, frozen=True):
    """One label of a task; `seq` is its number there, 0 until the store has given one."""

    task: str
    at: str
    request_id: str
    source: Source
    cheap: str
    """Our names of the two models that are compared; empty in a reset."""
    premium: str
    gain: float
    """How much better the premium model's answer is, -1 to 1."""
    cost_usd: float | None
    """How much more it cost; None where that is not known."""
    propensity: float
    """How likely it was that this label came to be, above 0 to 1."""
    look: str
    """What the score sees of the request, as JSON without text."""
    seq: int = 0
    cheap_targets: str | None = None
    """What the names stood for then; None where a version of before wrote the label."""
    premium_targets: str | None = None
    place: int = 0
    """As `seq`, but that of a request's first rating for each of its ratings, and without gaps for the others."""


CREATE = """CREATE TABLE labels (
task TEXT NOT NULL, seq BIGINT NOT NULL, at TEXT NOT NULL, request_id TEXT NOT NULL, source TEXT NOT NULL,
cheap TEXT NOT NULL, premium TEXT NOT NULL, gain DOUBLE PRECISION NOT NULL, cost_usd DOUBLE PRECISION,
propensity DOUBLE PRECISION NOT NULL, look TEXT NOT NULL, PRIMARY KEY (task, seq))"""
INDEX = "CREATE INDEX labels_request ON labels (task, request_id)"
ADD_TARGETS = (
    "ALTER TABLE labels ADD COLUMN cheap_targets TEXT",
    "ALTER TABLE labels ADD COLUMN premium_targets TEXT",
)

PLACE = "coalesce(place, seq)"
"""A version of before wrote no place; each of its labels has one of its own, for it counted them all."""
ADD_PLACE = (
    "ALTER TABLE labels ADD COLUMN place BIGINT",
    f"CREATE INDEX labels_place ON labels (task, {PLACE})",
)
NEWEST_PLACE = f"SELECT {PLACE} FROM labels WHERE task = CAST($1 AS TEXT) ORDER BY {PLACE} DESC LIMIT 1"  # noqa: S608  names are ours
"""Of one task; by the end of the index, for SQLite reads all of it to find the greatest."""

ADD = f"""
INSERT INTO labels (task, seq, at, request_id, source, cheap, premium, gain, cost_usd, propensity, look,
cheap_targets, premium_targets, place)
SELECT CAST($1 AS TEXT), newest.seq + 1, CAST($2 AS TEXT), CAST($3 AS TEXT), CAST($4 AS TEXT), CAST($5 AS TEXT),
CAST($6 AS TEXT), CAST($7 AS DOUBLE PRECISION), CAST($8 AS DOUBLE PRECISION), CAST($9 AS DOUBLE PRECISION),
CAST($10 AS TEXT), CAST($11 AS TEXT), CAST($12 AS TEXT),
coalesce((SELECT min(+{PLACE}) FROM labels WHERE task = CAST($1 AS TEXT) AND request_id = CAST($3 AS TEXT)
AND source = CAST($4 AS TEXT)), coalesce(({NEWEST_PLACE}), 0) + 1)
FROM (SELECT coalesce(max(seq), 0) AS seq FROM labels WHERE task = CAST($1 AS TEXT)) AS newest
WHERE (SELECT count(*) FROM labels WHERE task = CAST($1 AS TEXT) AND request_id = CAST($3 AS TEXT)
AND source = CAST($4 AS TEXT)) < CAST($13 AS BIGINT)
AND NOT EXISTS (SELECT 1 FROM labels WHERE task = CAST($1 AS TEXT) AND request_id = CAST($3 AS TEXT)
AND source = CAST($4 AS TEXT) AND cheap = CAST($5 AS TEXT) AND premium = CAST($6 AS TEXT)
AND gain = CAST($7 AS DOUBLE PRECISION) AND coalesce(cheap_targets, '') = coalesce(CAST($11 AS TEXT), '')
AND coalesce(premium_targets, '') = coalesce(CAST($12 AS TEXT), '')
AND seq = (SELECT max(seq) FROM labels WHERE task = CAST($1 AS TEXT) AND request_id = CAST($3 AS TEXT)
AND source = CAST($4 AS TEXT)))
"""  # noqa: S608  names are ours
"""Adds a label under the next number, unless its request has as many of that source as it may, or the last says so.

Without its plus sign, the least place would be looked for through all of the task's and not among the request's few.
"""
PRUNE = f"""
DELETE FROM labels WHERE task = CAST($1 AS TEXT) AND {PLACE} <= ({NEWEST_PLACE}) - CAST($2 AS BIGINT)
"""  # noqa: S608  names are ours
RATINGS = f"""
SELECT count(*), coalesce(sum(CASE WHEN requests.account = CAST($3 AS TEXT) THEN 1 ELSE 0 END), 0)
FROM (SELECT DISTINCT request_id FROM labels WHERE task = CAST($1 AS TEXT) AND source = 'feedback'
AND {PLACE} > ({NEWEST_PLACE}) - CAST($2 AS BIGINT)) AS rated
LEFT JOIN requests ON requests.id = rated.request_id
"""  # noqa: S608  names are ours
"""Counts the requests whose ratings are among a task's newest labels, and those of one account among these."""
RATED = """
SELECT gain, cheap, premium, cheap_targets, premium_targets FROM labels
WHERE task = $1 AND request_id = $2 AND source = 'feedback' ORDER BY seq DESC LIMIT 1
"""
"""Asks for what a request's last rating said."""
READ = f"""
SELECT task, at, request_id, source, cheap, premium, gain, cost_usd, propensity, look, seq,
cheap_targets, premium_targets, {PLACE} FROM labels WHERE task = $1 AND seq > $2 ORDER BY seq LIMIT $3
"""  # noqa: S608  names are ours

Change = tuple[str, tuple[str | int | float | None, ...]]
"""A statement and its values."""


def added(label: LabelRow) -> Change:
    """Return the statement that adds a label."""
    most = MOST_RATINGS if label.source == "feedback" else 1
    named = (label.task, label.at, label.request_id, label.source, label.cheap, label.premium)
    learned = (label.gain, label.cost_usd, label.propensity, label.look)
    return ADD, (*named, *learned, label.cheap_targets, label.premium_targets, most)


def pruned(task: str, kept: int = KEPT) -> Change:
    """Return the statement that leaves a task no more than its newest labels."""
    return PRUNE, (task, kept)
