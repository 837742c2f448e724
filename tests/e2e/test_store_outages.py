"""Redis and PostgreSQL taken away under load, from two replicas that share them: what is documented, and no more.

Each test ends with the same question: do budgets and ledger agree to the nano-dollar, with nothing held, and nothing
that a caller got missing or doubled?
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from fleet import EACH_NUSD, Fleet, Load, running_fleet
from ledger.server import PostgresServer
from proxy import eventually, running_provider
from redis_server import RedisServer, running_redis

from router.providers.simulated import SimulatedProvider

REPLICAS = 2
OUTAGE_S = float(os.environ.get("FARTHING_OUTAGE_S", "3"))
"""How long PostgreSQL is stopped."""
FLUSHES = 5


@pytest.fixture(scope="module")
def provider() -> Iterator[SimulatedProvider]:
    with running_provider() as provider:
        provider.faults.always("drip=0.001")
        yield provider


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


def agree(fleet: Fleet, load: Load, *, allowed: set[str]) -> None:
    """Check that nothing was lost or charged twice, and that callers were refused for nothing but `allowed`."""
    fleet.settled()
    eventually(lambda: fleet.budget("day")[1] == 0, "no hold that is left")
    rows = fleet.rows()
    answered = {key for key, row in rows.items() if row["outcome"] == "answered"}
    print(
        f"{len(load.whole)} whole answers, {len(load.streamed)} streams, {dict(load.refusals)} refused, the slowest "
        f"after {load.slowest_s:.2f} s; {len(rows)} rows; spent {fleet.budget('day')[0]} nUSD"
    )
    assert set(load.refusals) <= allowed
    assert set(load.endings) <= {503}, "no connection broke"
    assert answered == load.answered
    assert {row["outcome"] for row in rows.values()} <= {"answered", "refused"}
    charged_nusd = sum(row["charged_nusd"] for row in rows.values())
    assert charged_nusd == len(answered) * EACH_NUSD
    assert fleet.budget("day") == fleet.budget("month") == (charged_nusd, 0)


def flush(server: RedisServer) -> None:
    with redis.Redis(port=server.port) as client:
        client.flushall()


def test_redis_stopped_and_started_under_load_refuses_meanwhile_and_loses_nothing(
    provider: SimulatedProvider, server: RedisServer, postgres: PostgresServer, tmp_path: Path
) -> None:
    with running_fleet(tmp_path, provider, server, postgres, REPLICAS) as fleet:
        with Load(fleet) as load:
            for _ in range(2):
                load.more(40)
                server.kill()
                load.more_refused(20)
                server.start()
            load.more(40)
        assert fleet.metric("farthing_budget_rebuilds_total") == 2, "one of the replicas rebuilt them, each time"
        agree(fleet, load, allowed={"store_unavailable"})
    assert load.slowest_s < 5.0


def test_redis_stopped_under_load_is_not_noticed_where_each_replica_may_spend_its_share(
    provider: SimulatedProvider, server: RedisServer, postgres: PostgresServer, tmp_path: Path
) -> None:
    options = ("--budgets-on-outage", "local", "--replicas", str(REPLICAS))
    with running_fleet(tmp_path, provider, server, postgres, REPLICAS, *options) as fleet:
        with Load(fleet) as load:
            load.more(40)
            fleet.heard()
            server.kill()
            load.more(200)
            server.start()
            load.more(40)
        agree(fleet, load, allowed=set())


def test_redis_emptied_under_load_is_rebuilt_and_callers_notice_nothing(
    provider: SimulatedProvider, server: RedisServer, postgres: PostgresServer, tmp_path: Path
) -> None:
    with running_fleet(tmp_path, provider, server, postgres, REPLICAS) as fleet:
        with Load(fleet) as load:
            for number in range(1, FLUSHES + 1):
                load.more(40)
                flush(server)
                load.more(1)
                assert fleet.metric("farthing_budget_rebuilds_total") == number
        agree(fleet, load, allowed=set())


def test_postgresql_stopped_for_a_while_under_load_is_not_noticed_and_loses_nothing(
    provider: SimulatedProvider, server: RedisServer, postgres: PostgresServer, tmp_path: Path
) -> None:
    with running_fleet(tmp_path, provider, server, postgres, REPLICAS) as fleet:
        with Load(fleet) as load:
            load.more(40)
            postgres.stop()
            back_at = time.perf_counter() + OUTAGE_S
            while time.perf_counter() < back_at:
                load.more(40)
            waiting = fleet.metric("farthing_ledger_queue")
            postgres.start()
            load.more(40)
        print(f"{OUTAGE_S:g} s without PostgreSQL; {waiting:.0f} rows waited in the spools")
        assert waiting > 0
        agree(fleet, load, allowed=set())
    assert not [path for path in (tmp_path / "spool").iterdir() if path.stat().st_size]


def test_redis_emptied_while_postgresql_is_away_is_rebuilt_once_every_row_is_there(
    provider: SimulatedProvider, server: RedisServer, postgres: PostgresServer, tmp_path: Path
) -> None:
    """Without the ledger nobody knows what was spent, so that nothing is held until it is back and complete."""
    with running_fleet(tmp_path, provider, server, postgres, REPLICAS) as fleet:
        with Load(fleet) as load:
            load.more(40)
            postgres.stop()
            load.more(100)
            flush(server)
            load.more_refused(20)
            postgres.start()
            load.more(40)
        agree(fleet, load, allowed={"store_unavailable"})
