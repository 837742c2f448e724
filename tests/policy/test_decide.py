"""The decision at its bounds: contexts, dollars and targets to the last token and nano-dollar."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policy.loading import load, task
from router.policy.decide import Candidate, Misfit, Purse, Refusal, Route, ask_of, consider, decide
from router.policy.facts import Facts
from router.policy.policy import Policy, PolicySet
from router.policy.target import Model
from router.pricing import Ask, Catalogue

MODELS = """version: 1
models:
  cheap: {target: openai/gpt-4.1-nano}
  standard: {target: openai/gpt-4.1-mini}
  premium: {target: openai/gpt-4.1}
  either: {targets: [{target: openai/gpt-4.1-nano}, {target: openai/gpt-4.1}]}
  tuned: {target: openai/x, price: free}
"""


def policies_of(catalogue: Catalogue, body: str) -> tuple[PolicySet, Policy]:
    policies = load(catalogue, {"models.yaml": MODELS, "support.yaml": task(body)}).checked()
    return policies, policies.policies["support"]


@pytest.fixture(scope="module")
def plain(catalogue: Catalogue) -> tuple[PolicySet, Policy]:
    return policies_of(catalogue, "min_output_tokens: 10\nroute:\n  - use: [cheap, either, premium, tuned]\n")


def considered(plain: tuple[PolicySet, Policy], name: str, facts: Facts, nusd: int | None = None) -> Candidate:
    policies, policy = plain
    return consider(policies.models[name], policy, facts, None if nusd is None else Purse(nusd, "a test's"))


def narrow(model: Model, context_tokens: int) -> Model:
    return replace(model, targets=tuple(replace(each, context_tokens=context_tokens) for each in model.targets))


def test_an_answer_has_what_the_input_leaves_of_the_context(plain: tuple[PolicySet, Policy]) -> None:
    policies, policy = plain
    model = narrow(policies.models["cheap"], 1_000)
    fits = [consider(model, policy, Facts(input_tokens=count), None) for count in (900, 999)]
    assert [(each.misfit, each.max_output_tokens) for each in fits] == [(None, 100), (None, 1)]
    assert consider(model, policy, Facts(input_tokens=1_000), None).misfit is Misfit.CONTEXT


def test_the_least_answer_fits_to_the_nano_dollar(plain: tuple[PolicySet, Policy]) -> None:
    facts = Facts(input_tokens=1_000)
    # gpt-4.1: $2 and $8 for a million tokens.
    needs_nusd = 1_000 * 2_000 + 10 * 8_000
    fits = considered(plain, "premium", facts, needs_nusd)
    assert (fits.misfit, fits.max_output_tokens, fits.ceiling_nusd, fits.clamped) == (None, 10, needs_nusd, True)
    short = considered(plain, "premium", facts, needs_nusd - 1)
    assert (short.misfit, short.ceiling_nusd) == (Misfit.MONEY, needs_nusd)


@pytest.mark.parametrize("nusd", [None, 1_000_000, 1_000])
def test_a_model_of_several_targets_is_judged_by_the_dearest(plain: tuple[PolicySet, Policy], nusd: int | None) -> None:
    facts = Facts(input_tokens=200)
    either, dearest = (considered(plain, name, facts, nusd) for name in ("either", "premium"))
    for name in ("misfit", "max_output_tokens", "ceiling_nusd", "estimate_nusd"):
        assert getattr(either, name) == getattr(dearest, name), name


def test_a_limit_is_sent_only_where_more_could_come(plain: tuple[PolicySet, Policy]) -> None:
    def clamped(name: str, **more: int) -> bool:
        return considered(plain, name, Facts(input_tokens=10, **more)).clamped

    assert not clamped("cheap"), "the model gives no more than its own limit"
    assert clamped("tuned"), "nobody knows its limit"
    assert not clamped("cheap", max_output_tokens=100), "the caller says so already"
    assert clamped("cheap", max_output_tokens=10**6)


def test_a_caller_who_asks_for_more_than_there_is_gets_what_there_is(plain: tuple[PolicySet, Policy]) -> None:
    assert considered(plain, "cheap", Facts(input_tokens=10, max_output_tokens=10**6)).max_output_tokens == 32_768


def test_an_ask_is_all_that_the_facts_say_of_the_cost() -> None:
    has = frozenset({"web_search"})
    facts = Facts(1, n=3, service_tier="flex", has=has, search_context="low", predicted_tokens=9)
    assert ask_of(facts, 7) == Ask(7, 3, "flex", has, "low", 9)


DOWN = "route:\n  - {when: {hour: {eq: 3}}, use: [standard, cheap]}\n  - use: premium\n"


def test_where_no_rule_s_model_is_affordable_the_others_come_cheapest_first(catalogue: Catalogue) -> None:
    policies, policy = policies_of(catalogue, DOWN)
    found = decide(policies, policy, Facts(1_000), purse=Purse(1_999_999, "a test's"))
    assert isinstance(found, Route)
    assert [each.model.name for each in found.candidates] == ["cheap", "standard"]
    assert (found.downgraded, found.rule) == (True, policy.rules[1])


def test_a_refusal_names_the_cheapest(catalogue: Catalogue) -> None:
    policies, policy = policies_of(catalogue, DOWN)
    found = decide(policies, policy, Facts(1_000), purse=Purse(1, "a test's"))
    assert isinstance(found, Refusal)
    assert "the cheapest, 'cheap'," in found.message


def test_where_nothing_may_be_cheaper_one_model_without_money_ends_it(catalogue: Catalogue) -> None:
    policies, policy = policies_of(catalogue, DOWN.replace("use: premium", "use: [tuned, premium]"))
    absent = replace(policies.models["tuned"], absent="it has no key")
    policies = replace(policies, models={**policies.models, "tuned": absent})
    strict = Purse(1_999_999, "a test's", may_downgrade=False)
    assert isinstance(decide(policies, policy, Facts(1_000), purse=strict), Refusal)
    only_absent = replace(policy, rules=(policy.rules[0], replace(policy.rules[1], use=("tuned",))))
    assert isinstance(decide(policies, only_absent, Facts(1_000), purse=strict), Route), "money is not what it lacks"
