"""Nothing lost, nothing twice: kill -9 under load, restarts, budgets from the ledger, and many callers at once."""

from __future__ import annotations

import random
import signal
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest
from proxy import Calls, Proxy, ServeProcess, eventually, ledger_rows, running_proxy

from e2e.conftest import files_for
from router.ledger.writer import COMMIT_WITHIN_S
from router.providers.simulated import SimulatedProvider

KILLS = 10
CALLERS = 8
DAY_S = 86_400
NOON_S = 20_000 * DAY_S + DAY_S // 2
OUT = 600

EXACT = """
  exact:
    target: openai/gpt-4o-mini
    base_url: {url}
    price: {{input_usd_per_mtok: 0, output_usd_per_mtok: 0.6}}
"""


def exact_files(provider: SimulatedProvider, **more: str) -> dict[str, str]:
    """Return policies with a model whose answers cost what was held for them: their limit, times 600 nUSD."""
    files = files_for(provider, **more)
    return {**files, "models": files["models"] + EXACT.format(url=provider.base_url)}


# Of 64 tokens each: 37 answers for this task, and not one more.
THIRTY_SEVEN = "task: thirty-seven\nbudget: {per_day_usd: 0.0014208}\nroute: [{use: exact}]\n"
LONG = {"text": "Tell me a long story.", "max_tokens": 64}


class Load:
    """Callers that ask as fast as they are answered, whole and streamed, and note what they received whole."""

    def __init__(self, calls: Calls) -> None:
        self.answered: set[str] = set()
        self._calls = calls
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(CALLERS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        stream = number % 2 == 0
        body = {"model": "exact", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8, "stream": stream}
        with httpx.Client(base_url=self._calls.url, timeout=5, trust_env=False, verify=False) as client:
            while not self._stop.is_set():
                try:
                    answer = client.post("/v1/chat/completions", json=body)
                except httpx.TransportError:
                    return
                if answer.status_code == 200 and (not stream or answer.text.endswith("data: [DONE]\n\n")):
                    self.answered.add(answer.headers["x-farthing-request-id"])


def test_after_kill_9_every_answer_that_a_caller_got_is_in_the_ledger(
    provider: SimulatedProvider, tmp_path: Path
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    moments = random.Random(seed)
    files = exact_files(provider)
    answered: set[str] = set()
    held = 0
    with ExitStack() as stack:
        # Each is started before it is needed, for starting takes longer than all the rest.
        folders = [tmp_path / str(number) for number in range(KILLS)]
        starting = deque(stack.enter_context(ServeProcess(folder, files)) for folder in folders[:2])
        for folder in [*folders[2:], None, None]:
            process = starting.popleft()
            with Load(process.ready()) as load:
                eventually(lambda load=load: len(load.answered) >= CALLERS, "some answers")
                time.sleep(moments.uniform(0.0, 0.15))
                process.kill()
            answered |= load.answered
            if folder is not None:
                starting.append(stack.enter_context(ServeProcess(folder, files)))
    rows = {row["id"]: row for folder in folders for row in ledger_rows(folder / "ledger.db")}
    print(f"{len(answered)} answers, {len(rows)} rows")
    assert answered - rows.keys() == set()
    for request_id in answered:
        row = rows[request_id]
        if row["outcome"] == "held":
            held += 1
            assert (row["certainty"], row["charged_nusd"]) == ("ceiling", row["held_nusd"])
        else:
            assert (row["outcome"], row["certainty"]) == ("answered", "reported")
        assert row["charged_nusd"] == 8 * OUT
    assert all(row["outcome"] in ("held", "answered", "cancelled") for row in rows.values())
    print(f"{held} of them at their ceiling")


def test_a_budget_of_the_day_holds_across_kill_9(provider: SimulatedProvider, tmp_path: Path) -> None:
    answered = 0
    for round_number in range(3):
        with ServeProcess(tmp_path, exact_files(provider, task=THIRTY_SEVEN)) as process:
            calls = process.ready()
            while True:
                answer = calls.ask(**LONG, headers={"x-farthing-task": "thirty-seven"})
                if answer.status_code != 200:
                    break
                answered += 1
                if round_number < 2 and answered == 15 * (round_number + 1):
                    break
            process.kill()
    assert (answer.status_code, answer.json()["error"]["code"]) == (402, "budget_exceeded")
    # What a kill cut off stands at its ceiling, which here is what it cost: nothing is lost, and nothing twice.
    assert answered == 37


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_proxy_that_is_told_to_stop_settles_what_is_under_way(
    provider: SimulatedProvider, tmp_path: Path, told: signal.Signals
) -> None:
    provider.faults.always("drip=0.01")
    with ServeProcess(tmp_path, exact_files(provider)) as process, ThreadPoolExecutor() as pool:
        calls = process.ready()
        answers = [pool.submit(calls.ask, model="exact", max_tokens=30, stream=True) for _ in range(4)]
        eventually(lambda: len(provider.calls) == 4, "four calls under way")
        process.child.send_signal(told)
        assert process.child.wait(10) in (0, -signal.SIGTERM, 128 + signal.SIGINT)
        assert all(answer.result().text.endswith("data: [DONE]\n\n") for answer in answers)
    assert [row["outcome"] for row in ledger_rows(tmp_path / "ledger.db")] == ["answered"] * 4


class Clock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now_s = float(NOON_S)

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def budgeted(provider: SimulatedProvider, clock: Clock, tmp_path: Path) -> Iterator[Proxy]:
    with running_proxy(tmp_path, exact_files(provider, task=THIRTY_SEVEN), clock=clock) as proxy:
        yield proxy


def ask_many(proxy: Calls, callers: int, *, stream: bool) -> list[httpx.Response]:
    """Send one request from each of so many callers at once."""
    start = threading.Barrier(callers)

    def ask(_: int) -> httpx.Response:
        with httpx.Client(base_url=proxy.url, timeout=30, trust_env=False, verify=False) as client:
            body = {"model": "task:thirty-seven", "max_tokens": 64, "stream": stream}
            start.wait(30)
            return client.post(
                "/v1/chat/completions", json={**body, "messages": [{"role": "user", "content": LONG["text"]}]}
            )

    with ThreadPoolExecutor(callers) as pool:
        return list(pool.map(ask, range(callers)))


@pytest.mark.parametrize("stream", [False, True])
def test_of_two_hundred_callers_at_once_exactly_those_that_the_budget_pays_are_answered(
    budgeted: Proxy, provider: SimulatedProvider, stream: bool
) -> None:
    answers = ask_many(budgeted, 200, stream=stream)
    assert sorted(answer.status_code for answer in answers) == [200] * 37 + [402] * 163
    refused = [answer.json()["error"] for answer in answers if answer.status_code == 402]
    assert {error["code"] for error in refused} == {"budget_exceeded"}
    rows = budgeted.rows()
    assert len(rows) == 200
    paid = [row["charged_nusd"] for row in rows if row["outcome"] == "answered"]
    assert paid == [64 * OUT] * 37
    assert sum(row["charged_nusd"] for row in rows) == 37 * 64 * OUT == 1_420_800
    assert budgeted.metric_nusd("farthing_cost_usd_total") == 1_420_800
    labels = {"scope": "task", "name": "thirty-seven", "window": "day"}
    assert budgeted.metric_nusd("farthing_budget_spent_usd", **labels) == 1_420_800
    assert budgeted.metric_nusd("farthing_budget_held_usd", **labels) == 0
    assert budgeted.metric("farthing_refusals_total", task="thirty-seven", reason="budget_exceeded") == 163
    assert len(provider.calls) == 37


def test_a_new_day_brings_a_new_budget(budgeted: Proxy, provider: SimulatedProvider, clock: Clock) -> None:
    headers = {"x-farthing-task": "thirty-seven"}
    for _ in range(37):
        assert budgeted.ask(**LONG, headers=headers).status_code == 200
    assert budgeted.ask(**LONG, headers=headers).status_code == 402
    clock.now_s = NOON_S + DAY_S // 2 - 1
    assert budgeted.ask(**LONG, headers=headers).status_code == 402
    clock.now_s = NOON_S + DAY_S // 2
    assert budgeted.ask(**LONG, headers=headers).status_code == 200


def test_a_restart_starts_the_budgets_from_the_ledger(
    provider: SimulatedProvider, clock: Clock, tmp_path: Path
) -> None:
    files = exact_files(provider, task=THIRTY_SEVEN)
    headers = {"x-farthing-task": "thirty-seven"}
    clock.now_s = NOON_S - DAY_S
    for day in range(2):
        with running_proxy(tmp_path, files, clock=clock) as proxy:
            assert [proxy.ask(**LONG, headers=headers).status_code for _ in range(20)] == [200] * 20
        with running_proxy(tmp_path, files, clock=clock) as proxy:
            spent_nusd = proxy.metric_nusd("farthing_budget_spent_usd", name="thirty-seven")
            assert spent_nusd == 20 * 64 * OUT
            assert [proxy.ask(**LONG, headers=headers).status_code for _ in range(18)] == [200] * 17 + [402]
        clock.now_s += DAY_S
        assert day < 2


def test_a_budget_that_is_added_while_running_counts_what_the_day_has_cost_already(
    provider: SimulatedProvider, tmp_path: Path
) -> None:
    unlimited = "task: thirty-seven\nroute: [{use: exact}]\n"
    headers = {"x-farthing-task": "thirty-seven"}
    with running_proxy(tmp_path, exact_files(provider, task=unlimited)) as proxy:
        for _ in range(30):
            assert proxy.ask(**LONG, headers=headers).status_code == 200
        proxy.rows()
        proxy.rewrite(task=THIRTY_SEVEN)
        spent_nusd = proxy.metric_nusd("farthing_budget_spent_usd", name="thirty-seven")
        assert spent_nusd == 30 * 64 * OUT
        assert [proxy.ask(**LONG, headers=headers).status_code for _ in range(8)] == [200] * 7 + [402]


def test_every_row_adds_up_and_equals_the_metrics(proxy: Proxy, provider: SimulatedProvider) -> None:
    for number in range(40):
        provider.faults.queue(("", "status=500", "malformed", "no-usage", "reset=3", "")[number % 6])
        proxy.ask(
            f"Question {number}",
            headers={"x-farthing-task": ("default", "fallback")[number % 2]},
            stream=number % 3 == 0,
            max_tokens=10 + number,
            n=1 + number % 3,
        )
    proxy.ask(model="cheap", headers={"x-farthing-budget-usd": "0"})
    rows = proxy.rows()
    assert len(rows) == 41
    for row in rows:
        assert row["charged_nusd"] == sum(attempt["charged_nusd"] for attempt in row["attempts"])
        assert 0 <= row["overhead_nusd"] <= row["charged_nusd"] <= row["held_nusd"]
        assert row["at"].endswith("Z")
        assert row["latency_ms"] > 0
    for metric, column in (
        ("farthing_cost_usd_total", "charged_nusd"),
        ("farthing_baseline_cost_usd_total", "baseline_nusd"),
        ("farthing_overhead_cost_usd_total", "overhead_nusd"),
        ("farthing_over_budget_usd_total", "over_budget_nusd"),
    ):
        assert proxy.metric_nusd(metric) == sum(row[column] for row in rows), metric
    for task in ("default", "fallback"):
        mine = [row for row in rows if row["task"] == task]
        assert proxy.metric_nusd("farthing_cost_usd_total", task=task) == sum(row["charged_nusd"] for row in mine)
    for outcome in {row["outcome"] for row in rows}:
        count = sum(row["outcome"] == outcome for row in rows)
        assert proxy.metric("farthing_requests_total", outcome=outcome) == count
    for kind, column in (("input", "input_tokens"), ("output", "output_tokens")):
        total = sum(row[column] or 0 for row in rows)
        assert proxy.metric("gen_ai_client_token_usage_sum", gen_ai_token_type=kind) == total


def test_the_columns_are_those_of_the_contract(proxy: Proxy, provider: SimulatedProvider) -> None:
    row = proxy.row_of(proxy.ask(max_tokens=5, stream=True))
    assert row.keys() >= {
        "id", "at", "account", "task", "rule", "policy_revision", "requested_model", "routed_model",
        "reported_model", "provider", "kind", "outcome", "certainty", "input_tokens", "cached_tokens",
        "cache_write_tokens", "output_tokens", "reasoning_tokens", "estimated_nusd", "held_nusd", "charged_nusd",
        "baseline_nusd", "overhead_nusd", "attempts", "difficulty", "facts", "latency_ms", "first_token_ms",
    }  # fmt: skip
    assert row["reported_model"] == "gpt-4o-mini-2024-07-18"
    assert 0 < row["first_token_ms"] <= row["latency_ms"]
    assert row["baseline_nusd"] == row["input_tokens"] * 2_500 + row["output_tokens"] * 10_000


def test_a_ledger_that_is_locked_for_a_while_loses_nothing(proxy: Proxy, provider: SimulatedProvider) -> None:
    before = len(proxy.rows())
    with closing(sqlite3.connect(proxy.ledger, isolation_level=None)) as other, ThreadPoolExecutor() as pool:
        other.execute("BEGIN IMMEDIATE")
        waiting = [pool.submit(proxy.ask, max_tokens=5) for _ in range(3)]
        time.sleep(0.3)
        assert not any(answer.done() for answer in waiting)
        other.execute("COMMIT")
        assert [answer.result().status_code for answer in waiting] == [200] * 3
    assert len(proxy.rows()) == before + 3


def test_a_full_queue_refuses_before_work_is_taken_on_and_drops_nothing(
    provider: SimulatedProvider, tmp_path: Path
) -> None:
    most = 8
    with (
        running_proxy(tmp_path, exact_files(provider), settings={"ledger_queue_rows": most}) as proxy,
        closing(sqlite3.connect(proxy.ledger, isolation_level=None)) as other,
        ThreadPoolExecutor(2 * most) as pool,
    ):
        other.execute("BEGIN IMMEDIATE")
        asking = [pool.submit(proxy.ask, max_tokens=5) for _ in range(2 * most)]
        eventually(lambda: proxy.metric("farthing_ledger_queue") >= most, "a full queue", COMMIT_WITHIN_S)
        ready = proxy.http.get("/health/ready")
        assert (ready.status_code, "The ledger's queue is full" in ready.text) == (503, True)
        for stream in (False, True):
            refused = proxy.ask(max_tokens=5, stream=stream)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "store_unavailable")
        other.execute("COMMIT")
        answers = [each.result() for each in asking]
        answered = {answer.headers["x-farthing-request-id"] for answer in answers if answer.status_code == 200}
        assert {answer.status_code for answer in answers} <= {200, 503}
        assert answered
        assert {row["id"] for row in proxy.rows() if row["outcome"] == "answered"} == answered
        assert len(provider.calls) == len(answered), "nothing was called for what was refused"
        assert proxy.http.get("/health/ready").status_code == 200
        assert proxy.ask(max_tokens=5).status_code == 200


def test_cached_and_reasoning_tokens_are_priced_apart_and_recorded(proxy: Proxy, provider: SimulatedProvider) -> None:
    text = "A long prompt that is sent twice. " * 400
    for _ in range(2):
        answer = proxy.ask(text, model="cheap", max_tokens=10)
    row = proxy.row_of(answer)
    assert row["cached_tokens"] >= 1_024
    fresh = row["input_tokens"] - row["cached_tokens"]
    assert row["charged_nusd"] == fresh * 150 + row["cached_tokens"] * 75 + 10 * OUT
    thought = proxy.row_of(proxy.ask(model="thinker", max_completion_tokens=3_000))
    assert thought["reasoning_tokens"] > 0
    assert thought["output_tokens"] > thought["reasoning_tokens"]
