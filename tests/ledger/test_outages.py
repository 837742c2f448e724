"""A proxy on PostgreSQL as its callers and operators see it, through outages and crashes of either."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
from proxy import Calls, ServeProcess, eventually, running_provider

from ledger.server import PostgresServer, asyncio_run
from router.providers.simulated import SimulatedProvider

CALLERS = 8


@pytest.fixture(scope="module")
def provider() -> Iterator[SimulatedProvider]:
    with running_provider() as provider:
        yield provider


@pytest.fixture
def policies(provider: SimulatedProvider) -> dict[str, str]:
    return {
        "models": f"models:\n  cheap: {{target: openai/gpt-4.1-nano, base_url: '{provider.root_url}/v1'}}\n",
        "default": "task: default\nroute: [{use: cheap}]\n",
    }


def serving(folder: Path, policies: dict[str, str], url: str) -> ServeProcess:
    options = ["--ledger-url", url, "--spool", str(folder / "spool"), "--simulate", "never"]
    return ServeProcess(folder, policies, *options)


def rows(url: str) -> dict[str, tuple[str, int]]:
    async def read() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(url)
        try:
            return list(await connection.fetch("SELECT id, outcome, charged_nusd FROM requests"))
        finally:
            await connection.close()

    found = asyncio_run(read())
    assert len({row["id"] for row in found}) == len(found)
    return {row["id"]: (row["outcome"], row["charged_nusd"]) for row in found}


class Load:
    """Callers that ask without a pause, some of them for streams, and note each answer that they got whole."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls
        self.answered: list[str] = []
        self.refused: list[int] = []
        self._ended = Event()
        self._threads = ThreadPoolExecutor(CALLERS)
        self._futures = [self._threads.submit(self._ask, number) for number in range(CALLERS)]

    def end(self) -> None:
        self._ended.set()
        for future in self._futures:
            future.result(30)
        self._threads.shutdown()

    def more(self, number: int) -> None:
        """Wait until so many more are answered."""
        before = len(self.answered)
        eventually(lambda: len(self.answered) >= before + number, f"{number} more answers", within_s=30)

    def _ask(self, number: int) -> None:
        with httpx.Client(base_url=self.calls.url, timeout=20, trust_env=False) as http:
            while not self._ended.is_set():
                body = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}
                try:
                    answer = http.post("/v1/chat/completions", json={**body, "stream": number % 2 == 0})
                except httpx.TransportError:
                    return
                whole = answer.status_code == 200 and (number % 2 or "[DONE]" in answer.text)
                if whole:
                    self.answered.append(answer.headers["x-farthing-request-id"])
                else:
                    self.refused.append(answer.status_code)


def assert_tells_no_address(answer: httpx.Response, url: str) -> None:
    database = urlsplit(url)
    for part in (database.hostname, str(database.port), database.path.strip("/")):
        assert part is not None
        assert part not in answer.text


def settled(calls: Calls) -> None:
    eventually(lambda: calls.metric("farthing_ledger_queue") == 0, "an empty ledger queue", within_s=30)


def test_postgresql_stopped_under_load_is_not_noticed_by_callers(
    postgres: PostgresServer, tmp_path: Path, policies: dict[str, str]
) -> None:
    url = postgres.new_database()
    with serving(tmp_path, policies, url) as process:
        calls = process.ready()
        load = Load(calls)
        load.more(50)
        postgres.stop()
        load.more(200)
        ready = calls.http.get("/health/ready")
        assert (ready.status_code, ready.json()["status"]) == (200, "ready")
        assert "rows wait in the spool" in ready.json()["degraded"]
        assert_tells_no_address(ready, url)
        assert calls.metric("farthing_ledger_queue") > 0
        postgres.start()
        load.more(50)
        load.end()
        settled(calls)
        eventually(lambda: "degraded" not in calls.http.get("/health/ready").json(), "all is well again")
        found = rows(url)
        calls.close()
    assert load.refused == []
    assert {found[request_id][0] for request_id in load.answered} == {"answered"}
    assert len(found) == len(load.answered)
    print(f"{len(found)} requests, {len(load.answered)} answered, none lost or double")


def test_a_proxy_killed_during_an_outage_loses_no_answer(
    postgres: PostgresServer, tmp_path: Path, policies: dict[str, str]
) -> None:
    url = postgres.new_database()
    answered: list[str] = []
    try:
        for round_ in range(3):
            with serving(tmp_path, policies, url) as process:
                calls = process.ready()
                assert round_ == 0 or "degraded" in calls.http.get("/health/ready").json(), "away at the start"
                load = Load(calls)
                if round_ == 0:
                    load.more(50)
                    postgres.stop()
                load.more(100)
                process.kill()
                load.end()
                calls.close()
                answered += load.answered
    finally:
        postgres.start()
    with serving(tmp_path, policies, url) as process:
        calls = process.ready()
        settled(calls)
        found = rows(url)
        calls.close()
    missing = set(answered) - set(found)
    held = [outcome for outcome, _ in found.values() if outcome == "held"]
    print(f"{len(answered)} answered over three kills, {len(found)} in the ledger, {len(held)} of them held")
    assert not missing
    assert all(charged_nusd > 0 for _, charged_nusd in found.values())
    assert [path for path in (tmp_path / "spool").iterdir() if path.suffix != ".jsonl"] == []


def test_closed_means_that_new_work_is_refused(
    postgres: PostgresServer, tmp_path: Path, policies: dict[str, str]
) -> None:
    url = postgres.new_database()
    options = ["--ledger-url", url, "--ledger-on-outage", "closed"]
    with ServeProcess(tmp_path, policies, *options) as process:
        calls = process.ready()
        assert calls.ask(max_tokens=3).status_code == 200
        settled(calls)
        postgres.stop()
        try:
            calls.ask(max_tokens=3)
            refused = calls.ask(max_tokens=3)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "store_unavailable")
            ready = calls.http.get("/health/ready")
            assert (ready.status_code, "The ledger can't be reached now (" in ready.json()["reason"]) == (503, True)
            assert_tells_no_address(ready, url)
            assert refused.json()["error"]["message"] == ready.json()["reason"]
        finally:
            postgres.start()
        eventually(lambda: calls.http.get("/health/ready").status_code == 200, "ready again")
        assert calls.ask(max_tokens=3).status_code == 200
        settled(calls)
        calls.close()
    assert [outcome for outcome, _ in rows(url).values()] == ["answered"] * 3


def test_budgets_in_memory_wait_for_a_ledger_that_is_away_at_the_start(
    postgres: PostgresServer, tmp_path: Path, policies: dict[str, str]
) -> None:
    """They start from what the ledger says was spent, so no work is taken on before it has been asked."""
    url = postgres.new_database()
    policies = {**policies, "default": "task: default\nbudget: {per_day_usd: 1}\nroute: [{use: cheap}]\n"}
    with serving(tmp_path, policies, url) as process:
        calls = process.ready()
        assert calls.ask(max_tokens=3).status_code == 200
        settled(calls)
        spent = calls.metric("farthing_budget_spent_usd", scope="task")
        assert spent > 0
        calls.close()
    postgres.stop()
    try:
        with serving(tmp_path, policies, url) as process:
            calls = process.ready()
            ready = calls.http.get("/health/ready")
            assert (ready.status_code, "The budgets start from the ledger." in ready.text) == (503, True)
            assert_tells_no_address(ready, url)
            assert calls.ask(max_tokens=3).json()["error"]["code"] == "store_unavailable"
            postgres.start()
            eventually(lambda: calls.http.get("/health/ready").status_code == 200, "ready")
            assert calls.metric("farthing_budget_spent_usd", scope="task") == spent
            assert calls.ask(max_tokens=3).status_code == 200
            calls.close()
    finally:
        postgres.start()


def test_callers_are_not_told_where_a_ledger_is_that_is_away_and_the_log_is(
    postgres: PostgresServer, tmp_path: Path, policies: dict[str, str]
) -> None:
    url = postgres.new_database()
    database = url.rpartition("/")[2]
    options = ["--ledger-url", url, "--ledger-on-outage", "closed", "--log-level", "info"]
    with ServeProcess(tmp_path, policies, *options, environ={"FARTHING_ADMIN_KEY": "fk-admin"}) as process:
        calls = process.ready()
        rated = {"request_id": calls.ask(max_tokens=3).headers["x-farthing-request-id"], "score": 1}
        settled(calls)
        postgres.stop()
        try:
            calls.ask(max_tokens=3)
            admin = {"authorization": "Bearer fk-admin"}
            answers = [
                calls.ask(max_tokens=3),
                calls.ask(max_tokens=3, headers={"x-farthing-dry-run": "true"}),
                calls.http.post("/v1/feedback", json=rated),
                *(calls.http.get(f"/admin/{path}", headers=admin) for path in ("requests", "spend")),
            ]
        finally:
            postgres.start()
        calls.close()
        process.kill()
        assert process.child.stderr is not None
        logged = process.child.stderr.read()
    for answer in answers:
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
        assert "ledger" in answer.json()["error"]["message"]
        assert_tells_no_address(answer, url)
    assert all(answer.headers["x-farthing-request-id"] in logged for answer in answers)
    assert database in logged
