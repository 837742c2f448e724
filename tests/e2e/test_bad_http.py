"""Callers who send nonsense around a body: sizes, slowness, paths and headers, in bounded time and memory."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from proxy import Calls, Proxy, ServeProcess, running_proxy

from e2e.conftest import files_for
from e2e.refusals import body, error_of
from router.providers.simulated import SimulatedProvider

LARGEST_BYTES = 300_000
BODY_WITHIN_S = 0.6


@pytest.fixture(scope="module")
def strict(shared_provider: SimulatedProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy that takes small bodies and waits for them briefly."""
    limits = {"largest_body_bytes": LARGEST_BYTES, "body_within_s": BODY_WITHIN_S}
    with running_proxy(tmp_path_factory.mktemp("strict"), files_for(shared_provider), settings=limits) as proxy:
        yield proxy


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
