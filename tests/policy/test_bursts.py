"""Budgets that have room for few requests at once: which are warned of, and that what is said of them is so."""

from __future__ import annotations

import re

import pytest

from policy.loading import lines, load, task
from router.chat import Chat, Message
from router.pipeline.judging import judging
from router.policy.decide import Route, decide
from router.policy.facts import Facts
from router.policy.purse import purse_of
from router.policy.reading.asides import FEWEST_TOLD_TOKENS
from router.policy.room import foreseen, scopes_of, tighter
from router.policy.said import Said
from router.policy.verify import Judge
from router.pricing import Catalogue
from router.tokens import Counter
from router.values import Level

ROUTE = "route: [{use: cheap}]\n"
LONGEST = "0.0131073"
"""What the longest answer of the cheap model costs in dollars, with its input."""


def _told(catalogue: Catalogue, budget: str, route: str = ROUTE) -> list[str]:
    return lines(load(catalogue, {"support.yaml": task(f"budget: {{{budget}}}\n{route}")}))


def _said(held: str, at_once: int, fix: str) -> str:
    said = f"a request without `max_tokens` holds up to ${held} of this until it ends, so that more"
    return f"{said} than {at_once} at once are refused; set {fix}"


@pytest.mark.parametrize(
    ("budget", "place", "said"),
    [
        (
            "per_request_usd: 0.01, per_day_usd: 0.099",
            "3:46",
            _said("0.01", 10, "`per_request_usd` to $0.0099 or less, or this to $0.1 or more"),
        ),
        (
            "per_request_usd: 0.01, per_hour_usd: 0.025, per_day_usd: 0.03",
            "3:47",
            _said("0.01", 3, "`per_request_usd` to $0.0025 or less, or this to $0.1 or more"),
        ),
        (
            "per_day_usd: 0.1",
            "3:23",
            _said(LONGEST, 8, "`per_request_usd` to $0.01 or less, or this to $0.131073 or more"),
        ),
        ("per_month_usd: 0.0001", "3:25", _said(LONGEST, 1, "this to $0.131073 or more")),
    ],
)
def test_a_budget_with_room_for_fewer_than_ten_requests_is_warned_of(
    catalogue: Catalogue, budget: str, place: str, said: str
) -> None:
    assert _told(catalogue, budget) == [f"support.yaml:{place}: warning: {said}"]


@pytest.mark.parametrize(
    "budget",
    [
        "per_request_usd: 0.01, per_day_usd: 0.1",
        "per_request_usd: 0.05, per_day_usd: 0.14",
        "per_request_usd: 0.01, per_day_usd: 0.05, hold: expected",
        "per_request_usd: 0.01, per_day_usd: 0.05, on_exceeded: warn",
        "per_request_usd: 0.01",
    ],
    ids=["ten", "a model that can't hold as much", "holds what is usual", "only warns", "no window"],
)
def test_a_budget_with_room_for_ten_or_that_refuses_nobody_is_not(catalogue: Catalogue, budget: str) -> None:
    assert _told(catalogue, budget) == []


def test_a_model_behind_the_first_does_not_count_unless_it_may_come_first(catalogue: Catalogue) -> None:
    assert _told(catalogue, "per_day_usd: 1", "route: [{use: [cheap, premium]}]\n") == []
    by_share = "route: [{use: [cheap, premium], premium_share: 0.1}]\n"
    assert len(_told(catalogue, "per_day_usd: 1", by_share)) == 1


@pytest.mark.parametrize(
    ("budget", "route"),
    [
        ("per_day_usd: 1", "route: [{name: hard, when: {messages: {gte: 1}}, use: premium}, {use: tuned}]\n"),
        ("per_day_usd: 1, on_exceeded: reject", "route: [{use: [premium, tuned]}]\n"),
    ],
    ids=["of another rule", "of the same rule"],
)
def test_where_a_model_that_costs_nothing_stands_behind_nobody_is_refused(
    catalogue: Catalogue, budget: str, route: str
) -> None:
    assert _told(catalogue, budget, route) == []


def test_a_free_model_of_another_rule_helps_nobody_where_money_ends_in_a_refusal(catalogue: Catalogue) -> None:
    route = "route: [{name: hard, when: {messages: {gte: 1}}, use: premium}, {use: tuned}]\n"
    assert len(_told(catalogue, "per_day_usd: 1, on_exceeded: reject", route)) == 1


@pytest.mark.parametrize(
    "route",
    [
        "route: [{use: [premium, cheap], prefer: cheapest}]\n",
        "route: [{when: {max_output_tokens: {lte: 500}}, use: premium}, {use: cheap}]\n",
        "route: [{when: {cel: 'max_output_tokens <= 500'}, use: premium}, {use: cheap}]\n",
    ],
    ids=["the cheapest comes first", "one for short answers", "one for short answers, in CEL"],
)
def test_a_model_that_no_request_without_a_limit_begins_with_does_not_count(catalogue: Catalogue, route: str) -> None:
    assert _told(catalogue, "per_day_usd: 1", route) == []


@pytest.mark.parametrize(
    ("budget", "route"),
    [
        ("per_request_usd: 0.01, per_day_usd: 0.025", ROUTE),
        ("per_request_usd: 0.01, per_day_usd: 0.07, on_exceeded: reject", ROUTE),
        ("per_day_usd: 1", "route: [{use: [premium, cheap]}]\n"),
    ],
)
def test_as_many_at_once_as_are_told_find_room_and_no_more(catalogue: Catalogue, budget: str, route: str) -> None:
    loaded = load(catalogue, {"support.yaml": task(f"budget: {{{budget}}}\n{route}")})
    (told,) = lines(loaded)
    policies = loaded.checked()
    policy = policies.policies["support"]
    facts, purse = Facts(input_tokens=1), purse_of(policies, policy, None, None)
    (scope,) = scopes_of(policies, policy, None)
    held_nusd, at_once = 0, 0
    while True:
        decision = foreseen(
            decide(policies, policy, facts, purse=purse),
            (Level(scope, 0, held_nusd),),
            lambda candidate: candidate.ceiling_nusd,
            lambda level: decide(policies, policy, facts, purse=tighter(purse, level)),
        )
        if not isinstance(decision, Route):
            break
        held_nusd += decision.candidates[0].ceiling_nusd
        at_once += 1
    found = re.search(r"more than (\d+) at once", told)
    assert found is not None
    assert at_once == int(found[1])


ACCOUNTS = """version: 1
budget: {{{everybody}}}
accounts:
  me:
    keys: ["sha256:abababababababababababababababababababababababababababababababab"]
    budget: {{{mine}}}
    {tasks}
"""


def _of_accounts(catalogue: Catalogue, everybody: str = "", mine: str = "", tasks: str = "") -> list[str]:
    files: dict[str, str | bytes] = {
        "accounts.yaml": ACCOUNTS.format(everybody=everybody, mine=mine, tasks=tasks),
        "support.yaml": task(f"budget: {{per_request_usd: 0.01, per_day_usd: 0.1}}\n{ROUTE}"),
        "legal.yaml": task("budget: {per_request_usd: 0.10}\nroute: [{use: premium}]\n", "legal"),
    }
    return lines(load(catalogue, files))


def test_the_budget_of_an_account_counts_the_requests_of_its_least_task(catalogue: Catalogue) -> None:
    assert _of_accounts(catalogue, mine="per_day_usd: 0.1") == []
    fix = "`per_request_usd` to $0.0099 or less, or this to $0.1 or more"
    assert _of_accounts(catalogue, mine="per_day_usd: 0.099") == [
        f"accounts.yaml:6:27: warning: {_said('0.01', 10, fix)}"
    ]
    fix = "`per_request_usd` to $0.05 or less, or this to $1 or more"
    assert _of_accounts(catalogue, mine="per_day_usd: 0.5", tasks="tasks: [legal]") == [
        f"accounts.yaml:6:27: warning: {_said('0.1', 5, fix)}"
    ]
    assert _of_accounts(catalogue, mine="per_request_usd: 0.05, per_day_usd: 0.5", tasks="tasks: [legal]") == []


def test_the_budget_of_everybody_counts_the_requests_of_the_least_task(catalogue: Catalogue) -> None:
    fix = "`per_request_usd` to $0.005 or less, or this to $0.1 or more"
    assert _of_accounts(catalogue, everybody="per_hour_usd: 0.05") == [
        f"accounts.yaml:2:24: warning: {_said('0.01', 5, fix)}"
    ]
    assert _of_accounts(catalogue, everybody="per_request_usd: 0.005, per_hour_usd: 0.05") == []


@pytest.mark.parametrize(
    ("bounds", "warnings"),
    [
        ("budget: {per_request_usd: 0.02}\n", 0),
        ("accounts: {me: {KEY, budget: {per_request_usd: 0.02}}}\n", 0),
        (
            "accounts: {me: {KEY, budget: {per_request_usd: 0.02}}, other: {KEY, tasks: [default]}}\n",
            0,
        ),
        ("accounts: {me: {KEY, budget: {per_request_usd: 0.02}}, other: {KEY}}\n", 2),
    ],
    ids=["everybody", "each account", "each account of the task", "not each account"],
)
def test_what_a_shadow_holds_is_bounded_by_what_any_caller_may_spend_on_a_request(
    catalogue: Catalogue, bounds: str, warnings: int
) -> None:
    shadow = "{model: premium, budget_per_day_usd: 0.2"
    body = f"learn: {{shadow: {shadow}, grade: agree}}}}\n"
    body += f"route: [{{use: cheap, experiment: {{shadow: {shadow}}}}}}}]\n"
    for digit in "ab":
        bounds = bounds.replace("KEY", f'keys: ["sha256:{digit * 64}"]', 1)
    told = lines(load(catalogue, {"accounts.yaml": f"version: 1\n{bounds}", "support.yaml": task(body)}))
    assert len([line for line in told if "a request without `max_tokens` is never" in line]) == warnings, told


@pytest.mark.parametrize(("rule", "warnings"), [("{name: best, when: {messages: 9}, use: premium}, ", 0), ("", 1)])
def test_a_shadow_of_a_model_that_the_task_knows_holds_what_its_answers_usually_cost(
    catalogue: Catalogue, rule: str, warnings: int
) -> None:
    shadow = "{use: cheap, experiment: {shadow: {model: premium, budget_per_day_usd: 0.2}}}"
    told = _told(catalogue, "hold: expected", f"route: [{rule}{shadow}]\n")
    assert len([line for line in told if "is never mirrored" in line]) == warnings, told


@pytest.mark.anyio
@pytest.mark.parametrize("target", ["openai/gpt-4.1", "anthropic/claude-sonnet-4-5", "gemini/gemini-2.5-flash"])
async def test_no_judge_is_told_less_than_errors_count(catalogue: Catalogue, target: str) -> None:
    models = f"version: 1\nmodels: {{cheap: {{target: openai/gpt-4.1-nano}}, judge: {{target: {target}}}}}\n"
    files: dict[str, str | bytes] = {"models.yaml": models, "support.yaml": task(ROUTE)}
    judge = load(catalogue, files).checked().models["judge"]
    chat = Chat(model="auto", messages=[Message(role="user", content="x")])
    _, facts = await judging(Judge("judge", "Good?", 0.5), chat, (Said("A"),), judge, Counter())
    assert FEWEST_TOLD_TOKENS <= facts.input_tokens_for("judge") <= 3 * FEWEST_TOLD_TOKENS
