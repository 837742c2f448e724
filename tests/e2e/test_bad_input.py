"""Callers who send nonsense, on purpose or not: a documented 4xx in bounded time and memory, and nothing charged."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from proxy import Calls, Proxy, ServeProcess, running_proxy

from e2e.conftest import files_for
from router.providers.simulated import SimulatedProvider

SOON_S = 3.0
"""On a noisy machine; most take a hundredth of it."""
LARGEST_BYTES = 300_000
BODY_WITHIN_S = 0.6
HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def strict(shared_provider: SimulatedProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy that takes small bodies and waits for them briefly."""
    limits = {"largest_body_bytes": LARGEST_BYTES, "body_within_s": BODY_WITHIN_S}
    with running_proxy(tmp_path_factory.mktemp("strict"), files_for(shared_provider), settings=limits) as proxy:
        yield proxy


def error_of(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Return an error that is documented, of this status and code."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json"), answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code, error
    assert "Traceback" not in error["message"]
    assert len(error["message"]) < 3_000
    assert answer.headers["x-should-retry"] == "false"
    assert answer.headers["x-request-id"] == answer.headers["x-farthing-request-id"]
    return error


def body(**members: Any) -> bytes:
    return json.dumps({"model": "auto", "messages": HELLO, **members}).encode()


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


# -- sizes and slowness -----------------------------------------------------------------------------------------------


def test_a_body_at_the_limit_is_read_and_one_byte_more_is_not(strict: Proxy, provider: SimulatedProvider) -> None:
    empty = len(body(padding=""))
    padded = body(padding="x" * (LARGEST_BYTES - empty))
    assert len(padded) == LARGEST_BYTES
    assert strict.send(padded).status_code == 200
    error = error_of(strict.send(padded + b" "), 413, "request_too_large")
    assert str(LARGEST_BYTES) in error["message"]


def test_a_body_that_does_not_tell_its_length_is_refused_at_the_limit(
    strict: Proxy, provider: SimulatedProvider
) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(LARGEST_BYTES // 100):
            yield b" " * 10_000

    answer = strict.http.post("/v1/chat/completions", content=endless())
    error_of(answer, 413, "request_too_large")
    assert strict.ask(max_tokens=5).status_code == 200


def raw_exchange(proxy: Calls, *pieces: bytes, pause_s: float = 0.0, timeout_s: float = 5.0) -> bytes:
    """Send pieces on a socket of its own and return all that comes back until the other end closes it."""
    got = b""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=timeout_s) as connection:
        with suppress(ConnectionError):
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause_s)
        try:
            while read := connection.recv(65_536):
                got += read
        except (ConnectionError, TimeoutError):
            pass
    return got


HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"


@pytest.mark.parametrize("pieces", [[b'{"model"'], [b"{"] + [b" "] * 30], ids=["stalled", "dripping"])
def test_a_body_that_comes_too_slowly_is_refused(
    strict: Proxy, provider: SimulatedProvider, pieces: list[bytes]
) -> None:
    started = time.perf_counter()
    head = HEAD + b"content-length: 1000\r\n\r\n"
    got = raw_exchange(strict, head, *pieces, pause_s=0.05)
    assert BODY_WITHIN_S * 0.9 < time.perf_counter() - started < BODY_WITHIN_S + 2.5
    assert got.startswith(b"HTTP/1.1 400")
    assert b'"code":"invalid_request"' in got
    assert b"did not arrive" in got


@pytest.mark.parametrize("length", ["99999999999999999999999999", "300001"])
def test_a_body_that_says_it_is_too_long_is_refused_unread(
    strict: Proxy, provider: SimulatedProvider, length: str
) -> None:
    got = raw_exchange(strict, HEAD + f"content-length: {length}\r\n\r\n".encode(), timeout_s=1)
    assert got.startswith((b"HTTP/1.1 413", b"HTTP/1.1 400"))


def test_a_compressed_body_is_refused_by_name(proxy: Proxy, provider: SimulatedProvider) -> None:
    answer = proxy.send(b"\x1f\x8b", headers={"content-encoding": "gzip"})
    assert error_of(answer, 400, "invalid_request")["param"] == "content-encoding"


# -- paths, methods, headers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/chat", "/v1/chat/completions/", "/v1/nope", "/" + "a" * 5_000, "/%00"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unknown_path_is_a_404_that_says_what_there_is(
    proxy: Proxy, provider: SimulatedProvider, path: str, method: str
) -> None:
    error = error_of(proxy.http.request(method, path), 404, "not_found")
    assert "/v1/chat/completions" in error["message"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/chat/completions"),
        ("PUT", "/v1/chat/completions"),
        ("DELETE", "/v1/models"),
        ("POST", "/metrics"),
        ("BREW", "/v1/models"),
    ],
)
def test_a_wrong_method_is_told_the_right_one(
    proxy: Proxy, provider: SimulatedProvider, method: str, path: str
) -> None:
    answer = proxy.http.request(method, path)
    if method == "BREW":
        assert answer.status_code == 400
        return
    assert ("POST" if "chat" in path else "GET") in error_of(answer, 404, "not_found")["message"]


AMOUNTS = ["", "free", "$1", "-0.01", "nan", "inf", "1e400", "0x10", "1,5", "1 000", "\uff19", "1_0", "9" * 500, "--1"]


@pytest.mark.parametrize("amount", AMOUNTS)
def test_a_budget_header_with_junk_is_refused(proxy: Proxy, provider: SimulatedProvider, amount: str) -> None:
    answer = proxy.send(body(), headers={"x-farthing-budget-usd": amount.encode()})  # type: ignore[dict-item]  raw bytes
    error = error_of(answer, 400, "invalid_request")
    assert error["param"] == "x-farthing-budget-usd"
    assert not provider.calls


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("x-farthing-task", "no-such-task"),
        ("x-farthing-task", ""),
        ("x-farthing-task", "\u00e9" * 100),
        ("x-farthing-task", "a" * 20_000),
        ("x-farthing-task", "../../etc/passwd"),
        ("x-farthing-dry-run", "maybe"),
        ("x-farthing-dry-run", ""),
    ],
)
def test_another_header_with_junk_is_refused_by_name(
    proxy: Proxy, provider: SimulatedProvider, header: str, value: str
) -> None:
    answer = proxy.send(body(), headers={header: value.encode("latin-1")})  # type: ignore[dict-item]  raw bytes
    assert error_of(answer, 400, "invalid_request")["param"] == header
    assert not provider.calls


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("budget", "budget-usd"),
        ("dryrun", "dry-run"),
        ("Dry_Run", "dry-run"),
        ("tasks", "task"),
        ("budget-usd-", "budget-usd"),
    ],
)
def test_a_misspelt_header_is_refused_and_not_passed_over(
    proxy: Proxy, provider: SimulatedProvider, written: str, meant: str
) -> None:
    error = error_of(proxy.send(body(), headers={f"x-farthing-{written}": "true"}), 400, "invalid_request")
    assert error["message"] == f"There is no header x-farthing-{written.lower()}; it is called x-farthing-{meant}."
    assert not provider.calls


@pytest.mark.parametrize("name", ["request-id", "rule", "model", "estimate-usd", "cost-usd", "attempts", "of-ours"])
def test_other_headers_of_that_prefix_are_let_through(proxy: Proxy, name: str) -> None:
    # A proxy before this one may be a Farthing too, and policies look at headers that people make up.
    assert proxy.send(body(), headers={f"x-farthing-{name}": "1"}).status_code == 200


@pytest.mark.parametrize("value", [b"\xff\xfe", b"Bearer " + b"\xe9" * 50, b"Bearer " + b"k" * 30_000, b"Basic x", b""])
def test_a_junk_authorization_is_ignored_by_an_open_proxy(
    proxy: Proxy, provider: SimulatedProvider, value: bytes
) -> None:
    headers = {"authorization": value}
    assert proxy.send(body(max_tokens=3), headers=headers).status_code == 200  # type: ignore[arg-type]  raw bytes


def test_what_is_not_http_is_a_400(proxy: Proxy, provider: SimulatedProvider) -> None:
    for raw in (b"hello\r\n\r\n", b"\x16\x03\x01\x02\x00", HEAD + b"content-length: -1\r\n\r\n"):
        assert raw_exchange(proxy, raw, timeout_s=1).startswith(b"HTTP/1.1 400")


def test_headers_without_an_end_do_not_fill_the_memory(provider: SimulatedProvider, tmp_path: Path) -> None:
    def peak_mb() -> float:
        status = Path(f"/proc/{process.child.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024

    with ServeProcess(tmp_path, files_for(provider), "--largest-body-bytes", "1000000") as process:
        calls = process.ready()
        before_mb = peak_mb()
        started = time.perf_counter()
        one_line = HEAD + b"x-long: " + b"a" * 50_000_000
        many_lines = HEAD + b"".join(b"x-%d: %s\r\n" % (number, b"a" * 1_000) for number in range(40_000))
        for raw in (one_line, many_lines):
            got = raw_exchange(calls, raw, b"\r\n\r\n", timeout_s=5)
            assert got == b"" or got.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431"))
        raw_exchange(
            calls, HEAD + b"transfer-encoding: chunked\r\n\r\n", b"fffffff\r\n" + b" " * 50_000_000, timeout_s=0.5
        )
        assert time.perf_counter() - started < 15
        assert calls.ask(max_tokens=3).status_code == 200
        assert peak_mb() - before_mb < 25


# -- who may call -----------------------------------------------------------------------------------------------------

SEARCH_KEY, SUPPORT_KEY = "fk-search-1", "fk-support-1"


def digest(key: str) -> str:
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()


ACCOUNTS = f"""
accounts:
  search: {{keys: ["{digest("fk-old")}", "{digest(SEARCH_KEY)}"]}}
  support:
    keys: ["{digest(SUPPORT_KEY)}"]
    tasks: [fallback]
    budget: {{per_request_usd: 0.0001}}
"""


@pytest.fixture(scope="module")
def guarded(shared_provider: SimulatedProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy that knows its callers."""
    files = files_for(shared_provider, accounts=ACCOUNTS)
    folder = tmp_path_factory.mktemp("guarded")
    with running_proxy(folder, files, settings={"admin_key": "fk-admin"}) as proxy:
        yield proxy


@pytest.mark.parametrize(
    "headers",
    [{}, {"authorization": "Bearer wrong"}, {"authorization": "Bearer"}, {"authorization": SEARCH_KEY},
     {"authorization": f"Basic {SEARCH_KEY}"}, {"x-api-key": "wrong"},
     {"authorization": f"Bearer {digest(SEARCH_KEY)}"},
     {"authorization": "Bearer \u00e9"}, {"authorization": f"Bearer {SEARCH_KEY}x"}],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models"])
def test_without_a_known_key_nothing_is_served(
    guarded: Proxy, provider: SimulatedProvider, headers: dict[str, str], path: str
) -> None:
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    method = "POST" if "chat" in path else "GET"
    answer = guarded.http.request(method, path, content=body() if method == "POST" else None, headers=raw)  # type: ignore[arg-type]
    error = error_of(answer, 401, "invalid_api_key")
    assert not any(len(value) > 8 and value in error["message"] for value in headers.values())
    assert not provider.calls


@pytest.mark.parametrize("key", [SEARCH_KEY, "fk-old"])
@pytest.mark.parametrize("name", ["authorization", "x-api-key"])
def test_any_key_of_an_account_opens_it(guarded: Proxy, provider: SimulatedProvider, key: str, name: str) -> None:
    value = f"Bearer {key}" if name == "authorization" else key
    answer = guarded.ask(headers={name: value}, max_tokens=3)
    assert guarded.row_of(answer)["account"] == "search"
    assert key not in str(guarded.row_of(answer))


def test_an_account_may_use_its_own_tasks_only(guarded: Proxy, provider: SimulatedProvider) -> None:
    headers = {"authorization": f"Bearer {SUPPORT_KEY}"}
    error = error_of(guarded.ask(headers=headers), 403, "not_allowed")
    assert "fallback" in error["message"]
    assert guarded.ask(headers={**headers, "x-farthing-task": "fallback"}, max_tokens=3).status_code == 200
    names = [model["id"] for model in guarded.http.get("/v1/models", headers=headers).json()["data"]]
    assert "task:fallback" in names
    assert "task:default" not in names


def test_an_accounts_own_budget_binds_its_requests(guarded: Proxy, provider: SimulatedProvider) -> None:
    headers = {"authorization": f"Bearer {SUPPORT_KEY}", "x-farthing-task": "fallback"}
    answer = guarded.ask(headers=headers)
    assert provider.calls[-1].body["max_tokens"] * 600 <= 100_000
    assert guarded.row_of(answer)["held_nusd"] <= 100_000


@pytest.mark.parametrize("key", [None, "wrong", SEARCH_KEY])
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/admin/spend"), ("GET", "/admin/policies"), ("POST", "/admin/explain"), ("GET", "/admin/nope")],
)
def test_admin_is_shut_without_its_key(
    guarded: Proxy, proxy: Proxy, provider: SimulatedProvider, key: str | None, method: str, path: str
) -> None:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    error = error_of(guarded.http.request(method, path, headers=headers), 401, "invalid_api_key")
    assert error["message"].startswith("This is not the admin key" if key else "The admin key is needed here")
    error_of(proxy.http.request(method, path, headers=headers), 403, "not_allowed")


def test_admin_opens_with_its_key_and_refuses_nonsense(guarded: Proxy, provider: SimulatedProvider) -> None:
    headers = {"authorization": "Bearer fk-admin"}
    assert guarded.http.get("/admin/policies", headers=headers).json()["tasks"].keys() >= {"default", "fallback"}
    explained = guarded.http.post("/admin/explain", content=body(), headers=headers)
    assert explained.json()["model"] == "cheap"
    for raw in (b"", b"[]", body(n=0)):
        error_of(guarded.http.post("/admin/explain", content=raw, headers=headers), 400, "invalid_request")
    before_all_time = ("since=999999d", "since=999999w", "since=0001-01-01T00:00%2B10:00")
    for query in ("by=nonsense", "since=yesterdayish", "since=99999999d", *before_all_time):
        error_of(guarded.http.get(f"/admin/spend?{query}", headers=headers), 400, "invalid_request")
    assert guarded.http.get("/admin/spend?by=task,task&since=7d", headers=headers).status_code == 200


def test_an_open_proxy_refuses_every_address_but_this_machines(provider: SimulatedProvider, tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::"):
        with ServeProcess(tmp_path, files_for(provider), "--host", host) as process:
            with pytest.raises(RuntimeError) as caught:
                process.ready()
            assert process.child.wait(10) == 1
        assert f"{tmp_path / 'policies'}: there are no accounts" in str(caught.value)
        assert "farthing keys new" in str(caught.value)


def test_a_proxy_with_accounts_may_listen_everywhere(provider: SimulatedProvider, tmp_path: Path) -> None:
    with ServeProcess(tmp_path, files_for(provider, accounts=ACCOUNTS), "--host", "0.0.0.0") as process:
        calls = process.ready()
        there = Calls(f"http://127.0.0.1:{calls.port}", calls.ledger)
        assert there.ask().status_code == 401
        assert there.ask(headers={"x-api-key": SEARCH_KEY}, max_tokens=3).status_code == 200
        there.close()


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        ({"model": "gpt-9"}, 404, "model_not_found"),
        ({"model": "task:fallbac"}, 400, "invalid_request"),
        ({"model": "task:nothing"}, 400, "invalid_request"),
    ],
)
def test_who_may_use_some_tasks_is_told_of_those_alone(
    guarded: Proxy, asked: dict[str, Any], status: int, code: str
) -> None:
    answer = guarded.ask(**asked, headers={"authorization": f"Bearer {SUPPORT_KEY}"})
    told = error_of(answer, status, code)["message"]
    others = guarded.ask(**asked, headers={"authorization": f"Bearer {SEARCH_KEY}"}).json()["error"]["message"]
    assert "fallback" in told
    assert "default" in others.replace("by default", "")
    assert "default" not in told.replace("by default", "")
