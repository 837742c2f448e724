"""What becomes of a request when a provider misbehaves: the answer or the error, the attempts, and what is paid."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from proxy import Proxy, Row, events, eventually, running_proxy, said

from e2e.conftest import MODELS, files_for
from router.providers.simulated import SimulatedProvider

MORE_MODELS = """
  hasty:
    target: openai/gpt-4o-mini
    base_url: {url}
    retries: 3
    timeouts: {{total_s: 0.5}}
  instant:
    target: openai/gpt-4o-mini
    base_url: {url}
    timeouts: {{total_s: 0.000001}}
  stubborn:
    target: openai/gpt-4o-mini
    base_url: {url}
    retries: 0
  gone:
    target: openai/gpt-4o-mini
    base_url: http://127.0.0.1:{closed_port}/v1
  twins:
    targets:
      - {{target: openai/gpt-4.1-mini, base_url: "http://127.0.0.1:{closed_port}/v1"}}
      - {{target: openai/gpt-4.1-mini, base_url: "{url}"}}
    retries: 0
"""
TASKS = {
    "after-gone": "task: after-gone\nroute: [{use: [gone, dear]}]\n",
    "three": "task: three\nroute: [{use: [gone, stubborn, dear]}]\n",
    "tight": "task: tight\nbudget: {per_request_usd: 0.00008}\nroute: [{use: [cheap, stubborn]}]\n",
    "too-tight": "task: too-tight\nmin_output_tokens: 100\nbudget: {per_request_usd: 0.0000625}\n"
    "route: [{use: [cheap, stubborn]}]\n",
    "impatient": "task: impatient\nroute: [{use: [hasty, dear]}]\n",
}

REASON = {"x-should-retry": "false"}


@pytest.fixture(scope="module")
def more_files(shared_provider: SimulatedProvider) -> dict[str, str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        closed_port = listening.getsockname()[1]
    models = (MODELS + MORE_MODELS).format(url=shared_provider.base_url, closed_port=closed_port)
    return {"models": models, **TASKS}


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """Return a documented error, from the body or from the last event of a stream."""
    body = answer.json() if answer.status_code != 200 else events(answer.text)[-1]
    assert set(body["error"]) == {"message", "type", "param", "code"}
    return body["error"]


def reasons(row: Row) -> list[str]:
    return [attempt["reason"] for attempt in row["attempts"]]


def in_order(row: Row) -> list[tuple[str, str]]:
    return [(attempt["model"], attempt["reason"]) for attempt in row["attempts"]]


REFUSED = [
    # the fault, its status and code for the caller, the attempts
    ("status=400", 400, "invalid_request", ["refused"]),
    ("status=422", 400, "invalid_request", ["refused"]),
    ("status=413", 400, "context_length_exceeded", ["refused"]),
    ("status=401", 502, "upstream_error", ["denied"]),
    ("status=402", 502, "upstream_error", ["denied"]),
    ("status=403", 502, "upstream_error", ["denied"]),
    ("status=404", 502, "upstream_error", ["denied"]),
    ("status=405", 502, "upstream_error", ["denied"]),
    ("redirect=http://127.0.0.1:9/x", 502, "upstream_error", ["denied"]),
    ("status=429 code=insufficient_quota", 502, "upstream_error", ["denied"]),
    ("status=408", 502, "upstream_error", ["failed", "failed"]),
    ("status=409", 502, "upstream_error", ["failed", "failed"]),
    ("status=429", 503, "upstream_unavailable", ["overloaded", "overloaded"]),
    ("status=500", 502, "upstream_error", ["failed", "failed"]),
    ("status=500 html", 502, "upstream_error", ["failed", "failed"]),
    ("status=502", 502, "upstream_error", ["failed", "failed"]),
    ("status=503", 503, "upstream_unavailable", ["overloaded", "overloaded"]),
    ("status=504", 502, "upstream_error", ["failed", "failed"]),
    ("status=529", 503, "upstream_unavailable", ["overloaded", "overloaded"]),
    ("huge-headers", 502, "upstream_error", ["failed", "failed"]),
    ("reset", 503, "upstream_unavailable", ["unreachable", "unreachable"]),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("fault", "status", "code", "attempts"), REFUSED)
def test_a_failure_before_the_first_byte_costs_nothing_and_is_told(
    proxy: Proxy, provider: SimulatedProvider, fault: str, status: int, code: str, attempts: list[str], stream: bool
) -> None:
    provider.faults.always(fault)
    answer = proxy.ask(model="cheap", stream=stream)
    assert (answer.status_code, error_of(answer)["code"]) == (status, code)
    assert ("x-should-retry" in answer.headers) == (status == 400)
    row = proxy.row_of(answer)
    assert reasons(row) == attempts
    assert len(provider.calls) == len(attempts)
    assert (row["outcome"], row["refusal"], row["charged_nusd"], row["overhead_nusd"]) == ("failed", code, 0, 0)
    assert (row["routed_model"], row["provider"], row["kind"]) == ("cheap", "openai", "routine")
    assert row["held_nusd"] > 0
    assert row["estimated_nusd"] > 0


@pytest.mark.parametrize("fault", [fault for fault, *_ in REFUSED])
def test_another_candidate_answers_where_the_first_can_not(
    proxy: Proxy, provider: SimulatedProvider, fault: str
) -> None:
    attempts = next(attempts for name, _, _, attempts in REFUSED if name == fault)
    provider.faults.always(fault, model="gpt-4o-mini")
    answer = proxy.ask(headers={"x-farthing-task": "fallback"}, max_tokens=20)
    assert answer.status_code == 200
    assert answer.headers["x-farthing-model"] == "dear"
    assert answer.headers["x-farthing-attempts"] == str(len(attempts) + 1)
    row = proxy.row_of(answer)
    assert in_order(row) == [*(("cheap", reason) for reason in attempts), ("dear", "answered")]
    assert row["outcome"] == "answered"
    assert row["charged_nusd"] == row["attempts"][-1]["charged_nusd"] > 0
    assert row["overhead_nusd"] == 0


def test_the_last_cause_is_told_without_a_secret(proxy: Proxy, provider: SimulatedProvider) -> None:
    provider.faults.always("status=500")
    message = error_of(proxy.ask(model="cheap"))["message"]
    assert "openai/gpt-4o-mini" in message
    assert "500" in message
    assert "The server had an error" in message
    provider.faults.always("status=401")
    assert "Incorrect API key" not in error_of(proxy.ask(model="cheap"))["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_retry_after_is_waited_for(proxy: Proxy, provider: SimulatedProvider, stream: bool) -> None:
    provider.faults.queue("status=429 retry-after=1")
    answer = proxy.ask(model="cheap", stream=stream, max_tokens=5)
    assert answer.status_code == 200
    first, second = provider.calls
    assert 1.0 <= second.at - first.at < 1.5
    row = proxy.row_of(answer)
    assert reasons(row) == ["overloaded", "answered"]
    assert row["overhead_nusd"] == 0


def test_a_retry_after_that_is_too_long_is_passed_on_instead(proxy: Proxy, provider: SimulatedProvider) -> None:
    provider.faults.always("status=429 retry-after=60")
    started = time.perf_counter()
    answer = proxy.ask(model="cheap")
    assert time.perf_counter() - started < 1
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
    assert len(provider.calls) == 1


def test_a_retry_after_that_is_too_long_sends_it_to_the_next_candidate(
    proxy: Proxy, provider: SimulatedProvider
) -> None:
    provider.faults.always("status=503 retry-after=60", model="gpt-4o-mini")
    answer = proxy.ask(headers={"x-farthing-task": "fallback"}, max_tokens=5)
    assert in_order(proxy.row_of(answer)) == [("cheap", "overloaded"), ("dear", "answered")]


@pytest.mark.parametrize("value", ["inf", "nan", "-1", "1e999", "soon", "date+100000000", "99999999999999999999"])
def test_junk_in_retry_after_does_no_harm(proxy: Proxy, provider: SimulatedProvider, value: str) -> None:
    provider.faults.always(f"status=429 retry-after={value}")
    answer = proxy.ask(model="cheap")
    assert (answer.status_code, error_of(answer)["code"]) == (503, "upstream_unavailable")
    assert answer.headers.get("retry-after", "0").isdigit()


BROKEN_WHOLE = ["reset=2", "malformed", "empty", "reset=0 early-headers"]


@pytest.mark.parametrize("fault", BROKEN_WHOLE)
def test_a_whole_answer_that_breaks_is_charged_for_its_input_and_not_asked_for_again(
    proxy: Proxy, provider: SimulatedProvider, fault: str
) -> None:
    provider.faults.always(fault)
    answer = proxy.ask(model="cheap")
    assert (answer.status_code, error_of(answer)["code"]) == (502, "upstream_error")
    row = proxy.row_of(answer)
    assert reasons(row) == ["broken"]
    assert (row["outcome"], row["certainty"]) == ("failed", "counted")
    assert row["charged_nusd"] == row["overhead_nusd"] >= row["facts"]["input_tokens"] * 150
    assert row["charged_nusd"] <= row["held_nusd"]


@pytest.mark.parametrize("fault", BROKEN_WHOLE)
def test_what_a_broken_leg_cost_is_overhead_beside_the_answer(
    proxy: Proxy, provider: SimulatedProvider, fault: str
) -> None:
    provider.faults.always(fault, model="gpt-4o-mini")
    before = proxy.metric_nusd("farthing_overhead_cost_usd_total", task="fallback")
    answer = proxy.ask(headers={"x-farthing-task": "fallback"}, max_tokens=20)
    row = proxy.row_of(answer)
    broken, good = row["attempts"]
    assert (broken["reason"], good["reason"]) == ("broken", "answered")
    assert (broken["status"], good["status"]) == (None, 200)
    assert row["charged_nusd"] == broken["charged_nusd"] + good["charged_nusd"]
    assert row["overhead_nusd"] == broken["charged_nusd"] > 0
    assert proxy.metric_nusd("farthing_overhead_cost_usd_total", task="fallback") - before == row["overhead_nusd"]


@pytest.mark.parametrize(
    ("fault", "stream", "within_s"),
    [
        ("silence", True, 0.3),
        ("silence early-headers", True, 0.3),
        ("silence early-headers", False, 1),
        ("silence=2", False, 1),
    ],
)
def test_silence_ends_at_its_deadline_and_may_be_billed(
    proxy: Proxy, provider: SimulatedProvider, fault: str, stream: bool, within_s: float
) -> None:
    provider.faults.always(fault)
    started = time.perf_counter()
    answer = proxy.ask(model="cheap", stream=stream)
    assert within_s <= time.perf_counter() - started < within_s + 0.7
    assert (answer.status_code, error_of(answer)["code"]) == (504, "upstream_timeout")
    row = proxy.row_of(answer)
    assert reasons(row) == ["timeout"]
    assert (row["certainty"], row["charged_nusd"]) == ("counted", row["facts"]["input_tokens"] * 150)
    assert row["attempts"][0]["status"] is None
    assert provider.calls[-1].disconnected_at is not None


@pytest.mark.parametrize("stream", [False, True])
def test_the_whole_request_ends_in_its_time_however_often_it_may_be_tried(
    proxy: Proxy, provider: SimulatedProvider, stream: bool
) -> None:
    for fault in ("drip=0.2", "silence"):
        provider.faults.always(fault)
        started = time.perf_counter()
        answer = proxy.ask(model="hasty", stream=stream, max_tokens=50)
        assert time.perf_counter() - started < 1.2
        assert error_of(answer)["code"] == "upstream_timeout"
    provider.faults.always("status=429 retry-after=1")
    started = time.perf_counter()
    assert proxy.ask(model="hasty", stream=stream).status_code == 503
    assert time.perf_counter() - started < 0.5


def test_a_candidate_that_ran_out_of_time_leaves_the_next_one_its_own(
    proxy: Proxy, provider: SimulatedProvider
) -> None:
    provider.faults.always("silence", model="gpt-4o-mini")
    answer = proxy.ask(headers={"x-farthing-task": "impatient"}, max_tokens=5)
    assert in_order(proxy.row_of(answer)) == [("hasty", "timeout"), ("dear", "answered")]


def test_a_deadline_too_short_for_any_call_is_a_timeout(proxy: Proxy, provider: SimulatedProvider) -> None:
    answer = proxy.ask(model="instant")
    assert (answer.status_code, error_of(answer)["code"]) == (504, "upstream_timeout")
    assert proxy.row_of(answer)["outcome"] == "failed"


BROKEN_STREAM = [
    ("reset=3", "upstream_error", "broken"),
    ("malformed=3", "upstream_error", "broken"),
    ("error=3", "upstream_error", "broken"),
    ("silence=3", "upstream_timeout", "timeout"),
]


@pytest.mark.parametrize(("fault", "code", "reason"), BROKEN_STREAM)
def test_a_stream_that_breaks_ends_in_an_error_event_and_is_charged_for_what_came(
    proxy: Proxy, provider: SimulatedProvider, fault: str, code: str, reason: str
) -> None:
    provider.faults.always(fault)
    started = time.perf_counter()
    answer = proxy.ask(headers={"x-farthing-task": "fallback"}, stream=True)
    assert time.perf_counter() - started < 2
    assert answer.status_code == 200
    assert "[DONE]" not in answer.text
    assert len(events(answer.text)) == 4
    assert error_of(answer)["code"] == code
    row = proxy.row_of(answer)
    assert in_order(row) == [("cheap", reason)]
    assert (row["outcome"], row["certainty"], row["refusal"]) == ("failed", "counted", code)
    attempt = row["attempts"][0]
    assert (attempt["output_tokens"], attempt["status"]) == (2, None)
    assert row["charged_nusd"] == attempt["input_tokens"] * 150 + 2 * 600
    assert row["overhead_nusd"] == row["charged_nusd"]
    assert row["routed_model"] == "cheap"
    assert len(provider.calls) == 1


def test_an_error_event_before_any_other_is_tried_again(proxy: Proxy, provider: SimulatedProvider) -> None:
    provider.faults.queue("error=0")
    answer = proxy.ask(model="cheap", stream=True, max_tokens=5)
    assert answer.text.endswith("data: [DONE]\n\n")
    row = proxy.row_of(answer)
    assert reasons(row) == ["failed", "answered"]
    assert row["overhead_nusd"] == 0


@pytest.mark.parametrize("fault", ["no-done", "crlf", "comments", "pieces=1", "pieces=3", "crlf comments pieces=2"])
def test_what_is_odd_but_right_is_an_answer(proxy: Proxy, provider: SimulatedProvider, fault: str) -> None:
    asked: dict[str, Any] = {"model": "cheap", "stream": True, "max_tokens": 40, "seed": 3}
    plain = proxy.ask(**asked)
    provider.faults.always(fault)
    odd = proxy.ask(**asked)
    assert said(odd.text) == said(plain.text) != ""
    assert odd.text.endswith("data: [DONE]\n\n")
    row = proxy.row_of(odd)
    assert (row["outcome"], row["certainty"]) == ("answered", "reported")
    assert row["charged_nusd"] == proxy.row_of(plain)["charged_nusd"]


@pytest.mark.parametrize("stream", [False, True])
def test_missing_usage_is_counted_by_us_and_marked_so(proxy: Proxy, provider: SimulatedProvider, stream: bool) -> None:
    asked: dict[str, Any] = {"model": "cheap", "stream": stream, "max_tokens": 40, "seed": 3}
    known = proxy.row_of(proxy.ask(**asked))
    provider.faults.always("no-usage")
    row = proxy.row_of(proxy.ask(**asked))
    assert (known["certainty"], row["certainty"]) == ("reported", "counted")
    assert row["output_tokens"] == known["output_tokens"] == 40
    assert row["input_tokens"] == row["facts"]["input_tokens"]
    assert row["charged_nusd"] == row["input_tokens"] * 150 + 40 * 600


def test_a_caller_who_asked_for_usage_gets_ours_where_the_provider_told_none(
    proxy: Proxy, provider: SimulatedProvider
) -> None:
    provider.faults.always("no-usage")
    answer = proxy.ask(model="cheap", stream=True, max_tokens=40, stream_options={"include_usage": True})
    usage = events(answer.text)[-1]["usage"]
    row = proxy.row_of(answer)
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (row["input_tokens"], 40)


@pytest.mark.parametrize("stream", [False, True])
def test_a_closed_port_is_unavailable_and_free(proxy: Proxy, provider: SimulatedProvider, stream: bool) -> None:
    answer = proxy.ask(model="gone", stream=stream)
    assert (answer.status_code, error_of(answer)["code"]) == (503, "upstream_unavailable")
    row = proxy.row_of(answer)
    assert reasons(row) == ["unreachable", "unreachable"]
    assert row["charged_nusd"] == 0


@pytest.mark.parametrize(("stream", "limit"), [(False, "total_s"), (True, "total_s"), (True, "first_byte_s")])
def test_a_provider_that_is_never_reached_in_time_is_unavailable_and_free(
    tmp_path: Path, stream: bool, limit: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        files = {
            "models": "models: {mute: {target: openai/gpt-4o-mini, retries: 0,"
            f" timeouts: {{{limit}: 0.5}}, base_url: 'https://127.0.0.1:{mute.getsockname()[1]}/v1'}}}}\n",
            "default": "task: default\nroute: [{use: mute}]\n",
        }
        with running_proxy(tmp_path, files) as proxy:
            answer = proxy.ask(stream=stream)
            assert (answer.status_code, error_of(answer)["code"]) == (503, "upstream_unavailable")
            row = proxy.row_of(answer)
            assert (reasons(row), row["charged_nusd"]) == (["unreachable"], 0)


def test_candidates_are_tried_in_the_order_of_the_policy(proxy: Proxy, provider: SimulatedProvider) -> None:
    provider.faults.queue("status=500", model="gpt-4o-mini")
    row = proxy.row_of(proxy.ask(headers={"x-farthing-task": "three"}, max_tokens=5))
    assert in_order(row) == [
        ("gone", "unreachable"), ("gone", "unreachable"), ("stubborn", "failed"), ("dear", "answered"),
    ]  # fmt: skip


def test_another_target_of_the_same_model_is_tried_at_once(proxy: Proxy, provider: SimulatedProvider) -> None:
    for _ in range(8):
        started = time.perf_counter()
        assert proxy.ask(model="twins", max_tokens=5).status_code == 200
        assert time.perf_counter() - started < 0.5
    assert len(provider.calls) == 8


def test_a_retry_draws_on_what_the_first_try_left(proxy: Proxy, provider: SimulatedProvider) -> None:
    provider.faults.queue("malformed", model="gpt-4o-mini")
    answer = proxy.ask(headers={"x-farthing-task": "tight"})
    assert answer.status_code == 200
    first, second = (call.body["max_tokens"] for call in provider.calls)
    row = proxy.row_of(answer)
    assert first - second == -(-row["attempts"][0]["charged_nusd"] // 600)
    assert row["charged_nusd"] <= 80_000
    assert row["over_budget_nusd"] == 0


def test_no_further_try_is_made_that_the_money_does_not_buy(proxy: Proxy, provider: SimulatedProvider) -> None:
    provider.faults.always("malformed")
    answer = proxy.ask(headers={"x-farthing-task": "too-tight"})
    assert answer.status_code == 502
    assert len(provider.calls) == 1
    row = proxy.row_of(answer)
    assert row["charged_nusd"] == row["attempts"][0]["charged_nusd"]
    assert 62_500 - row["charged_nusd"] < row["facts"]["input_tokens"] * 150 + 100 * 600 <= 62_500


def test_failed_attempts_are_metered_by_model_and_reason(proxy: Proxy, provider: SimulatedProvider) -> None:
    def failures() -> float:
        return proxy.metric("farthing_attempt_failures_total", model="cheap", reason="overloaded")

    before = failures()
    provider.faults.queue("status=429")
    proxy.ask(model="cheap", max_tokens=5)
    assert failures() == before + 1


def test_a_burst_of_faults_leaves_nothing_held_and_the_sums_agree(proxy: Proxy, provider: SimulatedProvider) -> None:
    for fault in ("status=500", "reset", "malformed", "empty", "reset=2", "no-usage", ""):
        provider.faults.queue(fault)
        proxy.ask(model="stubborn", max_tokens=5)
    rows = proxy.rows()
    assert proxy.metric_nusd("farthing_cost_usd_total") == sum(row["charged_nusd"] for row in rows)
    assert proxy.metric("farthing_over_budget_usd_total") == 0
    assert json.dumps(rows)


def test_a_target_that_keeps_failing_is_tried_last_until_it_is_well_again(
    provider: SimulatedProvider, tmp_path: Path
) -> None:
    with running_proxy(tmp_path, files_for(provider), settings={"breaker_failures": 3}) as proxy:

        def first_model() -> str:
            row = proxy.row_of(proxy.ask(headers={"x-farthing-task": "fallback"}))
            return str(row["attempts"][0]["model"])

        provider.faults.always("status=503", model="gpt-4o-mini")
        eventually(lambda: first_model() == "dear", "another model is asked first", within_s=20)
        series = {"model": "cheap", "target": "openai/gpt-4o-mini"}
        assert proxy.metric("farthing_breaker_open", **series) == 1
        assert proxy.ask(model="cheap").status_code == 503, "a pinned model has no other, so it is tried all the same"
        provider.faults.always("", model="gpt-4o-mini")
        eventually(lambda: first_model() == "cheap", "the first model is asked again", within_s=20)
        assert proxy.metric("farthing_breaker_open", **series) == 0
