"""What is written down of a request: enough to decide it again, and no word of it."""

from __future__ import annotations

import msgspec

from router.policy.backtest.playable import Told, truth
from router.policy.condition import AllOf, AnyOf, Condition, Named, Not, compare_fact, compare_has, compare_text
from router.policy.decide import Purse, decide
from router.policy.facts import Facts
from router.policy.policy import Policy, PolicySet, Rule
from router.policy.record import RecordedFacts, leaves_of, name_of, recorded_circumstances, recorded_decision
from router.policy.record import recorded_facts as recorded
from router.policy.target import Model, Target
from router.pricing import Price
from router.tokens import rules_for

TEXT = compare_text("contains", "lawyer")
HARD = compare_fact("difficulty", "gte", 0.5)
SECRET = "xyzzy, said my lawyer"


def policies_with(when: Condition) -> tuple[PolicySet, Policy]:
    target = Target("openai", "a", Price.free(), rules_for("openai", "gpt-4o"))
    models = {name: Model(name, "routine", (target,)) for name in ("one", "two")}
    rules = (Rule("first", ("one",), when), Rule("otherwise", ("two",)))
    policy = Policy("default", rules, needs=when.needs())
    return PolicySet("r", models, {"default": policy}), policy


def written(when: Condition, facts: Facts, purse: Purse | None = None) -> bytes:
    policies, policy = policies_with(when)
    decision = decide(policies, policy, facts, purse=purse)
    around = recorded_circumstances(policies, policy, facts, budgets=True)
    return msgspec.json.encode(recorded(facts) | around | recorded_decision(decision, 5, named_task=False))


def test_text_headers_and_metadata_are_written_as_truth_values_alone() -> None:
    facts = Facts(1, text=SECRET, headers={"x-a": SECRET}, metadata={"a": SECRET}, service_tier=SECRET)
    data = written(AllOf((TEXT, Not(HARD))), facts)
    assert b"xyzzy" not in data
    assert b"lawyer" not in data
    back = msgspec.json.decode(data, type=RecordedFacts)
    assert back.conditions == {name_of(TEXT): True}
    assert (back.first_model, back.named_task, back.asked_nusd, back.service_tier) == ("one", False, 5, "unknown")
    assert back.looked_at == {"difficulty"}


def test_what_others_left_of_a_budget_is_written_and_a_policys_own_limit_is_not() -> None:
    own = msgspec.json.decode(written(HARD, Facts(1), Purse(10**9, "own")), type=RecordedFacts)
    assert own.left_nusd is None
    left = Purse(10**9, "the day's", code="budget_exceeded", may_downgrade=False)
    back = msgspec.json.decode(written(HARD, Facts(1), left), type=RecordedFacts)
    assert (back.left_nusd, back.left_downgrades) == (10**9, False)


def test_a_question_has_one_name_in_every_policy_and_another_question_another() -> None:
    assert name_of(TEXT) == name_of(compare_text("contains", "lawyer"))
    assert name_of(TEXT) != name_of(compare_text("contains", "lawyers"))
    assert [*leaves_of(Named("legal", AnyOf((TEXT, HARD))))] == [TEXT, HARD]


def test_what_is_not_known_decides_only_where_nothing_else_does() -> None:
    unknown, yes, no = Told("nowhere"), compare_fact("messages", "eq", 1), compare_fact("messages", "eq", 2)
    facts = RecordedFacts(1)
    assert truth(unknown, facts) is None
    assert truth(Not(unknown), facts) is None
    assert truth(AllOf((unknown, no)), facts) is False
    assert truth(AllOf((unknown, yes)), facts) is None
    assert truth(AnyOf((unknown, yes)), facts) is True
    assert truth(AnyOf((unknown, no)), facts) is None
    assert truth(AnyOf((no, Not(yes))), facts) is False
    assert truth(compare_has("eq", frozenset({"tools"})), facts) is False
