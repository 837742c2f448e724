"""The runner of policy tests: it decides as a request would be decided, under the circumstances that a test gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.policy.reading.load import load_files
from router.policy.testing import Verdict, run_tests
from router.pricing import Catalogue
from router.tokens import Counter

MODELS = b"""version: 1
models:
  cheap: {target: openai/gpt-4.1-nano}
  premium: {target: openai/gpt-4.1, kind: premium}
  local: {target: openai/tiny, base_url: "${NOWHERE_URL}", price: free, optional: true, lacks: [tools]}
"""
ACCOUNTS = b"""version: 1
accounts:
  web:
    keys: ["sha256:0000000000000000000000000000000000000000000000000000000000000000"]
    budget: {per_request_usd: 0.0001}
    tasks: [other]
"""
OTHER = b"version: 1\ntask: other\nroute:\n  - use: cheap\n"
TASK = """version: 1
task: default
budget: {{per_request_usd: 0.05, on_exceeded: {on_exceeded}}}
expected_output_tokens: 100
route:
  - name: hard
    when: {{difficulty: {{gte: 0.6}}, budget_used_pct: {{lt: 90}}}}
    use: premium
  - name: evening
    when: {{hour: {{gte: 18}}, headers: {{x-team: search}}}}
    use: premium
  - use: [local, cheap]
tests:
  - name: it
    {test}
"""


@pytest.fixture(scope="module")
def counter() -> Counter:
    return Counter()


@pytest.fixture
def verdict_of(counter: Counter, catalogue: Catalogue):
    def run(test: str, on_exceeded: str = "downgrade") -> Verdict:
        task = TASK.format(test=test.replace("\n", "\n    "), on_exceeded=on_exceeded).encode()
        files = {"models.yaml": MODELS, "accounts.yaml": ACCOUNTS, "default.yaml": task, "other.yaml": OTHER}
        loaded = load_files(files, catalogue, {}, Path("policies"))
        (verdict,) = run_tests(loaded.checked(), loaded.tests, counter)
        assert verdict.passed is (verdict.message == "")
        return verdict

    return run


REQUEST = "request: {messages: [{role: user, content: Hello}]}"
HOLDS = [
    f"{REQUEST}\nexpect: {{rule: otherwise, use: [local, cheap], cost_usd: 0}}",
    f"{REQUEST}\ngiven: {{absent: local}}\nexpect: {{use: cheap, cost_usd: {{gt: 0, lte: 0.0001}}}}",
    f"{REQUEST}\ngiven: {{difficulty: 0.6}}\nexpect: {{rule: hard, use: premium}}",
    f"{REQUEST}\ngiven: {{difficulty: 0.9, budget_used_pct: 90}}\nexpect: {{rule: otherwise}}",
    f"{REQUEST}\ngiven: {{difficulty: 0, hour: 18, headers: {{X-Team: search}}}}\nexpect: {{rule: evening}}",
    f"{REQUEST}\ngiven: {{absent: local, account: web}}\nexpect: {{refused: not_allowed}}",
    "facts: {input_tokens: 100, has: tools}\nexpect: {rule: otherwise, use: cheap}",
    "facts: {input_tokens: 100, max_output_tokens: 7}\nexpect: {max_output_tokens: 7}",
    "facts: {input_tokens: 100}\ngiven: {absent: local}\nexpect: {max_output_tokens: {gte: 1000}}",
    (
        "facts: {input_tokens: 1000}\n"
        "given: {absent: local, headers: {x-farthing-budget-usd: '0.00001'}}\n"
        "expect: {refused: request_budget_exceeded}"
    ),
    "facts: {input_tokens: 1000}\ngiven: {absent: local, budget_remaining_usd: 0}\nexpect: {refused: budget_exceeded}",
    "facts: {input_tokens: 10}\ngiven: {absent: [local, cheap, premium]}\nexpect: {refused: model_not_found}",
    "request: {model: gpt-9, messages: [{role: user, content: Hello}]}\nexpect: {refused: model_not_found}",
    "request: {model: premium, messages: [{role: user, content: Hello}]}\nexpect: {rule: pinned, use: premium}",
]


@pytest.mark.parametrize("test", HOLDS)
def test_a_test_that_holds_passes(verdict_of, test: str) -> None:
    assert verdict_of(test).message == ""


FAILS = [
    (
        f"{REQUEST}\ngiven: {{difficulty: 0.5}}\nexpect: {{rule: hard}}",
        "expected rule hard, got otherwise (hard: difficulty ≥ 0.6: no (is 0.5) and budget_used_pct < 90: yes (is 0))",
    ),
    (
        f"{REQUEST}\ngiven: {{difficulty: 0.7}}\nexpect: {{rule: otherwise}}",
        (
            "expected rule otherwise, got hard (hard comes first: difficulty ≥ 0.6: yes (is 0.7) and "
            "budget_used_pct < 90: yes (is 0))"
        ),
    ),
    (f"{REQUEST}\nexpect: {{use: [cheap, local]}}", "expected use [cheap, local], got [local, cheap] (rule otherwise)"),
    (
        "facts: {input_tokens: 10, has: tools}\nexpect: {use: local}",
        "expected use local, got cheap (local can't take tools)",
    ),
    (
        "facts: {input_tokens: 1000000}\ngiven: {absent: local}\nexpect: {cost_usd: {lt: 0.00001}}",
        "expected an answer, got request_budget_exceeded: ",
    ),
    (
        "facts: {input_tokens: 1000}\ngiven: {absent: local}\nexpect: {cost_usd: {lt: 0.00001}}",
        "expected cost_usd < 0.00001, got 0.00014 (cheap, 1000 input and 100 output tokens)",
    ),
    (
        "facts: {input_tokens: 10}\nexpect: {refused: budget_exceeded}",
        "expected budget_exceeded, got rule otherwise, use local",
    ),
    (
        "facts: {input_tokens: 10, max_output_tokens: 64}\nexpect: {max_output_tokens: {gte: 65}}",
        "expected max_output_tokens ≥ 65, got 64 on local",
    ),
]


@pytest.mark.parametrize(("test", "said"), FAILS)
def test_a_test_that_fails_says_what_differs(verdict_of, test: str, said: str) -> None:
    verdict = verdict_of(test)
    assert not verdict.passed
    assert said in verdict.message


def test_a_rule_that_money_kept_from_being_served_is_told(verdict_of) -> None:
    verdict = verdict_of(
        "facts: {input_tokens: 20000, difficulty: 0.9}\n"
        "given: {headers: {x-farthing-budget-usd: '0.01'}}\nexpect: {rule: hard}"
    )
    assert "hard holds, but premium needs $0.04" in verdict.message


def test_under_reject_money_refuses_instead_of_going_lower(verdict_of) -> None:
    test = "facts: {input_tokens: 30000, difficulty: 0.9}\nexpect: {use: local}"
    assert verdict_of(test).passed
    assert "request_budget_exceeded" in verdict_of(test, on_exceeded="reject").message


@pytest.mark.parametrize(
    ("budget", "given", "expect"),
    [
        ("{per_day_usd: 0.01}", "{}", "{rule: otherwise, use: cheap}"),
        ("{per_day_usd: 0.01, per_request_usd: 0.02}", "{}", "{rule: otherwise, use: cheap}"),
        ("{per_hour_usd: 0.01, on_exceeded: reject}", "{}", "{refused: budget_exceeded}"),
        ("{per_month_usd: 0.01, on_exceeded: warn}", "{}", "{rule: long, use: premium}"),
        ("{per_day_usd: 0.05}", "{}", "{rule: long, use: [premium]}"),
        ("{per_day_usd: 0.01}", "{budget_remaining_usd: 0.05}", "{rule: long, use: premium}"),
    ],
)
def test_an_unused_day_bounds_a_request_as_the_proxy_has_it(
    counter: Counter, catalogue: Catalogue, budget: str, given: str, expect: str
) -> None:
    # 20,000 tokens cost $0.04 at premium; behind it `also` would cost the rest of the day, and is not tried.
    task = f"""version: 1
task: default
budget: {budget}
route:
  - {{name: long, when: {{input_tokens: {{gt: 10000}}, budget_remaining_usd: {{gt: 0.004}}}}, use: [premium, also]}}
  - use: cheap
tests:
  - {{name: it, facts: {{input_tokens: 20000, max_output_tokens: 1000}}, given: {given}, expect: {expect}}}
"""
    also = b"  also: {target: openai/gpt-4-turbo}\n"
    loaded = load_files({"models.yaml": MODELS + also, "default.yaml": task.encode()}, catalogue, {}, Path("policies"))
    (verdict,) = run_tests(loaded.checked(), loaded.tests, counter)
    assert verdict.message == ""


def test_a_model_that_lacks_code_gets_none_though_no_rule_looks_for_it(counter: Counter, catalogue: Catalogue) -> None:
    models = MODELS.replace(b"lacks: [tools]", b"lacks: [code]").replace(b"${NOWHERE_URL}", b"http://127.0.0.1:9/v1")
    task = (
        "version: 1\ntask: default\nroute: [{use: [local, cheap]}]\ntests:\n"
        "  - {name: code, request: {messages: [{role: user, content: 'def f(): pass'}]}, expect: {use: cheap}}\n"
        "  - {name: words, request: {messages: [{role: user, content: 'Good day'}]}, expect: {use: local}}\n"
    )
    loaded = load_files({"models.yaml": models, "default.yaml": task.encode()}, catalogue, {}, Path())
    assert [verdict.message for verdict in run_tests(loaded.checked(), loaded.tests, counter)] == ["", ""]
