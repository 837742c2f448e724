"""What `farthing experiment` says: the sides beside each other, each number with its n and its interval."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy import eventually, running_provider, running_proxy

from lifecycle.conftest import TRIAL, files_for
from router.chat import Chat
from router.ledger.contract import Store
from router.ledger.open import open_store
from router.ledger.rows import row_of
from router.lifecycle.results import experiment_report, quantile, share
from router.providers.simulated import SimulatedProvider, Simulation
from router.values import Attempt, Certainty, Ending, Outcome

BOTH = "{canary: {model: trial, share: 0.5}, shadow: {model: spare, budget_per_day_usd: 1}}"
VERIFY = "    verify: {json: true, escalate_to: dear}\n"


def _command(folder: Path, *options: str) -> str:
    command = [sys.executable, "-m", "router", "experiment", "--ledger-url", f"sqlite:///{folder / 'ledger.db'}"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=60, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a proxy that answered 24 requests; the canary answers in prose where JSON is asked for."""
    folder = tmp_path_factory.mktemp("proxy")

    def answer(chat: Chat, model: str) -> str:
        return "Not so." if model == TRIAL else '{"so": true}'

    with (
        running_provider(Simulation(answerer=answer)) as provider,
        running_proxy(folder, files_for(provider, BOTH, rule=VERIFY)) as proxy,
    ):
        for number in range(24):
            assert proxy.ask(f"Where is parcel {number}?").status_code == 200
        eventually(lambda: sum(row["outcome"] == "shadow" for row in proxy.rows()) == 24, "every shadow")
    return folder


def _sides(folder: Path) -> dict[str, dict[str, Any]]:
    [experiment] = json.loads(_command(folder, "--json"))["experiments"]
    assert (experiment["task"], experiment["rule"], experiment["state"]) == ("default", "all", "running")
    return {side["side"]: side for side in experiment["sides"]}


def test_the_sides_stand_beside_each_other(recorded: Path) -> None:
    sides = _sides(recorded)
    assert list(sides) == ["control", "canary", "shadow"]
    assert [side["model"] for side in sides.values()] == [None, "trial", "spare"]
    assert sides["control"]["requests"] + sides["canary"]["requests"] == sides["shadow"]["requests"] == 24
    assert sides["control"]["verify_pass_rate"]["value"] == 1.0
    assert sides["canary"]["verify_pass_rate"]["value"] == 0.0
    # What the caller got is JSON on either side, for a prose answer was asked for again at `dear`.
    assert sides["shadow"]["agreement"] == {"value": 1.0, "low": 1.0, "high": 1.0, "n": 24}
    assert sides["canary"]["agreement"] is None
    for side in sides.values():
        for measure in ("cost_usd", "latency_p50_ms", "latency_p95_ms", "error_rate"):
            assert 0 <= side[measure]["low"] <= side[measure]["value"] <= side[measure]["high"]
            assert side[measure]["n"] == side["requests"]


def test_the_table_has_a_line_for_each_side(recorded: Path) -> None:
    text = _command(recorded)
    assert text.startswith("default/all: running\n")
    for words in ("the rule's own", "trial", "spare", "0.0% (0.0% to"):
        assert words in text


def test_a_task_without_experiments_says_so(recorded: Path) -> None:
    assert _command(recorded, "--task", "other").startswith("No request had a part in an experiment.")


def test_an_aborted_canary_is_told_with_its_reason(provider: SimulatedProvider, tmp_path: Path) -> None:
    provider.faults.always("status=500", model=TRIAL)
    experiment = "{canary: {model: trial, share: 1}, abort_when: {after_requests: 3, error_rate: {gt: 0.3}}}"
    with running_proxy(tmp_path, files_for(provider, experiment)) as proxy:
        for _ in range(3):
            proxy.ask()
        eventually(lambda: proxy.metric("farthing_experiment_state", state="aborted"), "an aborted canary")
    assert "error_rate of 1 is above 0.3 over 3 requests" in _command(tmp_path)
    [found] = json.loads(_command(tmp_path, "--json"))["experiments"]
    assert (found["state"], found["sides"][0]["error_rate"]["value"]) == ("aborted", 1.0)


def test_an_edited_experiment_is_told_by_what_came_since(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/ledger.db")
    with closing(store):
        asyncio.run(_write(store, [_tried(number, "before", "failed") for number in range(3)]))
        asyncio.run(_write(store, [_tried(number, "after", "answered") for number in range(3, 5)]))
        [found] = experiment_report(store, None, None)["experiments"]
    assert (found["version"], found["left_out"]) == ("after", 3)
    [side] = found["sides"]
    assert (side["side"], side["requests"], side["error_rate"]["value"]) == ("canary", 2, 0.0)
    printed = _command(tmp_path)
    assert "Left out: 3 requests from before the last edit of the experiment." in printed


def _tried(number: int, version: str, reason: str) -> Outcome:
    """Return a request that a canary served, under a version of its experiment."""
    attempt = Attempt("trial", "openai/x", reason, 200, None, 10, Certainty.REPORTED, 0.1)
    part = {"name": "default/all", "version": version, "side": "canary", "model": "trial"}
    return Outcome(
        id=f"{number:032x}",
        at=datetime(2026, 11, 21, 12, number, tzinfo=UTC),
        account=None,
        task="default",
        rule="all",
        policy_revision="0" * 12,
        requested_model="auto",
        ending=Ending.ANSWERED if reason == "answered" else Ending.FAILED,
        certainty=Certainty.REPORTED,
        charged_nusd=10,
        attempts=(attempt,),
        facts={"experiment": part},
    )


async def _write(store: Store, outcomes: list[Outcome]) -> None:
    await store.open()
    await store.write([row_of(outcome) for outcome in outcomes])


def test_an_interval_of_a_share_is_wilsons() -> None:
    # 8 of 10, from Wilson's formula by hand: 0.4902 to 0.9433.
    found = share(8, 10)
    assert found is not None
    assert (round(found["low"], 4), round(found["high"], 4)) == (0.4902, 0.9433)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.sampled_from([0.5, 0.95]))
def test_a_quantile_is_one_of_the_values_and_in_its_interval(values: list[float], q: float) -> None:
    found = quantile(sorted(values), q)
    assert found is not None
    assert found["value"] in values
    assert found["low"] <= found["value"] <= found["high"]
    assert sum(value <= found["value"] for value in values) >= q * len(values)
