"""Spans at a collector: a request and its attempts, in the caller's trace, with the ledger's figures and no text."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from e2e.conftest import files_for
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from proxy import Calls, ServeProcess, eventually, running_provider

from router.providers.simulated import SimulatedProvider
from router.values import NUSD_PER_USD, Trace
from router.web.traces import open_traces, trace_of
from tests.watch.otlp_receiver import Receiver, attributes, running_receiver

TRACE_ID, PARENT_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
OK, ERROR = 0, 2
CLAUDE = """
task: claude
route:
  - use: claude
"""
UNKNOWN_MODEL = b'{"model":"swordfish","messages":[{"role":"user","content":"hello"}]}'
CLAUDE_MODEL = "  claude: {{target: anthropic/claude-sonnet-4-5, base_url: {url}}}\n"


@pytest.fixture(scope="module")
def provider() -> Iterator[SimulatedProvider]:
    with running_provider() as running:
        yield running


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running


def environ_of(receiver: Receiver) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_BSP_SCHEDULE_DELAY": "50", "ANTHROPIC_API_KEY": "sk-x"}


def files_of(provider: SimulatedProvider) -> dict[str, str]:
    """Return policies whose models go by both lanes."""
    files = files_for(provider, claude=CLAUDE)
    return {**files, "models": files["models"] + CLAUDE_MODEL.format(url=provider.root_url)}


@pytest.fixture(scope="module")
def traced(
    provider: SimulatedProvider, receiver: Receiver, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Calls]:
    """`farthing serve` that sends its spans to the receiver."""
    folder = tmp_path_factory.mktemp("traced")
    with ServeProcess(folder, files_of(provider), environ=environ_of(receiver)) as process:
        yield process.ready()


def test_a_request_is_a_span_under_its_own_id(traced: Calls, receiver: Receiver) -> None:
    answer = traced.ask("the text is swordfish", max_tokens=20)
    row = traced.row_of(answer)
    request, (attempt,) = eventually(partial(receiver.of, row["id"]), "the request's span")
    told = attributes(request.attributes)
    assert request.name == "chat auto"
    assert request.parent_span_id == b""
    assert request.status.code == OK
    assert (
        told.items()
        >= {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "auto",
            "gen_ai.response.model": row["reported_model"],
            "gen_ai.provider.name": "openai",
            "gen_ai.usage.input_tokens": row["input_tokens"],
            "gen_ai.usage.output_tokens": row["output_tokens"],
            "farthing.request_id": row["id"],
            "farthing.task": "default",
            "farthing.rule": row["rule"],
            "farthing.model": "cheap",
            "farthing.outcome": "answered",
            "farthing.cost_usd": row["charged_nusd"] / NUSD_PER_USD,
            "farthing.baseline_usd": row["baseline_nusd"] / NUSD_PER_USD,
        }.items()
    )
    assert attempt.parent_span_id == request.span_id
    assert attempt.name == "chat gpt-4o-mini"
    assert request.start_time_unix_nano <= attempt.start_time_unix_nano
    assert attempt.start_time_unix_nano <= attempt.end_time_unix_nano <= request.end_time_unix_nano
    assert abs(request.end_time_unix_nano / 1e9 - time.time()) < 60
    assert not any(b"swordfish" in body for body in receiver.raw)
    assert receiver.resources[-1].items() >= {"service.name": "farthing"}.items()


def test_each_attempt_is_a_child_with_its_reason(
    traced: Calls, receiver: Receiver, provider: SimulatedProvider
) -> None:
    provider.faults.queue("status=503 retry-after=60", model="gpt-4o-mini")
    answer = traced.ask(headers={"x-farthing-task": "fallback"})
    row = traced.row_of(answer)
    request, attempts = eventually(partial(receiver.of, row["id"]), "the request's span")
    assert [attributes(attempt.attributes)["farthing.reason"] for attempt in attempts] == [
        attempt["reason"] for attempt in row["attempts"]
    ]
    assert [attempt.status.code for attempt in attempts] == [ERROR, OK]
    first = attributes(attempts[0].attributes)
    assert first["error.type"] == first["farthing.reason"]
    assert first["http.response.status_code"] == 503
    costs = [attributes(attempt.attributes)["farthing.cost_usd"] for attempt in attempts]
    assert sum(costs) == pytest.approx(row["charged_nusd"] / NUSD_PER_USD)
    assert request.status.code == OK


def test_a_failed_request_is_an_error(traced: Calls, receiver: Receiver, provider: SimulatedProvider) -> None:
    provider.faults.queue("status=400", model="gpt-4o-mini")
    answer = traced.ask()
    request_id = answer.headers["x-farthing-request-id"]
    request, _ = eventually(partial(receiver.of, request_id), "the request's span")
    assert request.status.code == ERROR
    assert attributes(request.attributes)["error.type"] == answer.json()["error"]["code"]


def test_a_stream_is_a_span_with_its_first_token(traced: Calls, receiver: Receiver) -> None:
    answer = traced.ask(stream=True)
    request, _ = eventually(partial(receiver.of, answer.headers["x-farthing-request-id"]), "the stream's span")
    told = attributes(request.attributes)
    assert 0 < told["farthing.first_token_s"] <= (request.end_time_unix_nano - request.start_time_unix_nano) / 1e9


def test_the_callers_trace_is_continued(traced: Calls, receiver: Receiver) -> None:
    headers = {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01", "tracestate": "vendor=value"}
    answer = traced.ask(headers=headers)
    request, attempts = eventually(partial(receiver.of, TRACE_ID), "the caller's trace")
    assert request.parent_span_id.hex() == PARENT_ID
    assert request.trace_state == "vendor=value"
    assert attributes(request.attributes)["farthing.request_id"] == answer.headers["x-farthing-request-id"]
    assert {attempt.trace_id.hex() for attempt in attempts} == {TRACE_ID}


def traceparent_to(provider: SimulatedProvider) -> str:
    return provider.calls[-1].headers["traceparent"]


@pytest.mark.parametrize("task", ["default", "claude"], ids=["wire lane", "litellm lane"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_provider_is_told_the_span_of_its_attempt(
    traced: Calls, receiver: Receiver, provider: SimulatedProvider, task: str, *, stream: bool
) -> None:
    headers = {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01", "tracestate": "vendor=value", "x-farthing-task": task}
    for sent in (headers, {"x-farthing-task": task}):
        provider.calls.clear()
        answer = traced.ask(headers=sent, stream=stream)
        assert answer.status_code == 200, answer.text
        request_id = answer.headers["x-farthing-request-id"]

        def attempt(request_id: str = request_id) -> str | None:
            of = [one for one in receiver.spans if attributes(one.attributes).get("farthing.request_id") == request_id]
            found = [span for span in receiver.spans for one in of if span.parent_span_id == one.span_id]
            return f"00-{found[0].trace_id.hex()}-{found[0].span_id.hex()}-01" if found else None

        assert traceparent_to(provider) == eventually(attempt, "the attempt's span")
        assert provider.calls[-1].headers.get("tracestate") == sent.get("tracestate")
        assert traceparent_to(provider).split("-")[1] == (TRACE_ID if sent is headers else request_id)


def test_each_attempt_has_a_span_of_its_own_at_the_provider(
    traced: Calls, receiver: Receiver, provider: SimulatedProvider
) -> None:
    provider.calls.clear()
    provider.faults.queue("status=503 retry-after=60", model="gpt-4o-mini")
    answer = traced.ask(headers={"x-farthing-task": "fallback"})
    _, attempts = eventually(partial(receiver.of, answer.headers["x-farthing-request-id"]), "the request's span")
    told = [call.headers["traceparent"].split("-")[2] for call in provider.calls]
    assert told == [attempt.span_id.hex() for attempt in attempts]
    assert len(set(told)) == 2


def test_a_provider_is_told_nothing_where_no_spans_are_sent(provider: SimulatedProvider, tmp_path: Path) -> None:
    with ServeProcess(tmp_path, files_of(provider), environ={"ANTHROPIC_API_KEY": "sk-x"}) as process:
        calls = process.ready()
        for task in ("default", "claude"):
            provider.calls.clear()
            headers = {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01", "tracestate": "a=b", "x-farthing-task": task}
            assert calls.ask(headers=headers).status_code == 200
            assert not provider.calls[-1].headers.keys() & {"traceparent", "tracestate"}


def test_a_provider_is_told_what_the_sampler_says(
    provider: SimulatedProvider, receiver: Receiver, tmp_path: Path
) -> None:
    environ = environ_of(receiver) | {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}
    with ServeProcess(tmp_path, files_for(provider), environ=environ) as process:
        calls = process.ready()
        left_out = calls.ask().headers["x-farthing-request-id"]
        assert traceparent_to(provider).startswith(f"00-{left_out}-")
        assert traceparent_to(provider).endswith("-00")
        sent = TRACE_ID.replace("4", "5")
        calls.ask(headers={"traceparent": f"00-{sent}-{PARENT_ID}-01"})
        assert traceparent_to(provider).endswith("-01")
        eventually(partial(receiver.of, sent), "the span of a caller who samples")
    assert receiver.of(left_out) is None


@pytest.mark.parametrize(
    ("path", "sent", "named", "status", "code"),
    [
        ("/v1/chat/completions", b"{", "POST /v1/chat/completions", 400, "invalid_request"),
        ("/v1/chat/completions", UNKNOWN_MODEL, "POST /v1/chat/completions", 404, "model_not_found"),
        ("/v1/swordfish", b"{}", "POST", 404, "not_found"),
    ],
)
def test_a_request_that_is_turned_away_at_once_is_a_span(
    traced: Calls, receiver: Receiver, path: str, sent: bytes, named: str, status: int, code: str
) -> None:
    answer = traced.http.post(path, content=sent)
    assert answer.status_code == status
    span, attempts = eventually(partial(receiver.of, answer.headers["x-farthing-request-id"]), "the request's span")
    assert (span.name, attempts, span.status.code) == (named, [], OK)
    assert attributes(span.attributes) == {
        "http.request.method": "POST",
        "http.response.status_code": status,
        "error.type": code,
        "farthing.request_id": answer.headers["x-farthing-request-id"],
        "farthing.outcome": "refused",
        **({"http.route": path} if " " in named else {}),
    }
    assert 0 <= span.end_time_unix_nano / 1e9 - span.start_time_unix_nano / 1e9 < 5
    assert abs(span.end_time_unix_nano / 1e9 - time.time()) < 60
    assert not any(b"swordfish" in body for body in receiver.raw)


def test_a_request_without_a_good_key_is_a_span_in_its_callers_trace(
    provider: SimulatedProvider, receiver: Receiver, tmp_path: Path
) -> None:
    accounts = f"accounts:\n  shop:\n    keys: ['sha256:{'0' * 64}']\n"
    with ServeProcess(tmp_path, files_for(provider, accounts=accounts), environ=environ_of(receiver)) as process:
        trace_id = TRACE_ID.replace("4", "6")
        calls = process.ready()
        assert calls.ask(headers={"traceparent": f"00-{trace_id}-{PARENT_ID}-01"}).status_code == 401
        span, _ = eventually(partial(receiver.of, trace_id), "the request's span")
    assert span.parent_span_id.hex() == PARENT_ID
    assert attributes(span.attributes)["error.type"] == "invalid_api_key"


def test_what_the_caller_does_not_sample_is_not_sent(
    traced: Calls, receiver: Receiver, provider: SimulatedProvider
) -> None:
    unwanted = TRACE_ID[::-1]
    traced.ask(headers={"traceparent": f"00-{unwanted}-{PARENT_ID}-00"})
    passed_on = traceparent_to(provider)
    assert passed_on.startswith(f"00-{unwanted}-")
    assert passed_on.endswith("-00")
    after = traced.ask()
    eventually(partial(receiver.of, after.headers["x-farthing-request-id"]), "a later span")
    assert receiver.of(unwanted) is None


def test_the_log_and_the_exemplars_name_the_trace(
    provider: SimulatedProvider, receiver: Receiver, tmp_path: Path
) -> None:
    with ServeProcess(tmp_path, files_for(provider), "--log-level", "info", environ=environ_of(receiver)) as process:
        calls = process.ready()
        request_id = calls.ask(headers={"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01"}).headers[
            "x-farthing-request-id"
        ]
        text = calls.http.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"}).text
        other = calls.ask().headers["x-farthing-request-id"]
        process.child.terminate()
        _, errors = process.child.communicate(timeout=20)
    lines = [json.loads(line) for line in errors.splitlines()]
    named = {line["request_id"]: line["trace_id"] for line in lines if line["logger"] == "farthing.outcome"}
    assert named == {request_id: TRACE_ID, other: other}
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    assert {"request_id": request_id, "trace_id": TRACE_ID} in [
        sample.exemplar.labels for sample in samples if sample.exemplar
    ]
    # What was not sent yet is sent before the process ends.
    assert receiver.of(other) is not None


def test_a_collector_that_is_away_holds_nothing_up(provider: SimulatedProvider, tmp_path: Path) -> None:
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_BSP_SCHEDULE_DELAY": "50"}
    with ServeProcess(tmp_path, files_for(provider), environ=environ) as process:
        calls = process.ready()
        began = time.perf_counter()
        assert [calls.ask().status_code for _ in range(5)] == [200] * 5
        print(f"five answers took {time.perf_counter() - began:.2f} s")
        began = time.perf_counter()
        process.child.terminate()
        _, errors = process.child.communicate(timeout=30)
        print(f"it ended after {time.perf_counter() - began:.2f} s")
        assert time.perf_counter() - began < 6
    assert all(json.loads(line)["logger"] for line in errors.splitlines())


def test_without_an_endpoint_nothing_of_it_is_imported() -> None:
    program = "import sys, router.web.app; print([m for m in sys.modules if m.startswith('opentelemetry')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
    ],
)
def test_spans_are_sent_only_where_they_are_asked_for(environ: dict[str, str]) -> None:
    assert open_traces(environ) is None


@pytest.mark.parametrize(
    ("traceparent", "expected"),
    [
        (f"00-{TRACE_ID}-{PARENT_ID}-01", Trace(TRACE_ID, PARENT_ID)),
        (f"00-{TRACE_ID}-{PARENT_ID}-00", Trace(TRACE_ID, PARENT_ID, sampled=False)),
        (f"cc-{TRACE_ID}-{PARENT_ID}-01-what-is-new", Trace(TRACE_ID, PARENT_ID)),
        (f"00-{TRACE_ID}-{PARENT_ID}-01-what-is-new", None),
        (f"ff-{TRACE_ID}-{PARENT_ID}-01", None),
        (f"00-{'0' * 32}-{PARENT_ID}-01", None),
        (f"00-{TRACE_ID}-{'0' * 16}-01", None),
        (f"00-{TRACE_ID.upper()}-{PARENT_ID}-01", None),
        ("nonsense", None),
        ("", None),
    ],
)
def test_a_traceparent_is_read_as_w3c_has_it(traceparent: str, expected: Trace | None) -> None:
    assert trace_of({"traceparent": traceparent}, "1" * 32, None) == expected


@pytest.mark.parametrize(
    ("tracestate", "expected"),
    [("a=1,b=2", "a=1,b=2"), ("a" * 512, "a" * 512), ("a" * 513, None), ("a=\xe9", None), ("", None)],
)
def test_a_tracestate_that_could_not_be_passed_on_is_left_out(tracestate: str, expected: str | None) -> None:
    trace = trace_of({"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01", "tracestate": tracestate}, "1" * 32, None)
    assert trace == Trace(TRACE_ID, PARENT_ID, state=expected)
