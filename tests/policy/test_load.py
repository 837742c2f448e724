"""Loading a folder: what it gives, and how fast."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.broken_folder import WHOLE
from policy.loading import HERE, SHIPPED, lines, load, task
from router.policy.expectation import Bounds
from router.policy.reading.load import load_files, load_folder
from router.pricing import Catalogue, Price
from router.values import Usage


def test_the_contract_s_example_loads(catalogue: Catalogue) -> None:
    loaded = load(
        catalogue,
        {
            "a-first.yaml": task(name="default"),
            "accounts.yaml": """version: 1
accounts:
  search-team:
    keys: ["sha256:0000000000000000000000000000000000000000000000000000000000000000"]
    budget: {per_day_usd: 100, per_month_usd: 2000}
    limits: {requests_per_minute: 600, tokens_per_minute: 200000}
    tasks: [support, search]
""",
            "models.yaml": """version: 1
models:
  cheap: {target: openai/gpt-4o-mini}
  tuned:
    target: openai/support-ft-v3
    base_url: http://vllm.internal:8000/v1
    api_key: ${VLLM_API_KEY}
    price: {input_usd_per_mtok: 0.10, cached_input_usd_per_mtok: 0.05, output_usd_per_mtok: 0.40}
    kind: fine-tuned
  premium:
    target: anthropic/claude-sonnet-4-5
""",
            "support.yaml": """version: 1
task: support
match: {models: [gpt-4o]}
baseline: premium
budget: {per_request_usd: 0.01, per_day_usd: 25, per_month_usd: 500, on_exceeded: downgrade}
route:
  - name: hard
    when: {difficulty: {gte: 0.7}, budget_used_pct: {lt: 90}}
    use: premium
  - name: routine
    when: {input_tokens: {lte: 4000}}
    use: [tuned, cheap]
    verify: {json: true, escalate_to: premium}
  - use: cheap
prompts: {tuned: {system: "Answer in one short paragraph."}}
tests:
  - name: where is my parcel is routine
    request: {messages: [{role: user, content: "Where is my parcel?"}]}
    expect: {rule: routine, use: tuned, cost_usd: {lte: 0.001}}
""",
        },
        {"VLLM_API_KEY": "secret-1", "OPENAI_API_KEY": "secret-2"},
    )
    to_come, unchecked = lines(loaded)
    assert to_come == 'accounts.yaml:7:22: warning: there is no task "search" yet (known: default, support)'
    assert "warning: streams pass this unchecked; say `buffer: true`" in unchecked
    policy = loaded.checked().policies["support"]
    assert [rule.name for rule in policy.rules] == ["hard", "routine", "otherwise"]
    assert policy.rules[1].use == ("tuned", "cheap")
    assert policy.rules[1].verify is not None
    assert policy.rules[1].verify.escalate_to == "premium"
    assert policy.budget.per_request_nusd == 10_000_000
    assert policy.budget.windows() == (("day", 25_000_000_000), ("month", 500_000_000_000))
    assert policy.needs == {"difficulty", "budget_used_pct", "input_tokens"}
    assert policy.prompts == {"tuned": "Answer in one short paragraph."}
    assert policy.match.claims("gpt-4o", None, {})
    models = loaded.checked().models
    tuned, cheap, premium = (models[name].targets[0] for name in ("tuned", "cheap", "premium"))
    assert (tuned.api_key, cheap.api_key, premium.api_key) == ("secret-1", "secret-2", None)
    assert premium.api_key_variable == "ANTHROPIC_API_KEY"
    assert cheap.max_output_tokens == 16_384
    assert cheap.output_limit_known
    assert not tuned.output_limit_known
    assert "secret" not in repr(models)
    (test,) = loaded.tests
    assert (test.task, test.place.line, test.expect.use) == ("support", 17, ("tuned",))
    assert test.expect.cost_usd == Bounds(lte=Decimal("0.001"))
    assert test.request == (b'{"model": "auto", "messages": [{"role": "user", "content": "Where is my parcel?"}]}')


def test_the_shipped_folder_has_no_fault_and_every_policy_has_tests(catalogue: Catalogue) -> None:
    loaded = load_folder(SHIPPED, catalogue, {})
    assert lines(loaded) == []
    tested = {test.task for test in loaded.tests}
    assert tested == set(loaded.checked().policies)
    assert tested == {"default", "support", "summarise", "extract", "code", "legal-drafting"}
    for policy in loaded.checked().policies.values():
        assert policy.baseline == "premium"
        assert policy.budget.per_request_nusd


def test_the_shipped_example_of_accounts_loads(catalogue: Catalogue) -> None:
    files = {path.name: path.read_bytes() for path in SHIPPED.glob("*.yaml")}
    example = (SHIPPED / "accounts.yaml.example").read_bytes()
    loaded = load_files({**files, "accounts.yaml": example}, catalogue, {}, HERE)
    assert lines(loaded) == []
    account = loaded.checked().accounts["search-team"]
    assert account.tasks == {"support", "extract"}
    assert account.requests_per_minute == 600
    assert loaded.checked().budget.per_day_nusd == 200_000_000_000


@given(nusd=st.integers(1, 9_000_000 * 10**9))
@settings(max_examples=50, deadline=None)
def test_a_budget_is_exact_to_the_nano_dollar(catalogue: Catalogue, nusd: int) -> None:
    written = f"{Decimal(nusd).scaleb(-9):f}"
    loaded = load(catalogue, {"s.yaml": task(f"budget: {{per_day_usd: {written}}}\nroute: [{{use: cheap}}]\n")})
    assert loaded.checked().policies["support"].budget.per_day_nusd == nusd


def test_a_budget_is_rounded_down(catalogue: Catalogue) -> None:
    loaded = load(catalogue, {"s.yaml": task("budget: {per_day_usd: 0.0000000019}\nroute: [{use: cheap}]\n")})
    assert loaded.checked().policies["support"].budget.per_day_nusd == 1


def test_an_optional_model_without_its_variable_is_absent_and_still_priced(catalogue: Catalogue) -> None:
    def model(environ: dict[str, str]) -> str | None:
        text = WHOLE["models.yaml"] + (
            b"  local: {target: openai/tiny, base_url: '${LOCAL_URL}', price: free, optional: true}\n"
        )
        found = load(catalogue, {"models.yaml": text}, environ).checked().models["local"]
        assert found.targets[0].base_url == (environ.get("LOCAL_URL") or None)
        assert found.targets[0].price == Price.free()
        assert found.targets[0].api_key_variable is None
        return found.absent

    assert model({}) == "LOCAL_URL is not set"
    assert model({"LOCAL_URL": ""}) == "LOCAL_URL is not set"
    assert model({"LOCAL_URL": "http://127.0.0.1:8080/v1"}) is None


def test_a_url_of_one_s_own_is_not_sent_the_provider_s_key(catalogue: Catalogue) -> None:
    text = "version: 1\nmodels:\n  cheap: {target: openai/gpt-4o-mini, base_url: 'http://10.0.0.1/v1'}\n"
    loaded = load(catalogue, {"models.yaml": text}, {"OPENAI_API_KEY": "secret"})
    assert loaded.checked().models["cheap"].targets[0].api_key is None


@pytest.mark.parametrize(
    ("target", "more", "environ", "percent"),
    [
        ("openai/gpt-5.4", "", {}, 100),
        ("openai/gpt-5.4", ', base_url: "https://eu.api.openai.com/v1"', {}, 110),
        ("openai/gpt-5.4", ', base_url: "https://${PLACE}.api.openai.com/v1/"', {"PLACE": "US"}, 110),
        ("openai/gpt-5.4", ', base_url: "https://eu.api.openai.com.example.org/v1"', {}, 100),
        ("openai/gpt-4o", ', base_url: "https://eu.api.openai.com/v1"', {}, 100),
        ("vertex_ai/claude-sonnet-4-5", "", {}, 110),
        ("vertex_ai/claude-sonnet-4-5", "", {"VERTEXAI_LOCATION": ""}, 110),
        ("vertex_ai/claude-sonnet-4-5", "", {"VERTEXAI_LOCATION": "global"}, 100),
        ("vertex_ai/claude-sonnet-4-5", "", {"VERTEXAI_LOCATION": "us-east5"}, 110),
        ("vertex_ai/claude-sonnet-4-5", "", {"VERTEX_LOCATION": "global"}, 110),
    ],
)
def test_a_region_that_costs_more_is_priced_so(
    catalogue: Catalogue, target: str, more: str, environ: dict[str, str], percent: int
) -> None:
    models = f"version: 1\nmodels: {{cheap: {{target: {target}{more}}}}}\n"
    files = {"models.yaml": models, "a.yaml": task(name="default")}
    price = load_files({name: text.encode() for name, text in files.items()}, catalogue, environ, HERE).checked()
    listed = catalogue.entry(*target.split("/", 1)).price
    usage = Usage(100_000, 10_000)
    assert price.models["cheap"].targets[0].price.charge_nusd(usage) * 100 == listed.charge_nusd(usage) * percent


def test_several_targets_share_a_model_with_weights(catalogue: Catalogue) -> None:
    text = """version: 1
models:
  cheap:
    targets:
      - {target: openai/gpt-4o-mini, weight: 3}
      - {target: azure/gpt-4o-mini, weight: 0.5, base_url: 'https://x.example.com/', api_key: '${AZURE}'}
    abilities: [audio]
    lacks: [tools]
    timeouts: {first_byte_s: 2.5}
    retries: 0
"""
    model = load(catalogue, {"models.yaml": text}, {"AZURE": "k"}).checked().models["cheap"]
    assert [(target.name, target.weight) for target in model.targets] == [
        ("openai/gpt-4o-mini", 3.0),
        ("azure/gpt-4o-mini", 0.5),
    ]
    assert (model.targets[1].api_key, model.targets[1].base_url) == ("k", "https://x.example.com")
    assert "tools" in model.targets[0].lacks
    assert "audio" not in model.targets[0].lacks
    assert (model.deadlines.first_byte_s, model.deadlines.connect_s, model.retries) == (2.5, 5.0, 0)


def test_the_revision_names_the_bytes_and_not_the_environment(catalogue: Catalogue) -> None:
    first = load(catalogue, {}).checked().revision
    assert len(first) == 12
    assert load(catalogue, {}, {"OPENAI_API_KEY": "k"}).checked().revision == first
    assert load(catalogue, {"a-first.yaml": WHOLE["a-first.yaml"] + b"#"}).checked().revision != first


def test_yaml_1_2_leaves_no_and_on_as_text(catalogue: Catalogue) -> None:
    body = "route:\n  - {when: {language: no}, use: cheap}\n  - {name: on, use: cheap}\n"
    rules = load(catalogue, {"s.yaml": task(body)}).checked().policies["support"].rules
    assert [rule.name for rule in rules] == ["rule-1", "on"]


def test_an_alias_stands_for_what_it_names(catalogue: Catalogue) -> None:
    body = """route:
  - {when: &tools {has: tools}, use: premium}
  - {when: {not: *tools, stream: true}, use: cheap}
  - use: cheap
"""
    assert len(load(catalogue, {"s.yaml": task(body)}).checked().policies["support"].rules) == 3


def test_a_test_by_facts_gets_the_circumstances_it_is_given(catalogue: Catalogue) -> None:
    body = """route:
  - use: [cheap, premium]
expected_output_tokens: 77
tests:
  - name: late
    facts: {input_tokens: 5, has: tools, metadata: {tier: 1.5}}
    given: {budget_used_pct: 95, hour: 3, headers: {X-Team: a}, absent: premium}
    expect: {use: [cheap], max_output_tokens: 4096}
"""
    loaded = load(catalogue, {"s.yaml": task(body)})
    (test,) = loaded.tests
    assert test.facts is not None
    facts = test.given.over(test.facts)
    assert (facts.hour, facts.weekday, facts.budget_used_pct) == (3, "wed", 95.0)
    assert (facts.headers, facts.metadata, facts.has) == ({"x-team": "a"}, {"tier": 1.5}, {"tools"})
    assert facts.expected_output_tokens == 77
    models = test.given.models(loaded.checked().models)
    assert models["premium"].absent
    assert models["cheap"].absent is None


def test_a_thousand_tasks_of_twenty_rules_load_in_seconds(catalogue: Catalogue) -> None:
    rule = (
        "  - name: r{0}\n    when: {{input_tokens: {{lte: {0}}}, has: tools, "
        "any: [{{difficulty: {{gte: 0.5}}}}, {{language: en}}]}}\n    use: [cheap, premium]\n"
    )
    rules = "route:\n" + "".join(rule.format(number) for number in range(19)) + "  - use: cheap\n"
    files: dict[str, str | bytes] = {f"t{number}.yaml": task(rules, f"t{number}") for number in range(200)}
    started = time.perf_counter()
    loaded = load(catalogue, files)
    took_s = time.perf_counter() - started
    assert len(loaded.checked().policies) == 201
    print(f"1,000 tasks of 20 rules would take {took_s * 5:.1f} s")
    assert took_s * 5 < 30
