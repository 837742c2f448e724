"""Callers who send nonsense in a body, on purpose or not: a documented 4xx in bounded time, and nothing charged."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from proxy import Proxy

from e2e.refusals import HELLO, body, error_of
from router.providers.simulated import SimulatedProvider

SOON_S = 3.0
"""On a noisy machine; most take a hundredth of it."""


NOT_JSON = [
    b"", b" ", b"{", b"hello", b"{'model': 1}", b'{"model": "auto",}', b"\xef\xbb\xbf" + body(), body() + b"x",
    body() + body(), b'{"model": NaN}', b'{"a": 01}', b"\x00" * 50, b'{"a\nb": 1}',
]  # fmt: skip


@pytest.mark.parametrize("raw", NOT_JSON)
def test_what_is_not_json_is_refused(proxy: Proxy, provider: SimulatedProvider, raw: bytes) -> None:
    assert "JSON" in error_of(proxy.send(raw), 400, "invalid_request")["message"]
    assert not provider.calls


@pytest.mark.parametrize(
    "raw", [b"\xff", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"caf\xe9", "é".encode("utf-16")]
)
@pytest.mark.parametrize("place", ["content", "unknown"])
def test_what_is_not_utf8_is_refused_with_its_place(
    proxy: Proxy, provider: SimulatedProvider, raw: bytes, place: str
) -> None:
    marked = body(messages=[{"role": "user", "content": "@"}] if place == "content" else HELLO, unknown="@")
    at = marked.index(b"@") if place == "content" else marked.rindex(b"@")
    message = error_of(proxy.send(marked[:at] + raw + marked[at + 1 :]), 400, "invalid_request")["message"]
    assert "UTF-8" in message
    assert not provider.calls


WRONG = [
    # what is sent, what `param` names
    (b"[]", None),
    (b"null", None),
    (b'"auto"', None),
    (b"{}", "model"),
    (b'{"model": "auto"}', "messages"),
    (b'{"messages": [{"role": "user", "content": "x"}]}', "model"),
    (body(model=5), "model"),
    (body(model=None), "model"),
    (body(messages=[]), "messages"),
    (body(messages="Hello"), "messages"),
    (body(messages=[5]), "messages[0]"),
    (body(messages=[{"content": "x"}]), "messages[0].role"),
    (body(messages=[{"role": 5, "content": "x"}]), "messages[0].role"),
    (body(messages=[{"role": "user", "content": 5}]), "messages[0].content"),
    (body(messages=[{"role": "user", "content": [5]}]), "messages[0].content[0]"),
    (body(messages=[{"role": "user", "content": [{"text": "x"}]}]), "messages[0].content[0].type"),
    (
        body(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]),
        "messages[0].content[0].image_url",
    ),
    (body(messages=[{"role": "user", "content": "x", "tool_calls": 5}]), "messages[0].tool_calls"),
    (body(stream="yes"), "stream"),
    (body(stream=True, stream_options=5), "stream_options"),
    (body(stream=True, stream_options={"include_usage": "yes"}), "stream_options.include_usage"),
    (body(tools={}), "tools"),
    (body(tools=[{}]), "tools[0].type"),
    (body(tools=[{"type": "function", "function": {}}]), "tools[0].function.name"),
    (body(metadata=5), "metadata"),
    (body(metadata={"task": 5}), "metadata.task"),
    (body(metadata={"task": "no-such-task"}), "metadata.task"),
    (body(model="task:no-such-task"), "model"),
    (body(user=5), "user"),
    *((body(n=value), "n") for value in (0, -1, 129, 1.5, "2", True, 10**40)),
    *((body(max_tokens=value), "max_tokens") for value in (0, -5, 1.5, "5", True, 10**10, 10**400)),
    *((body(max_completion_tokens=value), "max_completion_tokens") for value in (0, -5, [], 1e300)),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "param"), WRONG)
def test_a_wrong_value_is_refused_with_its_place(
    proxy: Proxy, provider: SimulatedProvider, raw: bytes, param: str | None
) -> None:
    error = error_of(proxy.send(raw), 400, "invalid_request")
    assert error["param"] == param
    assert param is None or param.rpartition(".")[2] in error["message"]
    assert not provider.calls


def test_nothing_of_that_was_charged(proxy: Proxy, provider: SimulatedProvider) -> None:
    assert sum(row["charged_nusd"] for row in proxy.rows()) == proxy.metric("farthing_cost_usd_total") == 0
    assert proxy.metric("farthing_refusals_total", reason="invalid_request") > 0


def nested(depth: int, opening: str = "[", closing: str = "]", inner: str = "1") -> str:
    return opening * depth + inner + closing * depth


def with_raw(member: str, raw: str) -> bytes:
    return (body()[:-1].decode() + f', "{member}": {raw}}}').encode()


@pytest.mark.parametrize("depth", [900, 5_000, 1_000_000])
@pytest.mark.parametrize(
    ("member", "wrap"),
    [
        ("unknown", "{}"),
        ("metadata", '{{"a": {}}}'),
        ("tools", '[{{"type": "function", "function": {{"name": "f", "parameters": {{"type": {}}}}}}}]'),
        ("response_format", '{{"type": "json_schema", "json_schema": {{"name": "x", "schema": {}}}}}'),
        ("tool_choice", "{}"),
        ("prediction", '{{"content": {}}}'),
        ("stream_options", '{{"a": {}}}'),
    ],
)
def test_absurd_nesting_is_answered_soon(
    proxy: Proxy, provider: SimulatedProvider, member: str, wrap: str, depth: int
) -> None:
    started = time.perf_counter()
    headers = {"x-farthing-dry-run": "true"}
    answer = proxy.send(with_raw(member, wrap.format(nested(depth))), headers=headers)
    assert time.perf_counter() - started < SOON_S
    if answer.status_code != 200:
        error_of(answer, 400, "invalid_request")
    assert depth < 1_000_000 or answer.status_code == 400
    assert not provider.calls


@pytest.mark.parametrize("depth", [900, 1_000_000])
def test_absurd_nesting_of_objects_and_unclosed_brackets(proxy: Proxy, provider: SimulatedProvider, depth: int) -> None:
    headers = {"x-farthing-dry-run": "true"}
    for raw in (with_raw("x", nested(depth, '{"a":', "}")), b"[" * depth, b'{"a":' * depth):
        started = time.perf_counter()
        answer = proxy.send(raw, headers=headers)
        assert time.perf_counter() - started < SOON_S
        assert answer.status_code in (200, 400)


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["type", "text", "content", "name", "function", "url", "json_schema", "schema", "task"])
        | st.text(max_size=3), inner, max_size=3,
    ),
    max_leaves=8,
)  # fmt: skip
MEMBERS = [
    "model", "messages", "max_tokens", "max_completion_tokens", "n", "stream", "stream_options", "tools",
    "functions", "tool_choice", "parallel_tool_calls", "function_call", "response_format", "prediction",
    "modalities", "web_search_options", "service_tier", "metadata", "user", "seed", "stop", "logprobs",
    "top_logprobs",
]  # fmt: skip


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(MEMBERS), ANY, min_size=1, max_size=4))
@example({"tool_choice": {"function": {"name": {}}}, "tools": [{"type": "function", "function": {"name": "f"}}]})
@example({"response_format": {"type": "json_schema", "json_schema": {"schema": {"$ref": "#"}}}})
@example({"response_format": {"type": "json_schema", "json_schema": {"name": [], "schema": "x"}}})
@example({"prediction": {"content": [{"text": {}}]}})
@example({"metadata": {"simulate": "x"}, "service_tier": "\x00"})
@example({"messages": [{"role": "", "content": None}]})
@example({"messages": [{"role": "user", "content": []}]})
def test_whatever_stands_in_a_body_is_never_our_failure(
    proxy: Proxy, provider: SimulatedProvider, members: dict[str, Any]
) -> None:
    answer = proxy.send(body(**members))
    assert answer.status_code in (200, 400, 404), (answer.status_code, answer.text)


PICTURES = [
    "", "x", "data:", "data:image/png;base64,", "data:image/png;base64,!!!!", "data:image/png;base64," + "A" * 100_000,
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUv////////////8=", "http://[::1", "https://example.com/" + "a" * 50_000,
    "data:image/jpeg;base64,/9j/" + "/9j/" * 20_000, "data:image/webp;base64,UklGRv////9XRUJQVlA4WAoAAAA",
]  # fmt: skip


@pytest.mark.parametrize("url", PICTURES)
def test_a_picture_that_is_none_is_bounded(proxy: Proxy, provider: SimulatedProvider, url: str) -> None:
    content = [{"type": "image_url", "image_url": {"url": url, "detail": "high"}}]
    started = time.perf_counter()
    answer = proxy.ask(messages=[{"role": "user", "content": content}], headers={"x-farthing-dry-run": "true"})
    assert time.perf_counter() - started < SOON_S
    assert answer.status_code == 200
    assert 0 < answer.json()["facts"]["input_tokens"] < 100_000


HOSTILE = {
    "one letter": "a" * 1_000_000,
    "blanks": " " * 1_000_000,
    "line ends": "\n" * 1_000_000,
    "digits": "1" * 1_000_000,
    "punctuation": "!?" * 500_000,
    "emoji": "👩‍👩‍👧‍👦" * 40_000,
    "accents": "e" + "\u0301" * 500_000,
    "no spaces": "lorem" * 200_000,
    "chinese": "的" * 500_000,
    "capitals": "aA" * 500_000,
    "nul": "\x00" * 500_000,
    "private use": "\U000f0000" * 200_000,
    "apostrophes": "'s" * 500_000,
    "special tokens": "<|endoftext|>" * 80_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_is_counted_soon_and_others_are_served_meanwhile(
    proxy: Proxy, provider: SimulatedProvider, text: str
) -> None:
    raw = json.dumps({"model": "auto", "messages": [{"role": "user", "content": text}]}, ensure_ascii=False)
    slowest_s = 0.0
    done = threading.Event()

    def watch() -> None:
        nonlocal slowest_s
        with httpx.Client(base_url=proxy.url, trust_env=False, verify=False) as client:
            while not done.is_set():
                started = time.perf_counter()
                client.get("/health/live")
                slowest_s = max(slowest_s, time.perf_counter() - started)

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.perf_counter()
    answer = proxy.send(raw.encode(), headers={"x-farthing-dry-run": "true"})
    took_s = time.perf_counter() - started
    done.set()
    watcher.join()
    assert took_s < SOON_S
    assert slowest_s < 0.5
    counted = answer.json()["facts"]["input_tokens"] if answer.status_code == 200 else None
    assert answer.status_code in (200, 400), answer.text
    assert counted is None or 0 < counted <= len(text.encode()) + 100


def test_a_text_longer_than_every_model_is_refused_as_too_long(proxy: Proxy, provider: SimulatedProvider) -> None:
    error = error_of(proxy.ask("word " * 200_000), 400, "context_length_exceeded")
    assert error["param"] == "messages"
    assert "128,000" in error["message"]
    assert not provider.calls
