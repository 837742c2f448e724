"""How the ledger keeps the end of a canary, and what it tells of one that is under way.

An end is a row under an id of its own, by the experiment's version and by how it ended, so that it is written once
whoever comes first. Its facts say why.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Struct

from router.ledger.contract import Store
from router.ledger.rows import time_text
from router.lifecycle.sample import Sample, Tried, part_of, sampled
from router.policy.experiment import MOST_SAMPLES, Experiment, Side
from router.values import Certainty, Ending, Outcome


class State(StrEnum):
    """Where an experiment stands."""

    PAUSED = "paused"
    """The ledger could not be asked yet whether it was aborted."""
    RUNNING = "running"
    ABORTED = "aborted"
    PROMOTED = "promoted"


class Ended(Struct, frozen=True):
    """How a canary ended, as the ledger keeps it."""

    state: State
    because: str
    at: str


def row_of_end(experiment: Experiment, state: State, because: str, at: datetime, revision: str) -> Outcome:
    """Return the row that says how a canary ended, under the policies of this revision."""
    return Outcome(
        id=_row_id(experiment, state),
        at=at,
        account=None,
        task=experiment.task,
        rule=experiment.rule,
        policy_revision=revision,
        requested_model=experiment.model,
        ending=Ending.EXPERIMENT,
        certainty=Certainty.REPORTED,
        facts={
            "experiment": {
                "name": experiment.name,
                "version": experiment.version,
                "state": state.value,
                "model": experiment.model,
            },
            "because": because,
        },
    )


def asked(store: Store, experiment: Experiment, since: datetime) -> tuple[Ended | None, list[tuple[str, Sample]]]:
    """Return how a canary ended, and its requests since then, oldest first; blocks.

    Raises:
        StoreUnavailable: the ledger can't be read.
    """
    ids = [_row_id(experiment, state) for state in (State.ABORTED, State.PROMOTED)]
    ends = {row[0]: row[1:] for row in store.ask("SELECT id, at, facts FROM requests WHERE id IN ($1, $2)", ids)}
    ended = None
    for request_id, state in zip(ids, (State.ABORTED, State.PROMOTED), strict=True):
        if ended is None and request_id in ends:
            at, facts = ends[request_id]
            ended = Ended(state, str(msgspec.json.decode(facts).get("because", "")), at)
    rows = store.ask(
        "SELECT id, charged_nusd, latency_ms, attempts, facts FROM requests WHERE at >= $1 AND task = $2 "
        "AND outcome IN ('answered', 'cut', 'failed') AND facts LIKE $3 ORDER BY at DESC LIMIT $4",
        [
            time_text(since),
            experiment.task,
            f'%"version":"{experiment.version}","side":"{Side.CANARY}"%',
            MOST_SAMPLES,
        ],
    )
    return ended, [*_samples(reversed(rows))]


def _row_id(experiment: Experiment, state: State) -> str:
    return f"experiment.{experiment.version}.{state}"


def _samples(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[str, Sample]]:
    for request_id, charged_nusd, latency_ms, attempts, facts in rows:
        part = part_of(msgspec.json.decode(facts))
        tried = msgspec.json.decode(attempts, type=list[Tried])
        if part and (sample := sampled(part, tried, charged_nusd, latency_ms, None)):
            yield request_id, sample
