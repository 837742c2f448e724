"""What passes through the wire lane unchanged, and the little that does not."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from proxy import Proxy, events

from e2e.conftest import MODELS
from e2e.upstream import DONE, JSON_HEAD, Upstream, chunk, completion, running_upstream, usage_event
from router.providers.simulated import SimulatedProvider

STRANGE = """
  strange:
    target: openai/gpt-4o-mini
    base_url: {url}
    timeouts: {{first_byte_s: 1, between_bytes_s: 1, total_s: 5}}
    retries: 0
  other:
    target: openai/gpt-4o-mini
    base_url: {url}
    price: {{input_usd_per_mtok: 1, output_usd_per_mtok: 1}}
"""


@pytest.fixture(scope="module")
def shared_upstream() -> Iterator[Upstream]:
    with running_upstream() as upstream:
        yield upstream


@pytest.fixture
def upstream(shared_upstream: Upstream) -> Upstream:
    shared_upstream.answers.clear()
    shared_upstream.bodies.clear()
    return shared_upstream


@pytest.fixture(scope="module")
def more_files(shared_provider: SimulatedProvider, shared_upstream: Upstream) -> dict[str, str]:
    models = MODELS.format(url=shared_provider.base_url) + STRANGE.format(url=shared_upstream.base_url)
    return {
        "models": models,
        "tight": "task: tight\nbudget: {per_request_usd: 0.0001}\nroute: [{use: cheap}]\n",
        "prompted": "task: prompted\nroute: [{use: cheap}]\nprompts: {cheap: {system: Be brief.}}\n",
    }


def members(raw: bytes) -> dict[str, bytes]:
    """Return each member of a body as the bytes that stand there, in their order."""
    return {name: bytes(value) for name, value in msgspec.json.decode(raw, type=dict[str, msgspec.Raw]).items()}


ODD = (
    rb"""{ "zeta" : [1, 2 ,3],
 "model": "cheap", "seed": 123456789012345678901234567890, "temperature" :1.0e-07,
 "messages": [ {"role":"user", "content":"caf\u00e9 \ud83d\ude42 \/ \u0041 """
    + "é 🙂".encode()
    + rb"""","weight": 0} ],
 "metadata":{"b":"2","a":"1"}, "logit_bias": {"50256": -100}, "user":"u\t1",
 "max_tokens": 20, "alpha": {"nested": {"deep": [null, true, {"x": -0.0}]}}, "seed2": 1E400 }"""
)


def test_every_member_reaches_the_provider_byte_for_byte_and_in_order(
    proxy: Proxy, provider: SimulatedProvider
) -> None:
    assert proxy.send(ODD).status_code == 200
    sent, received = members(ODD), members(provider.calls[-1].raw)
    assert list(received) == list(sent)
    assert received.pop("model") == b'"gpt-4o-mini"'
    del sent["model"]
    assert received == sent


def test_a_stream_adds_nothing_but_its_options(proxy: Proxy, provider: SimulatedProvider) -> None:
    streamed = ODD.replace(b'"zeta"', b'"stream":true,"zeta"')
    assert proxy.send(streamed).status_code == 200
    sent, received = members(streamed), members(provider.calls[-1].raw)
    assert json.loads(received.pop("stream_options")) == {"include_usage": True}
    assert list(received) == list(sent)
    assert {name for name in sent if sent[name] != received[name]} == {"model"}


@pytest.mark.parametrize("asked", [True, False, None])
def test_other_stream_options_survive(proxy: Proxy, provider: SimulatedProvider, asked: bool | None) -> None:
    options = {"include_obfuscation": False, "include_usage": asked, "new": [1]}
    proxy.ask(stream=True, stream_options=options, max_tokens=5)
    assert provider.calls[-1].body["stream_options"] == {**options, "include_usage": True}


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
KNOWN = {
    "model", "messages", "max_tokens", "max_completion_tokens", "n", "stream", "stream_options", "tools",
    "functions", "tool_choice", "function_call", "parallel_tool_calls", "response_format", "prediction",
    "modalities", "web_search_options", "service_tier", "metadata", "user", "seed", "logprobs", "top_logprobs",
    "stop", "reasoning_effort",
}  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text().filter(lambda name: name not in KNOWN), JSON_VALUES, max_size=5), st.booleans())
@example({"": None, "\x00": "\ud7ff", '"': 2**70, "é\u2028": 5e-324}, False)
def test_whatever_we_do_not_know_passes_through(
    proxy: Proxy, provider: SimulatedProvider, unknown: dict[str, object], ascii_only: bool
) -> None:
    body = {**unknown, "model": "cheap", "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
    raw = json.dumps(body, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    assert proxy.send(raw).status_code == 200
    sent, received = members(raw), members(provider.calls[-1].raw)
    assert {**received, "model": b""} == {**sent, "model": b""}


def test_of_a_member_given_twice_the_last_is_counted_and_sent(proxy: Proxy, provider: SimulatedProvider) -> None:
    raw = b'{"model":"dear","model":"cheap","max_tokens":9,"messages":[{"role":"user","content":"x"}],"max_tokens":3}'
    answer = proxy.send(raw)
    assert answer.headers["x-farthing-model"] == "cheap"
    assert provider.calls[-1].raw.count(b"max_tokens") == 1
    assert provider.calls[-1].body["max_tokens"] == 3
    assert answer.json()["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_limit_keeps_the_callers_own_name_when_it_is_tightened(
    proxy: Proxy, provider: SimulatedProvider, name: str
) -> None:
    answer = proxy.ask(model="cheap", headers={"x-farthing-task": "tight"}, **{name: 16_000})
    assert answer.status_code == 200
    body = provider.calls[-1].body
    assert {"max_tokens", "max_completion_tokens"} & body.keys() == {name}
    assert 64 <= body[name] < 200


def test_a_limit_that_fits_is_left_alone(proxy: Proxy, provider: SimulatedProvider) -> None:
    proxy.ask(model="cheap", headers={"x-farthing-task": "tight"}, max_tokens=70)
    assert provider.calls[-1].body["max_tokens"] == 70


def test_no_limit_is_added_where_no_money_bounds_it(proxy: Proxy, provider: SimulatedProvider) -> None:
    proxy.ask(model="cheap")
    assert set(provider.calls[-1].body) == {"model", "messages"}


def test_a_prompt_of_the_policy_replaces_the_system_messages_and_nothing_else(
    proxy: Proxy, provider: SimulatedProvider
) -> None:
    user = {"role": "user", "content": "Hi \u2028", "name": "zoe", "unknown": 1}
    messages = [{"role": "system", "content": "Be long."}, user, {"role": "developer", "content": "Be rude."}]
    assert proxy.ask(messages=messages, headers={"x-farthing-task": "prompted"}, max_tokens=5).status_code == 200
    assert provider.calls[-1].body["messages"] == [{"role": "system", "content": "Be brief."}, user]


def test_the_callers_own_headers_and_key_do_not_reach_the_provider(proxy: Proxy, provider: SimulatedProvider) -> None:
    headers = {"authorization": "Bearer secret-key", "cookie": "a=b", "x-forwarded-for": "1.2.3.4", "x-mine": "1"}
    proxy.ask(model="cheap", max_tokens=5, headers=headers)
    received = provider.calls[-1].headers
    assert not {"cookie", "x-forwarded-for", "x-mine", "authorization"} & received.keys()
    assert "secret-key" not in str(received)


def test_a_whole_answer_comes_back_byte_for_byte(proxy: Proxy, upstream: Upstream) -> None:
    body = completion("café 🙂 \\u00e9", usage={"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13})
    upstream.whole(body)
    answer = proxy.ask(model="strange")
    assert answer.content == body
    assert answer.headers["content-type"] == "application/json"
    assert proxy.row_of(answer)["input_tokens"] == 9


@pytest.mark.parametrize("coding", ["content-length", "chunked", "connection close"])
def test_however_it_is_framed_a_whole_answer_comes_back_the_same(proxy: Proxy, upstream: Upstream, coding: str) -> None:
    body = completion("x" * 70_000)
    framed = {
        "content-length": b"content-length: %d\r\n\r\n%s" % (len(body), body),
        "chunked": b"transfer-encoding: chunked\r\n\r\n7\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n"
        % (body[:7], len(body) - 7, body[7:]),
        "connection close": b"\r\n" + body,
    }
    upstream.answers.append(JSON_HEAD + framed[coding])
    answer = proxy.ask(model="strange")
    assert answer.content == body


ROLE = chunk('{"role":"assistant","content":""}')
HELLO = chunk('{"content":"Hel\\u006co \xf0\x9f\x99\x82"}'.encode("latin-1").decode())
STOP = chunk(finish='"stop"')
STRANGE_EVENTS = (
    b": keep-alive\n\n",
    b"event: message\nid: 7\n" + ROLE,
    b"data:" + HELLO[6:],
    b'data: {"id":"x","choices":[{"index":0,\ndata:  "delta":{"content":" there"},"finish_reason":null}]}\n\n',
    STOP,
)


COMMENT = b": farthing cost_usd=0.00000375 model=strange attempts=1\n\n"


def without_more(content: bytes) -> bytes:
    """Leave out what our comment says beside cost, model and attempts."""
    return re.sub(rb"(\n: farthing .* attempts=\d+)[^\n]*", rb"\1", content)


def test_a_stream_comes_back_byte_for_byte_but_for_usage_and_our_comment(proxy: Proxy, upstream: Upstream) -> None:
    upstream.stream(*STRANGE_EVENTS, usage_event(9, 4), DONE)
    answer = proxy.ask(model="strange", stream=True)
    row = proxy.row_of(answer)
    assert without_more(answer.content) == b"".join(STRANGE_EVENTS) + COMMENT + DONE
    assert (row["charged_nusd"], row["certainty"], row["output_tokens"]) == (3750, "reported", 4)


def test_the_usage_event_stays_for_a_caller_who_asked_for_it(proxy: Proxy, upstream: Upstream) -> None:
    upstream.stream(*STRANGE_EVENTS, usage_event(9, 4), DONE)
    answer = proxy.ask(model="strange", stream=True, stream_options={"include_usage": True})
    assert without_more(answer.content) == b"".join(STRANGE_EVENTS) + usage_event(9, 4) + COMMENT + DONE


def test_usage_beside_the_last_choice_is_read_and_passed_on(proxy: Proxy, upstream: Upstream) -> None:
    last = chunk(finish='"stop"', more=',"usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13}')
    upstream.stream(ROLE, HELLO, last, DONE)
    answer = proxy.ask(model="strange", stream=True)
    assert last in answer.content
    assert proxy.row_of(answer)["charged_nusd"] == 3750


def test_lines_that_end_in_crlf_are_passed_on_as_they_are(proxy: Proxy, upstream: Upstream) -> None:
    pieces = [event.replace(b"\n", b"\r\n") for event in (ROLE, HELLO, STOP)]
    upstream.stream(*pieces, usage_event(9, 4).replace(b"\n", b"\r\n"), DONE.replace(b"\n", b"\r\n"))
    answer = proxy.ask(model="strange", stream=True)
    assert answer.content.startswith(b"".join(pieces))
    assert b"usage" not in answer.content
    assert answer.content.endswith(b"data: [DONE]\n\n")


def test_tool_calls_in_a_stream_keep_their_bytes(proxy: Proxy, upstream: Upstream) -> None:
    call = chunk(
        '{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":"{\\"a\\""}}]}'
    )
    upstream.stream(ROLE, call, chunk(finish='"tool_calls"'), usage_event(9, 12), DONE)
    assert call in proxy.ask(model="strange", stream=True).content


def test_a_stream_of_several_choices_passes_through(proxy: Proxy, provider: SimulatedProvider) -> None:
    answer = proxy.ask(model="cheap", stream=True, n=3, max_tokens=12)
    finished = [
        choice["index"]
        for event in events(answer.text)
        for choice in event["choices"]
        if choice["finish_reason"] == "length"
    ]
    assert sorted(finished) == [0, 1, 2]
    assert proxy.row_of(answer)["output_tokens"] == 36


def test_the_headers_tell_what_was_decided_and_paid(proxy: Proxy, provider: SimulatedProvider) -> None:
    answer = proxy.ask("Hello", max_tokens=10)
    row = proxy.row_of(answer)
    told = {name.removeprefix("x-farthing-"): value for name, value in answer.headers.items() if "farthing" in name}
    assert told.keys() == {
        "request-id", "task", "rule", "model", "estimate-usd", "cost-usd", "baseline-usd", "attempts",
    }  # fmt: skip
    assert (told["task"], told["rule"], told["model"], told["attempts"]) == ("default", "otherwise", "cheap", "1")
    for header, column in (("cost-usd", "charged"), ("baseline-usd", "baseline"), ("estimate-usd", "estimated")):
        assert round(float(told[header]) * 1e9) == row[f"{column}_nusd"]


def test_a_stream_tells_its_decision_at_once_and_its_cost_at_the_end(proxy: Proxy, provider: SimulatedProvider) -> None:
    answer = proxy.ask("Hello", max_tokens=10, stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert {"x-farthing-request-id", "x-farthing-task", "x-farthing-rule", "x-farthing-model"} < answer.headers.keys()
    assert "x-farthing-cost-usd" not in answer.headers
    comment, done = answer.text.removesuffix("\n\n").split("\n\n")[-2:]
    assert done == "data: [DONE]"
    row = proxy.row_of(answer)
    wanted = f": farthing cost_usd={row['charged_nusd'] / 1e9:.10f}".rstrip("0") + " model=cheap attempts=1"
    assert comment == wanted or comment.startswith(wanted + " ")


def test_a_caller_who_asks_before_it_sends_is_told_to_go_on(proxy: Proxy, provider: SimulatedProvider) -> None:
    url = httpx.URL(proxy.url)
    raw = json.dumps({"model": "auto", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5}).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\nconnection: close\r\n"
    with socket.create_connection((url.host, url.port or 80), timeout=5) as caller:
        caller.sendall(f"{head}content-length: {len(raw)}\r\n\r\n".encode())
        assert caller.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        caller.sendall(raw)
        answer = b"".join(iter(lambda: caller.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"}")


def test_the_answer_to_a_head_request_is_a_head_and_the_connection_goes_on(proxy: Proxy) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as connection:
        for path, status in (("/health/ready", 200), ("/v1/chat/completions", 404), ("/admin/spend", 403)):
            connection.sendall(f"HEAD {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            head = connection.recv(65_536)
            assert head.startswith(b"HTTP/1.1 %d " % status), head
            assert head.endswith(b"\r\n\r\n")
        connection.sendall(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("pieces", [1, 7])
def test_an_offer_of_another_protocol_is_passed_over(proxy: Proxy, provider: SimulatedProvider, pieces: int) -> None:
    raw = json.dumps({"model": "auto", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5}).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: Upgrade, HTTP2-Settings\r\n"
        f"upgrade: h2c\r\nhttp2-settings: AAEAAEAAAAIAAAAB\r\ncontent-length: {len(raw)}\r\n\r\n"
    )
    wire = 3 * (head.encode() + raw)
    step = -(-len(wire) // pieces)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as caller:
        caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(wire), step):
            caller.sendall(wire[start : start + step])
        got = b""
        while got.count(b"chat.completion") < 3:
            got += caller.recv(65_536)
    assert got.count(b"HTTP/1.1 200 OK\r\n") == 3
    assert len(provider.calls) == 3


@pytest.mark.parametrize("line", [b"CONNECT x:443 HTTP/1.1", b"CONNECT / HTTP/1.1"])
def test_a_tunnel_is_refused(proxy: Proxy, line: bytes) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as caller:
        caller.sendall(line + b"\r\nhost: x\r\n\r\nabc")
        assert caller.recv(65_536).startswith(b"HTTP/1.1 400 ")
