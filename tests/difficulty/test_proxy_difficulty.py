"""A proxy ranks the requests it serves among one another, over a real socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from proxy import Proxy, running_provider, running_proxy

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
