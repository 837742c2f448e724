"""A scrape: bounded however many tasks and models there are, right in its sums, and with the ids of requests."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from proxy import Proxy

from router.metrics import OTHER, Metrics
from router.values import NUSD_PER_USD, Certainty, Ending, Level, Outcome, Scope, Usage

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
TASKS, MODELS = 1000, 50
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


def samples(metrics: Metrics, accept: str = OPENMETRICS) -> list[Sample]:
    text = choose_encoder(accept)[0](metrics.registry).decode()
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def named(found: list[Sample], name: str) -> list[Sample]:
    return [sample for sample in found if sample.name == name]


@pytest.fixture(scope="module")
def crowded() -> Metrics:
    """Metrics of more tasks, models, endings, escalations and budgets than there is room for."""
    metrics = Metrics(CollectorRegistry())
    names = [f"customer-task-{number:04}" for number in range(TASKS)]
    for task in names:
        for number in range(MODELS):
            model = f"house-model-{number:02}"
            for ending in (Ending.ANSWERED, Ending.CUT, Ending.CANCELLED):
                metrics.record(outcome(task, model, ending))
            metrics.escalated(task, model, f"house-model-{MODELS - number:02}", "check_json")
        metrics.refused(task, "budget_exceeded")
        metrics.refused(task, "rate_limited")
    metrics.budgets = [
        Level(Scope("task", task, window, NUSD_PER_USD), number * 1000, 0)
        for number, task in enumerate(names)
        for window in ("day", "month")
    ]
    return metrics


@pytest.mark.parametrize("accept", ["text/plain", OPENMETRICS])
def test_a_scrape_of_a_thousand_tasks_and_fifty_models_is_small_and_quick(crowded: Metrics, accept: str) -> None:
    encode, _ = choose_encoder(accept)

    def timed() -> tuple[float, int]:
        begun_s = time.process_time()
        text = encode(crowded.registry)
        return time.process_time() - begun_s, len(text)

    taken = [timed() for _ in range(5)]
    print(f"{taken[0][1]:,} bytes; ms: {[round(1000 * taken_s) for taken_s, _ in taken]}")
    assert max(length for _, length in taken) < MOST_BYTES
    assert min(taken_s for taken_s, _ in taken) < MOST_S


def test_what_has_no_series_of_its_own_is_in_other(crowded: Metrics) -> None:
    found = samples(crowded)
    endings = TASKS * MODELS * 3
    for name, each in (
        ("farthing_requests_total", 1.0),
        ("farthing_cost_usd_total", 0.002),
        ("farthing_baseline_cost_usd_total", 0.003),
        ("farthing_cached_input_tokens_total", 10.0),
        ("gen_ai_server_request_duration_seconds_count", 1.0),
        ("gen_ai_server_time_to_first_token_seconds_count", 1.0),
        ("gen_ai_client_token_usage_count", 2.0),
        ("farthing_difficulty_count", 1.0),
        ("farthing_answer_cost_usd_count", 2 / 3),
        ("farthing_escalations_total", 1 / 3),
    ):
        series = named(found, name)
        assert sum(sample.value for sample in series) == pytest.approx(each * endings), name
        assert any("customer-task-0000" in sample.labels.values() for sample in series), name
        assert any(sample.labels.get("task") == OTHER for sample in series), name
    assert len({sample.labels["model"] for sample in named(found, "farthing_cost_usd_total")}) == MODELS


def test_of_many_budgets_the_fullest_are_told(crowded: Metrics) -> None:
    spent = {sample.labels["name"] for sample in named(samples(crowded), "farthing_budget_spent_usd")}
    assert "customer-task-0999" in spent
    assert "customer-task-0001" not in spent


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
