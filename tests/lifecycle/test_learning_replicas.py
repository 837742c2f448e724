"""What is learned is kept, and is the same wherever it is served: on replicas, in workers and after `kill -9`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from e2e.test_workers import children
from ledger.server import PostgresServer
from proxy import Calls, ServeProcess, eventually, running_provider
from redis_server import running_redis

from lifecycle.mixture import CHEAP, MIXTURE, agree, asked, files, labels_in, rate, score, texts
from router.providers.simulated import Simulation

SEED = 23
ENVIRON = {"OPENAI_API_KEY": "k"}
START_S = 60.0
"""Several interpreters start on a machine that others use as well."""
INSTRUCTIONS = "You work for a parcel service. Answer its customers in one line.\n\n"


@pytest.fixture(scope="module")
def provider_url() -> Iterator[str]:
    with running_provider(Simulation(answerer=MIXTURE)) as provider:
        yield provider.base_url


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="module")
def learning_on_postgresql(
    provider_url: str, postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Calls]:
    options = ("--ledger-url", postgres.new_database())
    folder = tmp_path_factory.mktemp("postgresql")
    with ServeProcess(folder, files("{}", url=provider_url), *options, environ=ENVIRON) as process:
        yield process.ready()


def prompts(count: int, seed: int) -> list[str]:
    """Return prompts that all begin alike, as an application's do."""
    return [INSTRUCTIONS + text for text in texts(count, seed)]


UNSEEN = prompts(12, SEED + 1)


def scores(proxy: Calls) -> list[float]:
    return [score(proxy, text) for text in UNSEEN]


@pytest.mark.parametrize("source", ["shadow", "feedback"])
def test_replicas_on_one_postgresql_learn_alike_and_again_after_a_kill(
    source: str, provider_url: str, postgres: PostgresServer, tmp_path: Path
) -> None:
    ledger = postgres.new_database()
    policies = {
        "shadow": files(agree(), url=provider_url),
        "feedback": files(
            "{feedback: trusted, explore: 0}", route="  - {name: all, use: [cheap, premium]}\n", url=provider_url
        ),
    }[source]

    def replica() -> ServeProcess:
        options = ("--ledger-url", ledger, "--spool", str(tmp_path / "spool"))
        return ServeProcess(tmp_path, policies, *options, environ=ENVIRON)

    def teach(answering: Calls, rated: Calls, seed: int) -> None:
        before = len(labels_in(ledger))
        sent = prompts(120, seed)
        for text in sent:
            request_id = asked(answering, text).headers["x-farthing-request-id"]
            if source == "feedback":
                told = rate(rated, request_id, float(MIXTURE.is_right(CHEAP, text)))
                assert told.json().get("learned") is True, told.text
        eventually(lambda: len(labels_in(ledger)) == before + len(sent), "a label of each")

    with replica() as first, replica() as second:
        one, two = first.ready(), second.ready()
        cold = scores(one)
        assert scores(two) == cold
        teach(one, two, SEED)
        eventually(lambda: scores(one) == scores(two) != cold, "the same on both")
        first.kill()
        with replica() as again:
            three = again.ready()
            assert scores(three) == scores(two)
            before = scores(two)
            teach(three, two, SEED + 2)
            eventually(lambda: scores(three) == scores(two) != before, "the same on both, with what is new")
    assert {row.source for row in labels_in(ledger)} == {source}


@pytest.mark.anyio
async def test_labels_on_their_way_when_a_proxy_is_told_to_stop_are_kept(
    provider_url: str, postgres: PostgresServer, tmp_path: Path
) -> None:
    ledger = postgres.new_database()
    verify = "{agree: {with: premium, by: number}, escalate_to: premium, buffer: true}"
    route = f"  - {{name: all, use: cheap, verify: {verify}}}\n"
    policies = files("{explore: 0}", route=route, url=provider_url)
    options = ("--ledger-url", ledger, "--spool", str(tmp_path / "spool"))
    with ServeProcess(tmp_path, policies, *options, environ=ENVIRON) as process:
        proxy = await asyncio.to_thread(process.ready)
        connection = await asyncpg.connect(ledger)

        async def writing() -> set[int]:
            return {row[0] for row in await connection.fetch("SELECT pid FROM pg_locks WHERE NOT granted")}

        async with asyncio.timeout(START_S), connection.transaction():
            await connection.execute("LOCK TABLE labels IN SHARE MODE")
            for text in prompts(5, SEED):
                await asyncio.to_thread(asked, proxy, text)
            while not (first := await writing()):
                await asyncio.sleep(0.02)
            process.child.terminate()
            while first & await writing():
                await asyncio.sleep(0.02)
        await connection.close()
        await asyncio.to_thread(process.child.wait, START_S)
    assert len(await asyncio.to_thread(labels_in, ledger)) == 5


@pytest.mark.parametrize("request_id", ["", "\0", "0123\0", "' OR 1 = 1 --", "\u00e9" * 99])
def test_what_is_no_request_is_not_found_on_postgresql(learning_on_postgresql: Calls, request_id: str) -> None:
    assert rate(learning_on_postgresql, request_id, 1).status_code == 404


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_reset_beside_two_proxies_is_heard_by_both_and_they_learn_on_alike(
    kind: str, provider_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    ledger = f"sqlite:///{tmp_path / 'ledger.db'}"
    if kind == "postgresql":
        ledger = request.getfixturevalue("postgres").new_database()
    policies = files(agree(), url=provider_url)

    def replica() -> ServeProcess:
        options = ("--ledger-url", ledger, "--spool", str(tmp_path / "spool"))
        return ServeProcess(tmp_path, policies, *options, environ=ENVIRON)

    def farthing(*words: str) -> str:
        command = [sys.executable, "-m", "router", "difficulty", *words, "--task", "default", "--ledger-url", ledger]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def told(proxy: Calls) -> list[float]:
        # Nothing that requests share, which a proxy leaves out where it saw it in traffic of its own.
        return [score(proxy, text) for text in texts(12, SEED + 1)]

    def teach(answering: Calls, seed: int) -> None:
        before = len(labels_in(ledger))
        for text in texts(120, seed):
            asked(answering, text)
        eventually(lambda: len(labels_in(ledger)) == before + 120, "a label of each")

    with replica() as first, replica() as second:
        one, two = first.ready(), second.ready()
        cold = told(one)
        assert told(two) == cold
        teach(one, SEED)
        eventually(lambda: told(one) == told(two) != cold, "what was learned, on both")
        assert "forgotten" in farthing("reset")
        assert [row.source for row in labels_in(ledger)] == ["reset"]
        eventually(lambda: told(one) == told(two) == cold, "version 0 on both")
        shown = json.loads(farthing("show", "--policies", str(tmp_path / "policies"), "--json"))
        assert (shown["version"], shown["labels"]) == (0, {})
        teach(two, SEED + 2)
        eventually(lambda: told(one) == told(two) != cold, "what was learned after it, on both")
        with replica() as third:
            three = third.ready()
            eventually(lambda: told(one) == told(two) == told(three) != cold, "the same on one that starts then")


def test_workers_on_one_file_learn_alike_and_again_after_a_kill(provider_url: str, tmp_path: Path) -> None:
    policies = files(agree(), url=provider_url)
    with running_redis() as redis:
        options = ("--workers", "2", "--budgets-url", redis.url)
        with ServeProcess(tmp_path, policies, *options, environ=ENVIRON) as process:
            proxy = process.ready()
            # Each connection goes to a worker of its own.
            proxy.http.headers["connection"] = "close"

            def all_say(wanted: list[float] | None = None) -> list[float] | None:
                """Return what every worker says, as far as 24 rounds can tell; None where they differ."""
                said = {tuple(scores(proxy)[:2]) for _ in range(24)}
                found = scores(proxy)
                return found if len(said) == 1 and wanted in (None, found) else None

            cold = all_say()
            assert cold is not None
            for text in prompts(120, SEED):
                asked(proxy, text)
            eventually(lambda: len(labels_in(f"sqlite:///{proxy.ledger}")) == 120, "a label of each")
            learned = eventually(lambda: found if (found := all_say()) != cold else None, "the same in both", START_S)
            before = children(process.child.pid)
            os.kill(before[0], signal.SIGKILL)
            eventually(lambda: len(set(children(process.child.pid)) - {before[0]}) == 2, "another worker", START_S)
            eventually(lambda: all_say(learned), "the same in both", START_S)
