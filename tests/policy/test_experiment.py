"""Experiments and sticky conversations in the files: every fault in its place, and what a sound one is read as."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from router.policy.experiment import Canary, Guard, Guards, Shadow
from router.policy.reading.load import Loaded, load_files
from router.policy.testing import run_tests
from router.pricing import Catalogue
from router.tokens import Counter

MODELS = b"""version: 1
models:
  cheap: {target: openai/gpt-4o-mini}
  dear: {target: openai/gpt-4o}
"""
HEAD = "version: 1\ntask: default\nroute:\n  - use: cheap\n    experiment: "
"""What follows stands on line 5 from column 17 on."""


def _load(catalogue: Catalogue, text: str) -> Loaded:
    return load_files({"models.yaml": MODELS, "default.yaml": text.encode()}, catalogue, {}, Path("policies"))


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("{}", 5, "`experiment` tries nothing; give it a `canary` or a `shadow`"),
        ("{canary: {model: cheep, share: 1}}", 34, 'unknown model "cheep"; did you mean "cheap"?'),
        ("{canary: {model: cheap, share: 1}}", 34, '"cheap" is what this rule uses first already; try another model'),
        ("{canary: {model: dear, share: 1.01}}", 47, "`share` must be at most 1, not 1.01"),
        ("{canary: {model: dear, share: -0.1}}", 47, "`share` must be at least 0, not -0.1"),
        ("{canary: {model: dear}}", 26, '"share" is missing here'),
        (
            "{canary: {model: dear, share: 1, sticky_by: user}}",
            61,
            '`sticky_by` must be conversation, account or header:NAME, not "user"',
        ),
        (
            "{canary: {model: dear, share: 1, sticky_by: 'header:'}}",
            50,
            "name the header: `sticky_by: header:x-user-id`",
        ),
        ("{shadow: {model: dear, share: 1}}", 26, '"budget_per_day_usd" is missing here'),
        (
            "{shadow: {model: dear, budget_per_day_usd: 1}, abort_when: {cost_usd: {gt: 1}}}",
            64,
            "`abort_when` guards a canary, and there is none",
        ),
        (
            "{canary: {model: dear, share: 1}, abort_when: {after_requests: 5}}",
            51,
            "`abort_when` guards nothing; give it one of error_rate, cost_usd, latency_p95_ms, verify_pass_rate",
        ),
        (
            "{canary: {model: dear, share: 1}, abort_when: {eror_rate: {gt: 1}, cost_usd: {gt: 1}}}",
            64,
            'unknown key "eror_rate"; did you mean "error_rate"?',
        ),
        (
            "{canary: {model: dear, share: 1}, promote_when: {cost_usd: {}}}",
            66,
            "`cost_usd` has no bound; give it gt, gte, lt or lte",
        ),
        (
            "{canary: {model: dear, share: 1}, promote_when: {verify_pass_rate: {gt: 0.9}}}",
            66,
            "this rule has no `verify`, so there is no such rate",
        ),
        (
            "{canary: {model: dear, share: 1}, abort_when: {after_requests: 1001, cost_usd: {gt: 1}}}",
            80,
            "`after_requests` must be at most 1000, not 1001",
        ),
        (
            "{canary: {model: dear, share: 1}, abort_when: {error_rate: {gt: 5}}}",
            81,
            "`error_rate` is from 0 to 1, so 5 says nothing",
        ),
        (
            "{canary: {model: dear, share: 1}, promote_when: {error_rate: {lt: -0.1}}}",
            83,
            "`error_rate` is from 0 to 1, so -0.1 says nothing",
        ),
        ("{canary: [dear], shadow: no}", 26, "`canary` must be a mapping, not a list"),
    ],
)
def test_a_fault_is_told_in_its_place(catalogue: Catalogue, text: str, column: int, message: str) -> None:
    faults = _load(catalogue, HEAD + text + "\n").faults
    assert (5, column, message) in [(fault.line, fault.column, fault.message) for fault in faults]


def test_a_stick_that_there_is_not_is_a_fault(catalogue: Catalogue) -> None:
    [fault] = _load(catalogue, "version: 1\ntask: default\nstick: account\nroute: [{use: cheap}]\n").faults
    assert (fault.line, fault.message.split(",")[0]) == (3, "`stick` must be conversation or none")


def test_a_sound_experiment_is_read_as_it_stands(catalogue: Catalogue) -> None:
    text = (
        "{canary: {model: dear, share: 0.05, sticky_by: 'header:X-User'}, "
        "shadow: {model: dear, budget_per_day_usd: 2.5}, "
        "abort_when: {error_rate: {gt: 0.05}, cost_usd: {gte: 0.01}}, "
        "promote_when: {after_requests: 7, latency_p95_ms: {lt: 900}}}"
    )
    [rule] = _load(catalogue, HEAD + text + "\n").checked().policies["default"].rules
    found = rule.experiment
    assert found is not None
    assert found.name == "default/otherwise"
    assert found.canary == Canary("dear", 0.05, "header:x-user")
    assert found.shadow == Shadow("dear", 1.0, 2_500_000_000)
    bounds = (Guard("error_rate", "gt", Decimal("0.05")), Guard("cost_usd", "gte", Decimal("0.01")))
    assert found.abort_when == Guards(bounds, 20)
    assert found.promote_when == Guards((Guard("latency_p95_ms", "lt", Decimal(900)),), 7)


def test_a_test_may_expect_the_canary_that_its_conversation_meets(catalogue: Catalogue) -> None:
    loaded = _load(
        catalogue,
        f"{HEAD}{{canary: {{model: dear, share: 1}}}}\n"
        "tests:\n"
        "  - {name: tried, request: {messages: [{role: user, content: Hello}]}, expect: {use: dear}}\n"
        "  - {name: pinned, request: {model: cheap, messages: [{role: user, content: Hello}]}, expect: {use: cheap}}\n",
    )
    assert loaded.faults == ()
    assert [verdict.message for verdict in run_tests(loaded.checked(), loaded.tests, Counter())] == ["", ""]


def test_any_edit_of_an_experiment_is_another_version(catalogue: Catalogue) -> None:
    def version(text: str, more: str = "") -> str:
        [rule] = _load(catalogue, HEAD + text + "\n" + more).checked().policies["default"].rules
        assert rule.experiment is not None
        return rule.experiment.version

    first = version("{canary: {model: dear, share: 0.5}}")
    assert version("{canary:  {share: 0.50, model: dear}}", "min_output_tokens: 5\n") == first
    assert version("{canary: {model: dear, share: 0.6}}") != first


def test_a_model_on_trial_is_no_fallback_of_the_policy(catalogue: Catalogue) -> None:
    policy = _load(catalogue, HEAD + "{canary: {model: dear, share: 0}}\n").checked().policies["default"]
    assert (policy.models, policy.trial_models) == (("cheap",), ("dear",))
