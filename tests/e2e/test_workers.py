"""Several workers on one port: what a caller, a scraper and an operator see of them, whichever of them dies."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from proxy import WITHIN_S, Calls, Row, ServeProcess, eventually, ledger_rows, write_policies
from redis_server import RedisServer, running_redis

from e2e.conftest import files_for
from e2e.test_idempotency import REPLAY, keyed
from router.policy.reading.load import load_folder
from router.pricing import Catalogue
from router.providers.simulated import SimulatedProvider
from router.web.background import LAG_EVERY_S
from router.web.reload import PolicyFolder

WORKERS = 3
FEWER = 2
"""Where a third would show no more: each is an interpreter to start."""
START_S = 60.0
"""Several interpreters start one after another, on a machine that others use as well."""
MODELS = """
models:
  cheap: {{target: openai/gpt-4o-mini, base_url: "{url}"}}
  dear: {{target: openai/gpt-4o, base_url: "{url}"}}
"""
"""With the usual deadlines, for several workers may be slow."""
BODY = {"model": "auto", "messages": [{"role": "user", "content": "Where is my parcel?"}]}


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    with running_redis() as running:
        yield running


@dataclass(slots=True)
class Served:
    """A supervisor and its workers."""

    process: ServeProcess
    calls: Calls
    folder: Path

    def workers(self) -> list[int]:
        return children(self.process.child.pid)

    def ask(self, **members: object) -> httpx.Response:
        """Ask on a connection of its own, which any worker may accept."""
        return httpx.post(f"{self.calls.base_url}/chat/completions", json={**BODY, **members}, timeout=WITHIN_S)

    def in_flight(self) -> float:
        """Scrape the requests under way, not at once after another scrape: it is one, until its worker tells again."""
        time.sleep(1.5 * LAG_EVERY_S)
        return self.calls.metric("farthing_inflight_requests")

    def metrics_folders(self) -> list[Path]:
        return list(self.folder.glob("farthing-metrics-*"))

    def kill(self, worker: int) -> None:
        """End a worker as `kill -9` does, and wait until another serves in its place."""
        before = self.policy_reloads()
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: worker not in self.workers(), "the end of a worker")

        def all_there() -> bool:
            return len(self.workers()) == WORKERS and self.policy_reloads() > before

        eventually(all_there, "another worker", START_S)

    def policy_reloads(self) -> float:
        return self.calls.metric("farthing_policy_reloads_total", result="accepted")


def files(provider: SimulatedProvider) -> dict[str, str]:
    return files_for(provider, models=MODELS.format(url=provider.base_url))


@contextmanager
def served(provider: SimulatedProvider, server: RedisServer, folder: Path, workers: int = WORKERS) -> Iterator[Served]:
    options = ("--workers", str(workers), "--budgets-url", server.url)
    environ = {"TMPDIR": str(folder)}
    with ServeProcess(folder, files(provider), *options, environ=environ) as process:
        calls = process.ready()
        # A connection that is kept would die with its worker.
        calls.http.headers["connection"] = "close"
        yield Served(process, calls, folder)


@pytest.fixture(scope="module")
def module_served(
    shared_provider: SimulatedProvider, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    with served(shared_provider, redis_server, tmp_path_factory.mktemp("workers")) as running:
        yield running


@pytest.fixture
def running(module_served: Served, provider: SimulatedProvider) -> Served:
    return module_served


def children(parent: int) -> list[int]:
    """Return the processes that `parent` started and that have not ended."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True)
    rows = (line.split() for line in listed.stdout.splitlines())
    return [int(pid) for pid, ppid, stat in rows if int(ppid) == parent and not stat.startswith("Z")]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def settled(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["outcome"] != "held"]


def agree(running: Served) -> bool:
    """Say whether the counters of all workers together are what the ledger has."""
    rows = ledger_rows(running.calls.ledger)
    charged_nusd = sum(row["charged_nusd"] for row in rows)
    return len(settled(rows)) == len(rows) == running.calls.metric("farthing_requests_total") and (
        charged_nusd == running.calls.metric_nusd("farthing_cost_usd_total")
    )


def test_all_workers_answer_and_any_of_them_tells_the_sum(running: Served) -> None:
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda _: running.ask(), range(120)))
    assert {answer.status_code for answer in answers} == {200}
    eventually(lambda: agree(running), "metrics and ledger that agree")
    scrapes = {running.calls.metric("farthing_requests_total") for _ in range(10)}
    assert scrapes == {float(len(ledger_rows(running.calls.ledger)))}
    text = httpx.get(f"{running.calls.url}/metrics").text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for gauge in ("farthing_event_loop_lag_seconds", "farthing_price_catalogue_age_days", "farthing_inflight_requests"):
        assert [sample.labels for sample in families[gauge].samples] == [{}]
    assert len(families["farthing_policy_info"].samples) == 1
    eventually(lambda: running.in_flight() == 1, "no request but the scrape")


def test_counters_outlive_a_worker_and_its_gauges_do_not(running: Served) -> None:
    for _ in range(10):
        assert running.ask().status_code == 200
    eventually(lambda: agree(running), "metrics and ledger that agree")
    for dead in running.workers():
        running.kill(dead)
        assert agree(running)
    for _ in range(10):
        assert running.ask().status_code == 200
    eventually(lambda: agree(running), "metrics and ledger that agree")
    eventually(lambda: running.in_flight() == 1, "no request but the scrape")


def test_a_worker_killed_under_load_takes_its_own_requests_along_and_no_more(
    running: Served, provider: SimulatedProvider
) -> None:
    provider.faults.always("drip=0.01")
    dead = running.workers()[0]

    def ask(number: int) -> httpx.Response | None:
        try:
            return running.ask(stream=number % 2 == 0)
        except httpx.TransportError:
            return None

    with ThreadPoolExecutor(24) as threads:
        asked = [threads.submit(ask, number) for number in range(150)]
        eventually(lambda: len(provider.calls) > 40, "some load")
        running.kill(dead)
        answers = [one.result() for one in asked]
    whole = [answer for answer in answers if answer is not None]
    assert {answer.status_code for answer in whole} == {200}
    assert len(answers) - len(whole) <= 24
    rows = {row["id"]: row for row in ledger_rows(running.calls.ledger)}
    assert {answer.headers["x-farthing-request-id"] for answer in whole} <= rows.keys()
    counted = running.calls.metric("farthing_requests_total")
    print(f"{len(whole)} of {len(answers)} answered; {len(rows) - len(settled(list(rows.values())))} rows held")
    assert len(settled(list(rows.values()))) <= counted <= len(rows)


def test_a_reload_reaches_every_worker(running: Served, provider: SimulatedProvider) -> None:
    before = running.policy_reloads()
    text = "task: default\nbaseline: dear\nroute:\n  - name: edited\n    use: cheap\n"
    write_policies(running.folder / "policies", {"default": text})
    eventually(lambda: running.policy_reloads() == before + WORKERS, "a reload of each")
    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(lambda _: running.ask(), range(60)))
    assert {answer.headers["x-farthing-rule"] for answer in answers} == {"edited"}
    text = running.calls.http.get("/metrics").text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    assert sum(sample.name == "farthing_policy_info" for sample in samples) == 1


def test_a_worker_that_takes_a_dead_ones_place_does_not_open_a_proxy_that_had_accounts(
    provider: SimulatedProvider, redis_server: RedisServer, tmp_path: Path
) -> None:
    with served(provider, redis_server, tmp_path) as running:
        assert running.process.child.stderr is not None
        said: list[str] = []
        threading.Thread(target=said.extend, args=(running.process.child.stderr,), daemon=True).start()
        accounts = f'accounts:\n  team: {{keys: ["sha256:{hashlib.sha256(b"fk-team").hexdigest()}"]}}\n'

        def refused() -> list[str]:
            return [line for line in said if "no accounts are left" in line and "rejected" not in line]

        reloads = running.policy_reloads()
        write_policies(running.folder / "policies", {"accounts": accounts})
        eventually(lambda: running.policy_reloads() == reloads + WORKERS, "accounts at every worker")
        (running.folder / "policies" / "accounts.yaml").unlink()
        before = running.workers()
        for worker in before[1:]:
            os.kill(worker, signal.SIGKILL)
        for count in (1, 2):
            eventually(lambda count=count: len(refused()) >= count, "a worker that does not start", START_S)
            assert {running.ask().status_code for _ in range(20)} == {401}
        write_policies(running.folder / "policies", {"accounts": accounts})
        eventually(lambda: len(running.workers()) == WORKERS, "workers again", START_S)
        assert running.ask().status_code == 401


def test_an_edit_between_the_first_read_and_the_watch_is_found(tmp_path: Path) -> None:
    text = "task: default\nroute: [{use: cheap}]\n"
    models = "models: {cheap: {target: openai/gpt-4o-mini}}\n"
    write_policies(tmp_path, {"default": text, "models": models})
    folder = PolicyFolder(
        tmp_path,
        partial(load_folder, catalogue=Catalogue(), environ={}),
        lambda policies: policies,
        lambda revision: None,
        time.time,
    )
    first = folder.read().revision
    write_policies(tmp_path, {"default": text + "baseline: cheap\n"})

    async def found() -> str:
        changed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        watching = asyncio.create_task(folder.watch(lambda policies: changed.set_result(policies.revision)))
        try:
            return await asyncio.wait_for(changed, WITHIN_S)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    assert asyncio.run(found()) != first


def test_the_same_key_at_every_worker_is_one_call(running: Served, provider: SimulatedProvider) -> None:
    provider.faults.always("drip=0.02")
    call = f"{running.calls.base_url}/chat/completions"
    with ThreadPoolExecutor(25) as threads:
        answers = list(
            threads.map(lambda _: httpx.post(call, json=BODY, headers=keyed("all"), timeout=WITHIN_S), range(50))
        )
    assert {answer.status_code for answer in answers} == {200}
    assert sum(REPLAY in answer.headers for answer in answers) == 49
    assert len(provider.calls) == 1


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGHUP])
def test_told_to_stop_it_ends_the_streams_under_way(
    provider: SimulatedProvider, redis_server: RedisServer, tmp_path: Path, told: signal.Signals
) -> None:
    provider.faults.always("drip=0.02")
    with served(provider, redis_server, tmp_path, FEWER) as running:
        assert running.metrics_folders()
        child = running.process.child

        def stream() -> str:
            call = f"{running.calls.base_url}/chat/completions"
            with httpx.stream("POST", call, json={**BODY, "stream": True}, timeout=WITHIN_S) as response:
                return "".join(response.iter_text())

        with ThreadPoolExecutor(8) as threads:
            streams = [threads.submit(stream) for _ in range(8)]
            eventually(lambda: len(provider.calls) == 8, "the calls of all streams")
            child.send_signal(told)
            texts = [one.result() for one in streams]
        assert {text[-60:].partition("data: ")[2] for text in texts} == {"[DONE]\n\n"}
        assert child.wait(WITHIN_S) == 0
        assert not running.metrics_folders()
        with pytest.raises(httpx.ConnectError):
            running.ask()
        assert [row["outcome"] for row in ledger_rows(running.calls.ledger)] == ["answered"] * 8


def test_no_worker_is_left_when_the_supervisor_is_killed(
    provider: SimulatedProvider, redis_server: RedisServer, tmp_path: Path
) -> None:
    with served(provider, redis_server, tmp_path, FEWER) as running:
        workers = running.workers()
        assert len(workers) == FEWER
        running.process.kill()
        eventually(lambda: not any(map(is_alive, workers)), "the end of the workers")
        assert not running.metrics_folders()


def test_a_broken_folder_is_told_once(redis_server: RedisServer, tmp_path: Path) -> None:
    options = ("--workers", str(WORKERS), "--budgets-url", redis_server.url)
    with ServeProcess(tmp_path, {"models": "models: {cheap: {target: nobody/nothing}}\n"}, *options) as process:
        out, told = process.child.communicate(timeout=START_S)
        assert process.child.returncode == 1
    assert out == ""
    assert told.count("models.yaml:") == 1
    assert "startup failed" not in told


def test_where_none_can_be_started_again_it_ends(
    provider: SimulatedProvider, redis_server: RedisServer, tmp_path: Path
) -> None:
    with served(provider, redis_server, tmp_path, FEWER) as running:
        write_policies(tmp_path / "policies", {"default": "task: default\nroute: []\n"})
        rejected = partial(running.calls.metric, "farthing_policy_reloads_total", result="rejected")
        eventually(lambda: rejected() == FEWER, "a rejected edit of each")
        assert running.ask().status_code == 200
        for worker in running.workers():
            os.kill(worker, signal.SIGKILL)
        assert running.process.child.wait(START_S) == 1
        with pytest.raises(httpx.ConnectError):
            running.ask()


def test_budgets_in_memory_are_refused_to_several_workers(tmp_path: Path) -> None:
    with ServeProcess(tmp_path, {}, "--workers", "2") as process:
        _, told = process.child.communicate(timeout=START_S)
        assert process.child.returncode == 2
    assert "--workers" in told
    assert "redis://" in told


def test_one_worker_shares_nothing(provider: SimulatedProvider, tmp_path: Path) -> None:
    with ServeProcess(tmp_path, files(provider), environ={"TMPDIR": str(tmp_path)}) as process:
        assert process.ready().metric("farthing_policy_reloads_total", result="accepted") == 1
        assert children(process.child.pid) == []
        assert not list(tmp_path.glob("farthing-metrics-*"))


def test_who_supervises_workers_imports_nothing_of_what_they_serve_with() -> None:
    program = "import router.cli, router.web.serving, sys; print([name for name in sys.modules if name in sys.argv])"
    served_with = ("router.web.app", "router.web.server", "router.policy.reading.load", "uvicorn", "tiktoken")
    command = [sys.executable, "-c", program, *served_with]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "[]\n"
