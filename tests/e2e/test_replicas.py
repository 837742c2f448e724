"""Replicas that are killed under load, one after the other, while callers go on: nothing lost, nothing left held."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet import EACH_NUSD, LEFT, TOKENS, Fleet, Load, running_fleet
from ledger.server import PostgresServer
from proxy import eventually, running_provider
from redis_server import running_redis

from router.providers.simulated import SimulatedProvider, Simulation

KILLS = int(os.environ.get("FARTHING_KILLS", "5"))
REPLICAS = 3


@pytest.fixture
def provider() -> Iterator[SimulatedProvider]:
    with running_provider(Simulation(calls_kept=1_000_000)) as provider:
        # A stream takes some 50 ms, so that most kills hit several.
        provider.faults.always("drip=0.002")
        yield provider


@pytest.fixture
def fleet(provider: SimulatedProvider, tmp_path: Path) -> Iterator[Fleet]:
    with (
        running_redis() as redis,
        PostgresServer() as postgres,
        running_fleet(tmp_path, provider, redis, postgres, REPLICAS) as fleet,
    ):
        yield fleet


def served_nusd(provider: SimulatedProvider) -> int:
    """Return what the upstream itself would bill: answers that went out whole, and the pieces of others."""
    billed = 0
    for call in provider.calls:
        whole = call.ended_at is not None and call.disconnected_at is None
        # Before the text a stream sends one event with the role.
        tokens = TOKENS if whole else min(TOKENS, max(0, call.chunks_sent - 1)) if call.body["stream"] else 0
        billed += tokens * 600
    return billed


def test_replicas_killed_at_random_moments_lose_no_answer_and_leave_no_hold(
    fleet: Fleet, provider: SimulatedProvider
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    moments = random.Random(seed)
    with Load(fleet) as load:
        for _ in range(KILLS):
            # The one that takes its place is started first: starting takes longer than all the rest.
            next_one = fleet.started()
            load.more(10)
            time.sleep(moments.uniform(0.0, 0.1))
            fleet.kill(moments.choice(fleet.live))
            fleet.join(next_one)
        load.more(10)
    fleet.settled()
    fleet.stop()
    eventually(lambda: all(call.ended_at is not None for call in provider.calls), "the end of every call")

    rows = fleet.rows()
    orphaned = [row for row in rows.values() if row["outcome"] == "held"]
    left = fleet.open_holds()
    before_nusd, held_nusd = fleet.budget("day")
    fleet.expire_holds(time.time())
    spent_nusd, still_held_nusd = fleet.budget("day")
    print(
        f"{KILLS} kills; {len(load.whole)} whole answers, {len(load.streamed)} streams, {load.endings[LEFT]} broken; "
        f"{len(rows)} rows, {len(orphaned)} of them orphaned, {len(rows.keys() & load.answered)} answered; "
        f"{left} holds left and expired; spent {spent_nusd} nUSD, the upstream served {served_nusd(provider)}"
    )
    assert set(load.endings) <= {LEFT}, "callers of replicas that live notice nothing"
    assert load.answered - rows.keys() == set()
    for request_id in load.answered:
        row = rows[request_id]
        assert (row["outcome"], row["certainty"]) in (("held", "ceiling"), ("answered", "reported"))
        assert row["charged_nusd"] == EACH_NUSD
    assert {row["charged_nusd"] for row in orphaned} <= {EACH_NUSD}

    assert held_nusd == left * EACH_NUSD, "what is held when all have ended is of those that were killed"
    assert (spent_nusd, still_held_nusd) == (before_nusd + held_nusd, 0)
    assert fleet.budget("month") == (spent_nusd, 0)
    assert fleet.open_holds() == 0
    assert spent_nusd >= max(served_nusd(provider), sum(row["charged_nusd"] for row in rows.values()))
    assert spent_nusd <= (len(provider.calls) + left) * EACH_NUSD, "and nothing was charged twice"
