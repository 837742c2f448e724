"""A proxy ranks the requests it serves among one another, over a real socket."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from proxy import Proxy, eventually, running_provider, running_proxy

from difficulty.labelled_sets import lines, write
from router.difficulty.train import read_examples, train
from router.difficulty.weights import write_weights
from router.policy.reading.load import WEIGHTS

FILES = {
    "models": "models:\n  cheap: {target: openai/gpt-4.1-nano}\n  dear: {target: openai/gpt-4.1}\n",
    "default": "task: default\nunsure: cheap\nroute:\n"
    "  - {name: hard, when: {difficulty: {gte: 0.7}}, use: dear}\n  - use: cheap\n",
}
MATHS = "Compute the integral of {} over x, then prove that it is less than {}."


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    with running_provider() as provider, running_proxy(tmp_path, FILES, simulated_url=provider.root_url) as running:
        yield running


def rule(proxy: Proxy, text: str) -> str:
    answer = proxy.ask(text=text, max_tokens=5)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-farthing-rule"]


def test_a_task_of_nothing_but_maths_sends_only_its_hardest_to_the_dear_model(proxy: Proxy) -> None:
    assert rule(proxy, MATHS.format("sin x", 2)) == "hard"
    hard = [rule(proxy, MATHS.format("x " * (at % 17), at)) == "hard" for at in range(200)]
    assert sum(hard[50:]) / 150 == pytest.approx(0.3, abs=0.1)


def test_a_dry_run_tells_the_score_and_leaves_no_trace(proxy: Proxy) -> None:
    first = proxy.ask(text=MATHS.format(1, 2), headers={"x-farthing-dry-run": "true"}).json()
    assert first["difficulty"]["pushed_by"]["maths"] > 0
    for _ in range(60):
        last = proxy.ask(text=MATHS.format(1, 2), headers={"x-farthing-dry-run": "true"}).json()
    assert (last["difficulty"], last["facts"]) == (first["difficulty"], first["facts"])


def test_what_can_not_be_told_goes_where_the_policy_says(proxy: Proxy) -> None:
    found = proxy.ask(text="Hello", headers={"x-farthing-dry-run": "true"}).json()
    assert found["facts"]["difficulty"] == 0
    assert found["difficulty"]["unsure"] == "too short to tell"


POEM, CITY = "Write a poem about the Rhine", "Which city lies on the Rhine"
"""What the trained set has as hard and as easy; the shipped weights know nothing of either."""


def poem_pushes(proxy: Proxy) -> float:
    told = proxy.ask(text=POEM, headers={"x-farthing-dry-run": "true"}).json()
    return float(told["difficulty"]["pushed_by"].get("words", 0.0))


def test_weights_of_one_s_own_score_from_when_they_are_in_the_folder(proxy: Proxy, tmp_path: Path) -> None:
    shipped = poem_pushes(proxy)
    labelled = write(tmp_path / "labelled.jsonl", lines(400))
    write_weights(train(read_examples([labelled])), proxy.policies / WEIGHTS)
    eventually(lambda: poem_pushes(proxy) != shipped, "weights of one's own")
    own = poem_pushes(proxy)
    assert own > max(shipped, 0)
    (proxy.policies / WEIGHTS).write_text("{}")
    eventually(lambda: proxy.metric("farthing_policy_reloads_total", result="rejected"), "a rejected edit")
    assert poem_pushes(proxy) == own
    (proxy.policies / WEIGHTS).unlink()
    eventually(lambda: poem_pushes(proxy) == shipped, "the shipped weights")


# Rules by money

MIDNIGHT_S = 1_795_132_800.0
REQUESTS = 400
DAY_USD = 0.08
MONEY = {
    "models": FILES["models"],
    "default": "task: default\nroute:\n  - {name: some, use: [cheap, dear], premium_share: 0.2}\n",
    "worth": f"task: worth\nbudget: {{per_day_usd: {DAY_USD}}}\n"
    "route:\n  - {name: worth, use: [cheap, dear], prefer: value}\n",
}


@pytest.fixture
def by_money(tmp_path: Path) -> Iterator[Proxy]:
    with running_provider() as provider, running_proxy(tmp_path, MONEY, simulated_url=provider.root_url) as running:
        yield running


def test_a_share_that_is_asked_for_holds_while_the_traffic_changes(by_money: Proxy) -> None:
    dice = random.Random(2)
    dear = 0
    for at in range(600):
        maths = dice.random() < (0.1 if at < 300 else 0.9)
        answer = by_money.ask(text=MATHS.format("x " * (at % 17), at) if maths else f"Where is parcel {at}?")
        dear += answer.headers["x-farthing-model"] == "dear"
    assert dear / 600 == pytest.approx(0.2, abs=0.02)
    facts = [row["facts"] for row in by_money.rows()]
    assert all((row["first_model"] == "dear") == (row["ranks"]["some"] >= 0.8) for row in facts)


def test_a_days_budget_is_spent_over_the_day(tmp_path: Path) -> None:
    now_s = MIDNIGHT_S
    spent = [0.0]
    with (
        running_provider() as provider,
        running_proxy(tmp_path, MONEY, simulated_url=provider.root_url, clock=lambda: now_s) as proxy,
    ):
        for at in range(REQUESTS):
            now_s = MIDNIGHT_S + at * 86_400 / REQUESTS
            text = MATHS.format("x " * (at % 17), at) if at % 3 else f"Where is parcel {at}?"
            answer = proxy.ask(text=text, max_tokens=100, headers={"x-farthing-task": "worth"})
            assert answer.status_code == 200, answer.text
            spent.append(spent[-1] + float(answer.headers["x-farthing-cost-usd"]))
        facts = [row["facts"] for row in proxy.rows()]
    assert {row["first_model"] for row in facts} == {"cheap", "dear"}
    assert all(row["pace"] > 0 and 0 <= row["gain"] <= 1 for row in facts)
    assert 0.95 * DAY_USD <= spent[-1] <= DAY_USD
    assert spent[REQUESTS // 2] == pytest.approx(DAY_USD / 2, rel=0.2)
