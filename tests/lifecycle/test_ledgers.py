"""What experiments ask of the ledger, of each kind of store; and a shadow's budget in Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ledger.server import PostgresServer
from proxy import eventually, running_proxy
from redis_server import running_redis

from lifecycle.conftest import files_for
from router.ledger.contract import Store
from router.ledger.open import open_store
from router.ledger.rows import row_of
from router.lifecycle.ends import State
from router.lifecycle.results import experiment_report
from router.lifecycle.rollout import Rollouts, Watched
from router.policy.experiment import Experiment
from router.policy.policy import PolicySet
from router.policy.reading.load import load_files
from router.pricing import Catalogue
from router.providers.simulated import SimulatedProvider
from router.values import Attempt, Certainty, Ending, Outcome

NOW_S = 1_800_000_000.0
MODELS = b"version: 1\nmodels:\n  plain: {target: openai/gpt-4o-mini}\n  trial: {target: openai/gpt-4.1-mini}\n"
TASK = b"""version: 1
task: default
route:
  - name: all
    use: plain
    experiment:
      canary: {model: trial, share: 0.5}
      abort_when: {after_requests: 4, error_rate: {gte: 0.5}}
"""


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
async def store(request: pytest.FixtureRequest, tmp_path: Path, anyio_backend: str) -> AsyncIterator[Store]:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres")
        url = server.new_database()
    with closing(open_store(url)) as opened:
        await opened.open()
        yield opened


@pytest.fixture(scope="module")
def policies() -> PolicySet:
    files = {"models.yaml": MODELS, "default.yaml": TASK}
    return load_files(files, Catalogue(), {}, Path("policies")).checked()


def _experiment(policies: PolicySet) -> Experiment:
    [experiment] = policies.policies["default"].experiments
    return experiment


def _outcome(policies: PolicySet, number: int, reason: str, **changes: Any) -> Outcome:
    experiment = _experiment(policies)
    part = {"name": experiment.name, "version": experiment.version, "side": "canary", "model": "trial"}
    ending = Ending.ANSWERED if reason == "answered" else Ending.FAILED
    values: dict[str, Any] = {
        "id": f"request-{number}",
        "at": datetime.fromtimestamp(NOW_S - 60, UTC),
        "account": None,
        "task": "default",
        "rule": "all",
        "policy_revision": policies.revision,
        "requested_model": "auto",
        "ending": ending,
        "certainty": Certainty.REPORTED,
        "charged_nusd": 1000 * number,
        "attempts": (Attempt("trial", "openai/t", reason, 200, None, 1000 * number, Certainty.REPORTED, 0.1),),
        "facts": {"input_tokens": 1, "experiment": part},
        "latency_s": 0.1,
    }
    return Outcome(**(values | changes))


class _Rows:
    """Takes outcomes as the ledger's writer does, for a test to look at and to write."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def record(self, outcome: Outcome) -> asyncio.Event:
        self.outcomes.append(outcome)
        return asyncio.Event()


async def _judged(store: Store, policies: PolicySet) -> tuple[list[State], _Rows]:
    """Start a replica on what the ledger holds, and let it judge once."""
    rows, states = _Rows(), list[State]()

    def told(watched: Any) -> None:
        states.extend(each.state for each in watched if isinstance(each, Watched))

    rollouts = Rollouts(lambda: policies, store, rows, lambda: NOW_S, told)
    await rollouts.restore()
    working = asyncio.create_task(rollouts.work())
    try:
        async with asyncio.timeout(10):
            while states[-1] is State.PAUSED or (not rows.outcomes and states[-1] is State.RUNNING):
                await asyncio.sleep(0.01)
    finally:
        working.cancel()
    return list(dict.fromkeys(states)), rows


@pytest.mark.anyio
async def test_a_replica_judges_by_what_others_recorded(store: Store, policies: PolicySet) -> None:
    reasons = ["answered", "failed", "failed", "answered"]
    await store.write([row_of(_outcome(policies, number, reason)) for number, reason in enumerate(reasons)])
    states, rows = await _judged(store, policies)
    assert states == [State.PAUSED, State.RUNNING, State.ABORTED]
    [ended] = rows.outcomes
    assert ended.facts["because"] == "error_rate of 0.5 is at or above 0.5 over 4 requests"
    # A second replica that comes to the same end writes the same row, which is news to nobody.
    assert await store.write([row_of(ended)]) == 1
    assert await store.write([row_of(ended)]) == 0
    states, rows = await _judged(store, policies)
    assert (states, rows.outcomes) == ([State.PAUSED, State.ABORTED], [])


@pytest.mark.anyio
async def test_the_results_are_those_of_the_rows(store: Store, policies: PolicySet) -> None:
    await store.write([row_of(_outcome(policies, number, "answered")) for number in range(12_000)])
    [found] = experiment_report(store, "default", datetime.fromtimestamp(NOW_S - 3600, UTC))["experiments"]
    [side] = found["sides"]
    assert (side["side"], side["requests"], side["cost_usd"]["n"]) == ("canary", 12_000, 12_000)
    assert side["total_usd"] == pytest.approx(sum(range(12_000)) * 1e-6)
    assert experiment_report(store, "other", None) == {"experiments": []}


@pytest.mark.anyio
async def test_a_shadow_is_charged_to_its_own_budget_and_counts_as_no_request(
    store: Store, policies: PolicySet
) -> None:
    shadow = _outcome(policies, 5, "answered", id="request-1.s", ending=Ending.SHADOW)
    await store.write([row_of(_outcome(policies, 1, "answered")), row_of(shadow)])
    since = datetime.fromtimestamp(NOW_S - 3600, UTC)
    assert store.charged_since(since, task=None, account=None, shadow="default/all") == 5000
    assert store.charged_since(since, task=None, account=None, shadow="default/other") == 0
    assert store.charged_since(since, task="default", account=None) == 6000
    [total] = store.spend((), since)
    assert (total.requests, total.charged_nusd) == (1, 6000)


def test_a_shadows_budget_is_held_in_redis_too(provider: SimulatedProvider, tmp_path: Path) -> None:
    experiment = "{shadow: {model: trial, budget_per_day_usd: 0.0003}}"
    with (
        running_redis() as server,
        running_proxy(tmp_path, files_for(provider, experiment), settings={"budgets_url": server.url}) as proxy,
    ):
        for _ in range(12):
            assert proxy.ask(max_tokens=64).status_code == 200

        def all_told() -> bool:
            shadows = sum(row["outcome"] == "shadow" for row in proxy.rows())
            dropped = proxy.metric("farthing_experiment_shadows_dropped_total", reason="over_budget")
            return dropped > 0 and dropped + shadows == 12

        eventually(all_told, "every shadow asked or dropped")
        assert 0 < proxy.metric("farthing_budget_spent_usd", scope="shadow") <= 0.0003
