"""Rules by money: `prefer: value` buys the most gain for the day's dollars, `premium_share` holds a share outright."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from policy.broken_folder import WHOLE
from router.budgets.contract import Held, Hold, Short
from router.budgets.memory import MemoryBudgets
from router.chat import ChatBody
from router.difficulty.gauge import Gauge
from router.difficulty.pacing import Pacing
from router.difficulty.scorer import MEAN_GAIN
from router.pipeline.plan import Arrival, Plan, plan_for
from router.policy.backtest.recorded import Record, read
from router.policy.backtest.replay import Player
from router.policy.decide import Decision, Purse, Route, decide
from router.policy.explain import explained
from router.policy.facts import Facts
from router.policy.money import ByValue
from router.policy.policy import Policy, PolicySet
from router.policy.reading.load import load_files
from router.pricing import Catalogue
from router.tokens import Counter

MATHS = "Compute the integral of {} over x, then prove that it is less than {}."
CHAT = "Hi there, I would like to know about order {} please, it was {} days ago"
MIDNIGHT = datetime(2026, 11, 18, tzinfo=UTC).timestamp()
VALUE = "budget: {per_day_usd: 1}\nroute:\n  - {name: worth, use: [cheap, standard, premium], prefer: value}\n"
SHARE = "route:\n  - {name: some, use: [cheap, premium], premium_share: 0.2}\n"


CATALOGUE = Catalogue()
MODELS = (
    WHOLE["models.yaml"]
    + b"""  a-dear-one: {target: openai/gpt-4.1}
  twin: {target: openai/gpt-4.1-nano}
"""
)


def policies_of(body: str) -> tuple[PolicySet, Policy]:
    files = {**WHOLE, "models.yaml": MODELS, "money.yaml": f"version: 1\ntask: money\n{body}".encode()}
    policies = load_files(files, CATALOGUE, {}, Path()).checked()
    return policies, policies.policies["money"]


def decided(body: str, facts: Facts, purse: Purse | None = None) -> Decision:
    policies, policy = policies_of(body)
    return decide(policies, policy, facts, purse=purse)


def names(decision: Decision) -> list[str]:
    assert isinstance(decision, Route)
    return [candidate.model.name for candidate in decision.candidates]


def first(body: str, facts: Facts) -> str:
    return names(decided(body, facts))[0]


# value


@pytest.mark.parametrize(
    ("gain", "pace", "model"),
    [
        (0.02, 1.0, "cheap"),
        (0.9, 1.0, "premium"),
        (0.9, 0.01, "cheap"),
        (0.02, 100.0, "premium"),
        (0.2, 0.8, "standard"),
    ],
)
def test_the_model_with_the_best_gain_for_its_dollars_is_taken(gain: float, pace: float, model: str) -> None:
    assert first(VALUE, Facts(500, gain=gain, pace=pace)) == model


def test_a_usual_gain_on_a_usual_request_is_just_worth_the_dearest_model() -> None:
    decision = decided(VALUE, Facts(500, gain=MEAN_GAIN))
    assert isinstance(decision, Route)
    assert isinstance(decision.by_money, ByValue)
    net_usd = decision.by_money.net_usd
    assert net_usd["cheap"] == 0
    assert net_usd["premium"] == pytest.approx(0, abs=1e-12)
    assert net_usd["standard"] > 0, "most of the gain is bought before the last dollars"


def test_models_of_one_price_are_tried_in_their_order_whatever_the_gain() -> None:
    body = VALUE.replace("[cheap, standard, premium]", "[twin, cheap]")
    assert names(decided(body, Facts(500, gain=0.9))) == ["twin", "cheap"]


def test_a_long_prompt_has_to_gain_more() -> None:
    assert first(VALUE, Facts(100, gain=0.5)) == "premium"
    assert first(VALUE, Facts(50_000, gain=0.5)) == "cheap"


def test_spending_rises_with_the_pace() -> None:
    estimates = []
    for step in range(-20, 21):
        decision = decided(VALUE, Facts(800, gain=0.2, pace=10 ** (step / 10)))
        assert isinstance(decision, Route)
        estimates.append(decision.candidates[0].estimate_nusd)
    assert estimates == sorted(estimates)
    assert len(set(estimates)) == 3


def test_value_never_goes_above_the_requests_bound() -> None:
    decision = decided(VALUE, Facts(500, gain=1.0, pace=1_000.0), Purse(250_000, "the test's"))
    assert isinstance(decision, Route)
    assert "premium" not in names(decision)
    assert all(candidate.ceiling_nusd <= 250_000 for candidate in decision.candidates)


def test_explain_tells_the_price_of_gain_and_why() -> None:
    policies, policy = policies_of(VALUE)
    facts = Facts(500, gain=0.9, pace=2.0)
    said = explained(decide(policies, policy, facts, purse=None), facts, policy)["by_money"]
    assert (said["by"], said["gain"], said["pace"]) == ("value", 0.9, 2.0)
    assert said["usd_per_gain"] > 0
    assert max(said["net_usd"], key=said["net_usd"].get) == "premium"
    assert "'premium' is worth the most" in said["reason"]


# share


@pytest.mark.parametrize("use", [("cheap", "premium"), ("premium", "cheap"), ("cheap", "a-dear-one")])
def test_the_hardest_go_to_the_dearest_model_however_they_are_listed_and_named(use: tuple[str, str]) -> None:
    body = SHARE.replace("[cheap, premium]", f"[{', '.join(use)}]")
    [dear] = {*use} - {"cheap"}
    assert names(decided(body, Facts(500, ranks={"some": 0.8}))) == [dear, "cheap"]
    assert names(decided(body, Facts(500, ranks={"some": 0.7999}))) == ["cheap", dear]


def test_where_only_the_tasks_difficulty_is_known_it_ranks() -> None:
    assert first(SHARE, Facts(500, difficulty=0.9)) == "premium"
    assert first(SHARE, Facts(500)) == "cheap"


@pytest.mark.parametrize(("rank", "tried"), [(0.9, ["premium", "cheap"]), (0.1, ["cheap", "premium"])])
def test_explain_lists_models_in_the_order_in_which_they_are_tried(rank: float, tried: list[str]) -> None:
    policies, policy = policies_of(SHARE)
    facts = Facts(500, ranks={"some": rank})
    said = explained(decide(policies, policy, facts, purse=None), facts, policy)
    assert [candidate["model"] for candidate in said["candidates"]] == tried


@pytest.mark.parametrize(
    ("share", "rank", "reason"),
    [
        ("0.2", 0.93, "harder than 93.0% of what reaches the rule, at least the 80.0% from which 'premium' is asked"),
        ("0.2", 0.1, "harder than 10.0% of what reaches the rule, less than the 80.0% from which 'premium' is asked"),
        ("0.2", None, "how hard it is beside the others is not known, so it is not for 'premium'"),
        ("0", 0.5, "`premium_share: 0` sends none to 'premium'"),
        ("1", 0.5, "`premium_share: 1` sends all to 'premium'"),
    ],
)
def test_explain_tells_the_rank_and_the_threshold(share: str, rank: float | None, reason: str) -> None:
    policies, policy = policies_of(SHARE.replace("0.2", share))
    facts = Facts(500, ranks={} if rank is None else {"some": rank})
    said = explained(decide(policies, policy, facts, purse=None), facts, policy)["by_money"]
    assert (said["rank"], said["threshold"], said["premium"]) == (rank, 1 - float(share), "premium")
    assert said["reason"] == reason


# through the steps of the proxy


def prompts(count: int, maths_before: float, maths_after: float, seed: int = 9) -> Iterator[str]:
    dice = random.Random(seed)
    for at in range(count):
        maths = dice.random() < (maths_before if at < count / 2 else maths_after)
        yield (MATHS if maths else CHAT).format(dice.randrange(9_999), at)


async def planned(text: str, at_s: float, body: tuple[PolicySet, Policy], around: tuple[Any, ...]) -> Plan:
    counter, budgets, gauge, pacing = around
    request = msgspec.json.encode({"model": "task:money", "messages": [{"role": "user", "content": text}]})
    arrival = Arrival(str(at_s), at_s, 0.0, ChatBody(request), None, {}, None, None)
    return await plan_for(arrival, body[0], counter, budgets, gauge, pacing=pacing)


@pytest.mark.parametrize("rank", [0.0, 0.5, 1.0, None])
@pytest.mark.parametrize(("share", "model"), [("0", "cheap"), ("1", "premium")])
def test_a_share_of_none_or_all_is_exact_whatever_the_rank(share: str, model: str, rank: float | None) -> None:
    ranks = {} if rank is None else {"some": rank}
    assert first(SHARE.replace("0.2", share), Facts(100, ranks=ranks)) == model


@pytest.mark.parametrize("share", [0.03, 0.2, 0.37, 0.5])
@pytest.mark.parametrize("unsure", ["", "unsure: premium\n"])
@pytest.mark.anyio
async def test_the_share_holds_on_a_mixed_stream_that_changes_its_source_half_way(share: float, unsure: str) -> None:
    body = policies_of(unsure + SHARE.replace("0.2", str(share)))
    gauge, counter = Gauge(), Counter()
    around = (counter, MemoryBudgets(lambda: MIDNIGHT), gauge, None)
    dice, taken = random.Random(1), 0
    for at, text in enumerate(prompts(2_000, 0.2, 0.8)):
        plan = await planned("Hello" if dice.random() < 0.05 else text, MIDNIGHT + at, body, around)
        assert plan.facts.reading is not None
        taken += names(plan.decision)[0] == "premium"
        gauge.seen("money", plan.facts.reading)
        gauge.seen_in("money", "some", plan.facts.reading, plan.policy.unsure)
    assert taken / 2_000 == pytest.approx(share, abs=0.02)


@pytest.mark.anyio
async def test_the_share_is_of_what_reaches_the_rule_and_not_of_the_task() -> None:
    rules = SHARE.replace("route:\n", "route:\n  - {name: easy, when: {difficulty: {lt: 0.6}}, use: cheap}\n")
    body, gauge = policies_of(rules), Gauge()
    around = (Counter(), MemoryBudgets(lambda: MIDNIGHT), gauge, None)
    reached = taken = 0
    for at, text in enumerate(prompts(2_000, 0.3, 0.6)):
        plan = await planned(text, MIDNIGHT + at, body, around)
        assert plan.facts.reading is not None
        gauge.seen("money", plan.facts.reading)
        if plan.decision.rule.name == "some":
            gauge.seen_in("money", "some", plan.facts.reading, None)
            reached += 1
            taken += names(plan.decision)[0] == "premium"
    assert reached / 2_000 == pytest.approx(0.4, abs=0.02)
    assert taken / reached == pytest.approx(0.2, abs=0.03)


async def spent_nusd(plan: Plan, budgets: MemoryBudgets) -> tuple[Plan, int]:
    """Spend what a plan expects to, as the pipeline would: decided anew where that is not left."""
    for _ in range(3):
        if not isinstance(plan.decision, Route):
            break
        nusd = plan.decision.candidates[0].estimate_nusd
        held = await budgets.hold(Hold(plan.facts.text + str(nusd), plan.scopes, nusd))
        if isinstance(held, Held):
            await budgets.settle(plan.facts.text + str(nusd), nusd)
            return plan, nusd
        assert isinstance(held, Short)
        plan = plan.within(held.level, 0.0)
    return plan, 0


@pytest.mark.anyio
async def test_a_tasks_spend_meets_its_budget_over_the_day() -> None:
    _, policy = body = policies_of(VALUE.replace("per_day_usd: 1", "per_day_usd: 0.6"))
    now_s = MIDNIGHT
    pacing, counter, gauge = Pacing(), Counter(), Gauge()
    budgets = MemoryBudgets(lambda: now_s)
    total_nusd, by_six_nusd = 0, 0
    for text in prompts(1_500, 0.5, 0.5):
        plan = await planned(text, now_s, body, (counter, budgets, gauge, pacing))
        plan, nusd = await spent_nusd(plan, budgets)
        pacing.seen("money", plan.facts.pace, now_s)
        total_nusd += nusd
        by_six_nusd = by_six_nusd or (total_nusd if now_s >= MIDNIGHT + 64_800 else 0)
        now_s += 86_400 / 1_500 - 1e-6
    limit_nusd = policy.budget.per_day_nusd
    assert limit_nusd is not None
    assert 0.98 <= total_nusd / limit_nusd <= 1
    assert by_six_nusd / limit_nusd == pytest.approx(0.75, abs=0.06)


@pytest.mark.anyio
async def test_what_is_left_of_the_month_is_spread_over_the_day_as_well() -> None:
    limits = "per_day_usd: 0.6, per_month_usd: 0.9"
    _, policy = body = policies_of(VALUE.replace("per_day_usd: 1", limits))
    now_s = MIDNIGHT
    pacing, counter, gauge = Pacing(), Counter(), Gauge()
    budgets = MemoryBudgets(lambda: now_s)
    nusd_by_half_day = [0, 0, 0, 0]
    for at, text in enumerate([*prompts(1_500, 0.5, 0.5), *prompts(1_500, 0.5, 0.5)]):
        plan = await planned(text, now_s, body, (counter, budgets, gauge, pacing))
        plan, nusd = await spent_nusd(plan, budgets)
        assert isinstance(plan.decision, Route), f"request {at} was refused"
        pacing.seen("money", plan.facts.pace, now_s)
        nusd_by_half_day[at // 750] += nusd
        now_s += 86_400 / 1_500 - 1e-6
    assert policy.budget.per_month_nusd is not None
    assert 0.98 <= sum(nusd_by_half_day) / policy.budget.per_month_nusd <= 1
    assert nusd_by_half_day[2] == pytest.approx(nusd_by_half_day[3], rel=0.2)


@pytest.mark.parametrize("budget", ["", "budget: {per_month_usd: 5}\n", "budget: {per_request_usd: 0.01}\n"])
@pytest.mark.anyio
async def test_without_a_days_budget_gain_costs_the_same_at_any_hour(budget: str) -> None:
    body = policies_of(VALUE.replace("budget: {per_day_usd: 1}\n", budget))
    for hour in (0, 23):
        now_s = MIDNIGHT + hour * 3_600
        plan = await planned("Where?", now_s, body, (Counter(), MemoryBudgets(lambda: MIDNIGHT), Gauge(), Pacing()))
        assert plan.facts.pace == 1


@pytest.mark.anyio
@pytest.mark.parametrize("text", [VALUE.replace("per_day_usd: 1", "per_day_usd: 0.12"), SHARE])
async def test_a_replay_decides_as_it_was_decided(text: str) -> None:
    policies, _ = body = policies_of(text)
    gauge, pacing, counter = Gauge(), Pacing(), Counter()
    now_s = MIDNIGHT
    budgets = MemoryBudgets(lambda: now_s)
    player, seen = Player(policies), set()
    for at, prompt in enumerate(prompts(300, 0.5, 0.5)):
        plan = await planned(prompt, now_s, body, (counter, budgets, gauge, pacing))
        assert plan.facts.reading is not None
        gauge.seen_in("money", "some", plan.facts.reading, None)
        pacing.seen("money", plan.facts.pace, now_s)
        plan, _ = await spent_nusd(plan, budgets)
        row = Record(
            id=str(at), at="", account=None, task="money", rule=plan.decision.rule.name, requested_model="task:money",
            routed_model=None, kind=None, outcome="answered", charged_nusd=1, attempts="[]",
            policy_revision=policies.revision, facts=msgspec.json.encode(plan.recorded(None)).decode(),
        )  # fmt: skip
        request = read(row)
        assert request is not None
        played = player.play(request)
        first_model = names(plan.decision)[0] if isinstance(plan.decision, Route) else None
        assert (played.first_model, played.unknown_rules) == (first_model, ())
        seen.add(played.first_model)
        now_s += 86_400 / 300 - 1e-6
    assert len(seen - {None}) >= 2
