"""A scrape: bounded however many tasks and models there are, right in its sums, and with the ids of requests."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from e2e.conftest import files_for
from msgspec import structs
from pages import ROOT
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from proxy import Calls, Proxy, ServeProcess, eventually, ledger_rows, running_provider, running_proxy

from router.metrics import NONE, OTHER, Metrics
from router.metrics.text import encoder_for
from router.metrics.words import Overhead
from router.policy.reading.load import load_files, load_folder
from router.pricing import Catalogue
from router.values import NUSD_PER_USD, Attempt, Certainty, Ending, Level, Outcome, Scope, Trace, Usage

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
TASKS, MODELS = 1000, 50
NAMES = [f"customer-task-{number:04}" for number in range(TASKS)]
PAIRS = [
    (task, model) for at, task in enumerate(NAMES) for model in range(MODELS) if at < 300 or (at + model) % 10 == 0
]
"""Tasks and models: of those tasks that come when all room is taken each has a tenth of the models."""
ENDINGS = (Ending.ANSWERED, Ending.CUT, Ending.CANCELLED, Ending.FAILED)
MOST_BYTES = 1_000_000
MOST_S = 0.1


def outcome(task: str = "support", model: str = "cheap", ending: Ending = Ending.ANSWERED, number: int = 0) -> Outcome:
    return Outcome(
        id=f"019ab3c2-7f10-7d8e-9a53-{number:012x}",
        at=datetime.fromtimestamp(0, UTC),
        account=None,
        task=task,
        rule="routine",
        policy_revision="0123456789ab",
        requested_model="auto",
        ending=ending,
        certainty=Certainty.REPORTED,
        routed_model=model,
        provider="openai",
        kind="fine-tuned",
        usage=Usage(1000, 200, cached_tokens=10),
        difficulty=0.4,
        held_nusd=4_000_000,
        charged_nusd=2_000_000,
        baseline_nusd=3_000_000,
        latency_s=0.3,
        first_token_s=0.1,
    )


def test_what_a_crash_left_at_its_ceiling_is_told_after_it(tmp_path: Path) -> None:
    with running_provider() as provider, ThreadPoolExecutor(1) as pool:
        with ServeProcess(tmp_path, files_for(provider)) as process:
            calls = process.ready()
            assert gauge_of(calls, "farthing_orphaned_cost_usd") == 0
            provider.faults.queue("silence", model="o4-mini")
            cut_off = pool.submit(calls.ask, model="thinker", max_tokens=50)
            eventually(lambda: [row for row in ledger_rows(process.ledger) if row["outcome"] == "held"], "a held row")
            process.kill()
        assert cut_off.exception() is not None
        (row,) = ledger_rows(tmp_path / "ledger.db")
        with ServeProcess(tmp_path, {}) as process:
            calls = process.ready()
            told = eventually(partial(gauge_of, calls, "farthing_orphaned_cost_usd"), "what was cut off")
    assert told == pytest.approx(row["charged_nusd"] / NUSD_PER_USD)


def gauge_of(calls: Calls, name: str) -> float:
    families = text_string_to_metric_families(calls.http.get("/metrics", headers={"accept": OPENMETRICS}).text)
    return next(sample.value for family in families for sample in family.samples if sample.name == name)


def samples(metrics: Metrics, accept: str = OPENMETRICS) -> list[Sample]:
    text = encoder_for(accept)[0](metrics.registry).decode()
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def named(found: list[Sample], name: str) -> list[Sample]:
    return [sample for sample in found if sample.name == name]


def scattered(outcome: Outcome, chance: random.Random) -> Outcome:
    """Return an outcome with other values, as far apart as those of real traffic."""
    tokens = Usage(int(chance.lognormvariate(6, 2)) + 1, int(chance.lognormvariate(4, 2)) + 1, cached_tokens=10)
    return structs.replace(
        outcome,
        id=f"019ab3c2-7f10-7d8e-9a53-{chance.getrandbits(48):012x}",
        usage=tokens,
        difficulty=chance.random(),
        charged_nusd=int(chance.lognormvariate(14, 2)) + 1,
        latency_s=chance.lognormvariate(0, 1.5),
        first_token_s=chance.lognormvariate(-1, 1),
        own_s=chance.lognormvariate(-8, 1),
    )


def refused(task: str) -> Outcome:
    return structs.replace(
        outcome(task, ending=Ending.REFUSED), routed_model=None, provider=None, kind=None, refusal="budget_exceeded"
    )


@pytest.fixture(scope="module")
def crowded() -> Metrics:
    """Metrics of more tasks, models, endings, escalations and budgets than there is room for."""
    metrics = Metrics(CollectorRegistry())
    chance = random.Random(7)
    for task, number in PAIRS:
        model = f"house-model-{number:02}"
        for ending in ENDINGS:
            metrics.record(scattered(outcome(task, model, ending), chance))
        metrics.record(refused(task))
        metrics.escalated(task, model, f"house-model-{MODELS - number:02}", "json")
    for task in NAMES:
        metrics.refused(task, "rate_limited")
    metrics.budgets = [
        Level(Scope("task", task, window, NUSD_PER_USD), number * 1000, 0)
        for number, task in enumerate(NAMES)
        for window in ("day", "month")
    ]
    return metrics


@pytest.mark.parametrize("accept", ["text/plain", OPENMETRICS])
def test_a_scrape_of_a_thousand_tasks_and_fifty_models_is_small_and_quick(crowded: Metrics, accept: str) -> None:
    encode, _ = encoder_for(accept)

    def timed() -> tuple[float, int]:
        begun_s = time.process_time()
        text = encode(crowded.registry)
        return time.process_time() - begun_s, len(text)

    taken = [timed() for _ in range(5)]
    print(f"{taken[0][1]:,} bytes; ms: {[round(1000 * taken_s) for taken_s, _ in taken]}")
    assert max(length for _, length in taken) < MOST_BYTES
    assert min(taken_s for taken_s, _ in taken) < MOST_S


@pytest.mark.parametrize("accept", ["", "text/plain", OPENMETRICS, f"{OPENMETRICS};escaping=allow-utf-8,*/*;q=0.1"])
def test_what_is_written_is_what_the_library_would_write(crowded: Metrics, accept: str) -> None:
    odd = Metrics(CollectorRegistry())
    odd.record(outcome('say "hello"\\\n', "größer"))
    for metrics in (crowded, odd):
        encode, content_type = encoder_for(accept)
        library, its_content_type = choose_encoder(accept)
        assert content_type == its_content_type
        assert encode(metrics.registry) == library(metrics.registry)


def test_what_has_no_series_of_its_own_is_in_other(crowded: Metrics) -> None:
    found = samples(crowded)
    pairs, every = len(PAIRS), len(PAIRS) * len(ENDINGS)
    for name, sum_ in (
        ("farthing_requests_total", every + pairs),
        ("farthing_baseline_cost_usd_total", 0.003 * every),
        ("farthing_cached_input_tokens_total", 10 * every),
        ("gen_ai_server_request_duration_seconds_count", every + pairs),
        ("gen_ai_server_time_to_first_token_seconds_count", every),
        ("gen_ai_client_token_usage_count", 2 * every),
        ("farthing_difficulty_count", every + pairs),
        ("farthing_answer_cost_usd_count", 2 * pairs),
        ("farthing_task_duration_seconds_count", 2 * pairs),
        ("farthing_escalations_total", pairs),
        ("farthing_refusals_total", pairs + TASKS),
    ):
        assert sum(sample.value for sample in named(found, name)) == pytest.approx(sum_), name
    cost = named(found, "farthing_cost_usd_total")
    assert sum(sample.value for sample in cost) == pytest.approx(
        sum(sample.value for sample in named(found, "farthing_answer_cost_usd_sum")) * 2, rel=0.05
    )


def of(found: list[Sample], name: str, label: str) -> set[str]:
    return {sample.labels[label] for sample in named(found, name)} - {OTHER, NONE}


def test_two_hundred_tasks_and_fifty_models_are_told_by_name(crowded: Metrics) -> None:
    found = samples(crowded)
    for name in (
        "farthing_requests_total",
        "farthing_cost_usd_total",
        "farthing_baseline_cost_usd_total",
    ):
        assert len(of(found, name, "task")) == 200, name
    for name in ("farthing_requests_total", "farthing_cost_usd_total"):
        assert len(of(found, name, "model")) == MODELS, name
    for name in ("farthing_answer_cost_usd_count", "farthing_task_duration_seconds_count"):
        assert len(of(found, name, "task")) >= 100, name
    assert len(of(found, "farthing_difficulty_count", "task")) >= 50
    for name in (
        "gen_ai_client_token_usage_count",
        "gen_ai_server_request_duration_seconds_count",
        "gen_ai_server_time_to_first_token_seconds_count",
    ):
        assert len(of(found, name, "gen_ai_request_model")) == MODELS, name


def test_names_may_be_long() -> None:
    metrics = Metrics(CollectorRegistry())
    for number in range(1_000):
        metrics.record(outcome(f"{number:03}" + 97 * "t", f"{number % 100:02}" + 98 * "m"))
    text = encoder_for(OPENMETRICS)[0](metrics.registry)
    print(f"{len(text):,} bytes")
    assert len(text) < MOST_BYTES
    assert sum(sample.value for sample in named(samples(metrics), "farthing_requests_total")) == 1_000


def test_cost_and_requests_are_told_by_account_where_that_is_asked_for() -> None:
    metrics = Metrics(CollectorRegistry(), account_label=True)
    for number in range(1_000):
        for account in (f"team-{number}", None):
            metrics.record(structs.replace(outcome(), account=account))
    found = samples(metrics)
    for name, each in (("farthing_requests_total", 1), ("farthing_cost_usd_total", 0.002)):
        value_of: dict[str, float] = {}
        for sample in named(found, name):
            account = sample.labels["account"]
            value_of[account] = value_of.get(account, 0) + sample.value
        assert len(value_of) == 102, name
        assert value_of["none"] == pytest.approx(1_000 * each)
        assert value_of["team-0"] == pytest.approx(each)
        assert value_of[OTHER] == pytest.approx(900 * each)


def test_no_account_is_told_otherwise() -> None:
    metrics = Metrics(CollectorRegistry())
    metrics.record(structs.replace(outcome(), account="search-team"))
    assert "search-team" not in encoder_for(OPENMETRICS)[0](metrics.registry).decode()


def test_a_word_that_no_vocabulary_has_does_not_reach_a_label() -> None:
    metrics = Metrics(CollectorRegistry())
    attempt = Attempt("cheap", "openai/x", "surprising", 500, None, 1, Certainty.COUNTED, 1.0)
    metrics.record(structs.replace(outcome(ending=Ending.FAILED), attempts=(attempt,), overhead_nusd=1))
    metrics.refused("support", "surprising")
    metrics.escalated("support", "cheap", "premium", "surprising")
    found = samples(metrics)
    assert not [sample for sample in found if "surprising" in sample.labels.values()]
    for name in ("farthing_attempt_failures_total", "farthing_refusals_total", "farthing_escalations_total"):
        assert [(sample.labels["reason"], sample.value) for sample in named(found, name)] == [(OTHER, 1)]


def test_what_policies_can_lead_to_begins_at_nothing() -> None:
    metrics = Metrics(CollectorRegistry())
    metrics.expect(load_folder(ROOT / "policies", Catalogue(), {}).checked())
    found = samples(metrics)
    for name in (
        "farthing_cost_usd_total",
        "farthing_baseline_cost_usd_total",
        "farthing_overhead_cost_usd_total",
        "farthing_requests_total",
    ):
        assert {sample.value for sample in named(found, name)} == {0.0}, name
    ways = {(s.labels["task"], s.labels["rule"], s.labels["model"]) for s in named(found, "farthing_cost_usd_total")}
    assert ("default", "pinned", "premium") in ways
    reasons = {(s.labels["task"], s.labels["reason"]) for s in named(found, "farthing_overhead_cost_usd_total")}
    assert {("default", reason) for reason in Overhead} <= reasons
    before = len(found)
    metrics.expect(load_folder(ROOT / "policies", Catalogue(), {}).checked())
    assert len(samples(metrics)) == before


def test_of_a_thousand_tasks_what_is_expected_leaves_room_for_what_comes() -> None:
    lines = "".join(f"  model-{number:02}: {{target: openai/gpt-4.1-nano}}\n" for number in range(MODELS))
    uses = ", ".join(f"model-{number:02}" for number in range(MODELS))
    files = {f"{name}.yaml": f"version: 1\ntask: {name}\nroute: [{{use: [{uses}]}}]\n" for name in NAMES}
    files |= {"models.yaml": f"version: 1\nmodels:\n{lines}"}
    policies = load_files({name: text.encode() for name, text in files.items()}, Catalogue(), {}, Path("policies"))
    metrics = Metrics(CollectorRegistry())
    metrics.expect(policies.checked())
    assert len(of(samples(metrics), "farthing_baseline_cost_usd_total", "task")) == 200
    metrics.record(outcome("customer-task-0100", "model-49"))
    counted = [s for s in named(samples(metrics), "farthing_requests_total") if s.value]
    assert [sample.labels["model"] for sample in counted] == ["model-49"]


def test_of_many_budgets_the_fullest_are_told(crowded: Metrics) -> None:
    spent = {sample.labels["name"] for sample in named(samples(crowded), "farthing_budget_spent_usd")}
    assert "customer-task-0999" in spent
    assert "customer-task-0001" not in spent


@pytest.mark.parametrize("sampled", [True, False])
def test_an_exemplar_names_a_trace_only_where_its_spans_are_sent(*, sampled: bool) -> None:
    metrics = Metrics(CollectorRegistry())
    metrics.record(structs.replace(outcome(), trace=Trace("a" * 32, sampled=sampled)))
    encoder, _ = encoder_for(OPENMETRICS)
    assert (b'trace_id="' + b"a" * 32 in encoder(metrics.registry)) is sampled


def test_an_exemplar_names_the_request() -> None:
    metrics = Metrics(CollectorRegistry())
    metrics.record(outcome(number=7))
    found = samples(metrics)
    for name in (
        "gen_ai_client_token_usage",
        "gen_ai_server_request_duration_seconds",
        "gen_ai_server_time_to_first_token_seconds",
        "farthing_answer_cost_usd",
        "farthing_difficulty",
        "farthing_estimate_ratio",
        "farthing_overhead_seconds",
    ):
        told = [sample.exemplar.labels for sample in named(found, f"{name}_bucket") if sample.exemplar]
        assert told, name
        assert set(map(str, told)) == {"{'request_id': '019ab3c2-7f10-7d8e-9a53-000000000007'}"}, name


def test_no_series_tells_when_another_began() -> None:
    metrics = Metrics(CollectorRegistry())
    metrics.record(outcome())
    assert not [sample.name for sample in samples(metrics) if sample.name.endswith("_created")]


def test_a_scraper_gets_the_format_that_it_asks_for(proxy: Proxy) -> None:
    proxy.ask(max_tokens=5)
    answer = proxy.http.get("/metrics", headers={"accept": OPENMETRICS})
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert answer.text.endswith("# EOF\n")
    ids = {row["id"] for row in proxy.rows()}
    told = [
        sample.exemplar.labels["request_id"]
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if sample.exemplar
    ]
    assert told
    assert set(told) <= ids
    plain = proxy.http.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "request_id" not in plain.text


def test_a_store_tells_how_long_it_takes(proxy: Proxy) -> None:
    before = proxy.metric("farthing_store_seconds_count", store="sqlite", verb="commit")
    proxy.ask(max_tokens=5)
    proxy.rows()
    assert proxy.metric("farthing_store_seconds_count", store="sqlite", verb="commit") > before


def test_a_proxy_tells_accounts_where_its_settings_ask_for_it(tmp_path: Path) -> None:
    files = {
        "models": "models:\n  cheap: {target: openai/gpt-4.1-nano}\n",
        "default": "task: default\nroute: [{use: cheap}]\n",
    }
    settings = {"metrics_account_label": True}
    with (
        running_provider() as provider,
        running_proxy(tmp_path, files, settings=settings, simulated_url=provider.root_url) as running,
    ):
        assert running.metric("farthing_requests_total", account="none") == 0
        running.ask(max_tokens=5)
        running.rows()
        assert running.metric("farthing_requests_total", account="none", outcome="answered") == 1
        assert running.metric("farthing_cost_usd_total", account="none") > 0
