"""`farthing advise` over a ledger that a proxy wrote: where a cascade pays, where not, and where it can not tell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from proxy import eventually, ledger_rows, running_provider, running_proxy

from cli.running import Run, on_terminal
from router.policy.backtest.advice import LEAST_REQUESTS
from router.providers.simulated import Knows, Simulation

MODELS = """
models:
  cheap: {{target: openai/gpt-4.1-nano, base_url: "{url}"}}
  second: {{target: openai/gpt-4o-mini, base_url: "{url}"}}
  dear: {{target: openai/gpt-4.1, base_url: "{url}", kind: premium}}
  tuned: {{target: openai/mine, base_url: "{url}", kind: fine-tuned,
    price: {{input_usd_per_mtok: 0.1, output_usd_per_mtok: 0.4}}}}
"""
AGREE = "route: [{{use: {use}, verify: {{agree: {{with: {by}, by: number}}, escalate_to: dear, buffer: false}}}}]\n"
FILES = {
    "good": "task: good\nbaseline: dear\n" + AGREE.format(use="cheap", by="second"),
    "bad": "task: bad\nbaseline: dear\n" + AGREE.format(use="dear", by="second").replace("to: dear", "to: cheap"),
    "few": "task: few\n" + AGREE.format(use="cheap", by="second"),
    "poor": "task: poor\nbaseline: dear\nbudget: {per_request_usd: 0.0001}\n"
    "route: [{use: cheap, verify: {regex: '^never$', escalate_to: dear, buffer: false}}]\n",
    "mute": "task: mute\nroute: [{use: cheap, verify: {judge: {model: dear, question: 'Is it right?'}, "
    "escalate_to: dear, buffer: false}}]\n",
    "taught": "task: taught\nbaseline: dear\n"
    "learn: {shadow: {model: dear, share: 1, budget_per_day_usd: 1, grade: agree, agree: {by: number}}}\n"
    "route: [{use: cheap, verify: {regex: '[0-9]', escalate_to: dear, buffer: false}}]\n",
    "circular": "task: circular\nbaseline: dear\n"
    "learn: {shadow: {model: dear, share: 1, budget_per_day_usd: 1, grade: verify}}\n"
    "route: [{use: cheap, verify: {regex: '[0-9]', escalate_to: dear, buffer: false}}]\n",
    "default": "task: default\nroute: [{use: dear}]\n",
}
KNOWS = Knows({"gpt-4.1-nano": 0.9, "gpt-4o-mini": 0.9, "gpt-4.1": 0.95})
TAUGHT = 60


@dataclass(frozen=True, slots=True)
class Recorded:
    """A ledger, and the policies that it was written under."""

    options: tuple[str, ...]
    ledger: Path


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    folder: Path = tmp_path_factory.mktemp("advise")
    with (
        running_provider(Simulation(answerer=KNOWS)) as provider,
        running_proxy(folder, {"models": MODELS.format(url=provider.base_url), **FILES}) as proxy,
    ):
        for task, times in (
            ("good", 60),
            ("bad", LEAST_REQUESTS),
            ("few", LEAST_REQUESTS - 1),
            ("poor", 40),
            ("mute", 3),
            ("default", 40),
            ("taught", TAUGHT),
            ("circular", TAUGHT),
        ):
            for number in range(1, times + 1):
                text = f"What is {number * 37} + {number * 11}?"
                answer = proxy.ask(text, headers={"x-farthing-task": task}, max_tokens=60)
                assert answer.status_code == 200
        eventually(lambda: proxy.metric("farthing_learning_labels_total", source="shadow") == 2 * TAUGHT, "all grades")
        proxy.rows()
        yield Recorded(("--policies", str(proxy.policies), "--ledger-url", f"sqlite:///{proxy.ledger}"), proxy.ledger)


@pytest.fixture
def advised(farthing: Run, recorded: Recorded) -> Any:
    def run(*options: str) -> Any:
        ran = farthing("advise", *recorded.options, "--json", *options)
        assert ran.status == 0, ran.err
        return ran.json

    return run


def test_a_cascade_that_saves_is_said_to_pay(advised: Any) -> None:
    (row,) = advised("--task", "good")["cascades"]
    assert (row["requests"], row["advice"], row["escalate_to"]) == (60, "it pays", "dear")
    assert row["pass_rate"]["low"] > row["break_even_pass_rate"]
    assert row["cost_usd"]["mean"] < row["always_usd"]["mean"]
    assert set(row["overhead_usd"]) <= {"agree", "escalation"}
    assert row["escalation_rate"]["mean"] == pytest.approx(1 - row["pass_rate"]["mean"])


def test_a_cascade_that_costs_more_is_said_to(advised: Any) -> None:
    (row,) = advised("--task", "bad")["cascades"]
    assert row["advice"] == "it costs more than always asking cheap; take the cascade out"


def test_a_cascade_without_the_money_to_escalate_is_not_said_to_pay(advised: Any) -> None:
    (row,) = advised("--task", "poor")["cascades"]
    assert (row["requests"], row["given_all_the_same"], row["saved_usd"]) == (40, 40, None)
    assert "40 of 40 answers failed and were given all the same" in row["advice"]
    assert "it pays" not in row["advice"]


def test_answers_that_went_out_unchecked_are_told(advised: Any) -> None:
    (row,) = advised("--task", "mute")["cascades"]
    assert (row["requests"], row["unchecked"]) == (0, 3)
    assert row["advice"].startswith("not enough traffic: 0 of 30 requests; 3 more went out unchecked: say, no money")


def test_how_often_an_answer_that_passes_is_right_is_measured(advised: Any, recorded: Recorded) -> None:
    (row,) = advised("--task", "taught")["cascades"]
    rows = [each for each in ledger_rows(recorded.ledger) if each["task"] == "taught"]
    grades = [each["facts"]["grades"]["cheap"] for each in rows if each["rule"] == "learning"]
    assert (row["graded"], row["pass_rate"]["mean"], len(grades)) == (TAUGHT, 1, TAUGHT)
    right = row["quality_if_passed"]
    assert right["mean"] == pytest.approx(sum(grades) / TAUGHT)
    assert right["low"] < right["mean"] < right["high"]
    assert row["lacks_if_passed"]["mean"] == pytest.approx(1 - right["mean"])
    assert row["advice"].startswith("it pays; answers that pass are graded 0.")
    assert row["advice"].endswith(" below those of dear")


@pytest.mark.parametrize("task", ["circular", "good"])
def test_where_nothing_else_graded_it_is_not_told_how_often_a_passing_answer_is_right(advised: Any, task: str) -> None:
    (row,) = advised("--task", task)["cascades"]
    assert (row["graded"], row["quality_if_passed"]) == (0, None)


def test_one_request_too_few_is_not_enough(advised: Any) -> None:
    (row,) = advised("--task", "few")["cascades"]
    assert row["advice"] == "not enough traffic: 29 of 30 requests"
    assert row["saved_usd"] is None


def test_a_fine_tuned_model_pays_after_so_many_requests(advised: Any) -> None:
    (row,) = advised("--task", "default", "--training-usd", "1")["tuning"]
    needed = row["break_even_requests"]
    assert (row["tuned"], row["requests"]) == ("tuned", 40)
    assert needed["low"] <= needed["mean"] <= needed["high"]
    assert needed["mean"] == pytest.approx(1 / row["saved_usd"]["mean"], abs=1)
    shorter = advised("--task", "default", "--training-usd", "1", "--saved-prompt-tokens", "10")["tuning"][0]
    assert shorter["break_even_requests"]["mean"] < needed["mean"]
    assert row["break_even_days"] is None


def test_a_model_that_costs_more_never_pays(advised: Any) -> None:
    (row,) = advised("--task", "default", "--training-usd", "1", "--tuned", "dear")["tuning"]
    assert row["break_even_requests"] == {"mean": None, "low": None, "high": None}
    assert row["advice"] == "prompt: the tuned model costs no less"


def test_the_table_says_the_same(farthing: Run, recorded: Recorded) -> None:
    ran = farthing("advise", *recorded.options, "--training-usd", "1")
    assert ran.status == 0
    for part in ("it pays", "not enough traffic: 29 of 30 requests", "take the cascade out", "fine-tuning pays"):
        assert part in ran.out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--task", "nothing"), "There is no task 'nothing'"),
        (("--tuned", "tuned"), "--training-usd"),
        (("--training-usd", "1", "--tuned", "nobody"), "There is no model 'nobody'"),
        (("--since", "soon"), "soon"),
    ],
)
def test_bad_usage_says_what_there_is(farthing: Run, recorded: Recorded, options: tuple[str, ...], said: str) -> None:
    ran = farthing("advise", *recorded.options, *options)
    assert ran.status == 2
    assert said in " ".join(ran.err.replace("│", " ").split())


def test_the_advice_fits_a_terminal(recorded: Recorded) -> None:
    shown = on_terminal("advise", *recorded.options)
    assert "always dear" in shown
    assert max(map(len, shown.splitlines())) <= 80
