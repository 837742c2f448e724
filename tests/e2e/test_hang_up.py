"""When a caller hangs up, the provider is hung up on at once, what was used is charged, and nothing stays held."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from proxy import WITHIN_S, Proxy, Row, eventually, ledger_rows, running_proxy

from e2e.conftest import MODELS
from e2e.upstream import DONE, Upstream, chunk, running_upstream
from router.providers.simulated import SimulatedProvider
from router.providers.simulated.server import ReceivedCall
from router.web.http import BoundedHttp

AT_ONCE_S = 0.1
IN, OUT = 150, 600
SLOW = """
  slow:
    target: openai/gpt-4o-mini
    base_url: {url}
"""


@pytest.fixture(scope="module")
def more_files(shared_provider: SimulatedProvider) -> dict[str, str]:
    return {
        "models": (MODELS + SLOW).format(url=shared_provider.base_url),
        "checked": "task: checked\nbudget: {per_day_usd: 100}\n"
        "route: [{use: slow, verify: {agree: {with: dear}, buffer: true, escalate_to: dear}}]\n",
        "graded": "task: graded\nbudget: {per_day_usd: 100}\n"
        "route: [{use: slow, verify: {judge: {model: dear, question: Good?}, buffer: true, escalate_to: dear}}]\n",
        "watched": "task: watched\nbudget: {per_day_usd: 100}\nroute: [{use: [slow, dear]}]\n",
    }


def request(text: str = "Where is my parcel?", *, task: str = "watched", **members: Any) -> bytes:
    """Return a request as it is on the wire."""
    body = {"model": "auto", "messages": [{"role": "user", "content": text}], **members}
    content = json.dumps(body).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        f"x-farthing-task: {task}\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


@contextmanager
def caller(proxy: Proxy, **members: Any) -> Iterator[socket.socket]:
    """Send a request on a socket of its own, which is closed at the end whatever came."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as connection:
        connection.sendall(request(**members))
        yield connection


def received(provider: SimulatedProvider) -> ReceivedCall:
    eventually(lambda: provider.calls, "the provider's call")
    return provider.calls[-1]


def read_until(connection: socket.socket, marks: bytes, times: int) -> bytes:
    got = b""
    while got.count(marks) < times:
        piece = connection.recv(65_536)
        assert piece, got
        got += piece
    return got


def hung_up_s(call: ReceivedCall, since: float) -> float:
    """Return how long after `since` the provider saw its caller go."""
    return eventually(lambda: call.disconnected_at, "the end of the provider's connection") - since


def request_id(head: bytes) -> str:
    return next(
        line.split(b": ")[1].decode() for line in head.split(b"\r\n") if line.startswith(b"x-farthing-request-id")
    )


def only_row(proxy: Proxy, before: set[str]) -> Row:
    """Return the one row that was added since, settled."""

    def added() -> Row | None:
        rows = [row for row in proxy.rows() if row["id"] not in before]
        return rows[0] if rows and rows[0]["outcome"] != "held" else None

    return eventually(added, "a settled row")


def ids(proxy: Proxy) -> set[str]:
    return {row["id"] for row in proxy.rows()}


def held_nusd(proxy: Proxy) -> int:
    return proxy.metric_nusd("farthing_budget_held_usd", scope="task")


def test_a_caller_gone_while_two_answers_are_under_way_is_charged_for_both(
    proxy: Proxy, provider: SimulatedProvider
) -> None:
    provider.faults.always("drip=0.02", model="gpt-4o-mini")
    provider.faults.always("silence", model="gpt-4o")
    before = ids(proxy)
    with caller(proxy, task="checked", stream=True, max_tokens=2_000):
        eventually(lambda: len(provider.calls) == 2, "both calls")
        slow = next(call for call in provider.calls if call.body["model"] == "gpt-4o-mini")
        eventually(lambda: slow.chunks_sent > 8, "some of the answer")
        gone_at = time.perf_counter()
    assert all(hung_up_s(call, gone_at) < AT_ONCE_S for call in provider.calls)
    row = only_row(proxy, before)
    charged = {attempt["model"]: attempt["charged_nusd"] for attempt in row["attempts"]}
    tokens = {attempt["model"]: attempt["output_tokens"] for attempt in row["attempts"]}
    assert (row["outcome"], row["certainty"]) == ("cancelled", "counted")
    assert (tokens["dear"], 6 <= tokens["slow"] <= 20) == (0, True)
    assert row["charged_nusd"] == sum(charged.values())
    assert charged["slow"] == row["facts"]["input_tokens"] * IN + tokens["slow"] * OUT
    assert held_nusd(proxy) == 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_caller_gone_while_the_answer_is_graded_leaves_the_tokens_of_the_model_that_answered(
    proxy: Proxy, provider: SimulatedProvider, *, stream: bool
) -> None:
    provider.faults.always("silence", model="gpt-4o")
    before = ids(proxy)
    with caller(proxy, task="graded", stream=stream, max_tokens=20):
        eventually(lambda: len(provider.calls) == 2, "both calls")
    row = only_row(proxy, before)
    answer, grade = row["attempts"]
    assert (row["outcome"], row["routed_model"]) == ("cancelled", "slow")
    assert [attempt["model"] for attempt in row["attempts"]] == ["slow", "dear"]
    assert [row["input_tokens"], row["output_tokens"]] == [answer["input_tokens"], answer["output_tokens"]]
    assert row["charged_nusd"] == row["overhead_nusd"] == answer["charged_nusd"] + grade["charged_nusd"]
    assert answer["output_tokens"] > 0


def test_a_caller_gone_in_mid_stream_is_charged_for_the_input_and_what_had_arrived(
    proxy: Proxy, provider: SimulatedProvider
) -> None:
    provider.faults.always("drip=0.02")
    with caller(proxy, stream=True, max_tokens=2_000) as connection:
        got = read_until(connection, b'"content"', 8)
        assert held_nusd(proxy) > 0
        gone_at = time.perf_counter()
    assert hung_up_s(provider.calls[-1], gone_at) < AT_ONCE_S
    row = proxy.row(request_id(got))
    assert (row["outcome"], row["certainty"], row["routed_model"]) == ("cancelled", "counted", "slow")
    assert row["charged_nusd"] == row["input_tokens"] * IN + row["output_tokens"] * OUT
    assert row["input_tokens"] == row["facts"]["input_tokens"]
    assert 6 <= row["output_tokens"] <= 20
    assert [(attempt["reason"], attempt["status"]) for attempt in row["attempts"]] == [("cancelled", 200)]
    assert held_nusd(proxy) == 0


def test_a_caller_gone_while_a_whole_answer_is_made_is_charged_for_the_input(
    proxy: Proxy, provider: SimulatedProvider
) -> None:
    provider.faults.always("silence")
    before = ids(proxy)
    with caller(proxy):
        call = received(provider)
        gone_at = time.perf_counter()
    assert hung_up_s(call, gone_at) < AT_ONCE_S
    row = only_row(proxy, before)
    assert (row["outcome"], row["certainty"]) == ("cancelled", "counted")
    assert row["charged_nusd"] == row["overhead_nusd"] == row["facts"]["input_tokens"] * IN
    assert row["attempts"][0]["status"] is None
    assert held_nusd(proxy) == 0


@pytest.mark.parametrize("fault", ["silence", "silence early-headers"])
def test_a_caller_gone_before_the_first_event_of_a_stream(
    proxy: Proxy, provider: SimulatedProvider, fault: str
) -> None:
    provider.faults.always(fault)
    before = ids(proxy)
    with caller(proxy, stream=True):
        call = received(provider)
        gone_at = time.perf_counter()
    assert hung_up_s(call, gone_at) < AT_ONCE_S
    row = only_row(proxy, before)
    assert (row["outcome"], row["charged_nusd"]) == ("cancelled", row["facts"]["input_tokens"] * IN)
    assert held_nusd(proxy) == 0


def test_a_caller_gone_in_a_silence_of_the_stream(proxy: Proxy, provider: SimulatedProvider) -> None:
    provider.faults.always("silence=5")
    with caller(proxy, stream=True) as connection:
        got = read_until(connection, b'"content"', 5)
        gone_at = time.perf_counter()
    assert hung_up_s(provider.calls[-1], gone_at) < AT_ONCE_S
    row = proxy.row(request_id(got))
    assert (row["outcome"], row["output_tokens"]) == ("cancelled", 4)


def test_a_caller_gone_while_another_try_is_waited_for_pays_nothing(proxy: Proxy, provider: SimulatedProvider) -> None:
    provider.faults.always("status=429 retry-after=5")
    before = ids(proxy)
    with caller(proxy):
        call = received(provider)
        eventually(call.ended.is_set, "the end of the first try")
        # Nothing outside shows that the proxy has begun to wait; it waits for 5 s.
        time.sleep(0.05)
    row = only_row(proxy, before)
    assert (row["outcome"], row["charged_nusd"]) == ("cancelled", 0)
    assert [attempt["reason"] for attempt in row["attempts"]] == ["overloaded"]
    assert held_nusd(proxy) == 0
    assert len(provider.calls) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_caller_gone_who_had_sent_further_requests_pays_for_the_first_alone(
    proxy: Proxy, provider: SimulatedProvider, stream: bool
) -> None:
    provider.faults.always("silence=5" if stream else "silence")
    before = ids(proxy)
    with caller(proxy, stream=stream) as connection:
        call = received(provider)
        connection.sendall(request(stream=stream) * 3)
        if stream:
            read_until(connection, b'"content"', 5)
        # Nothing outside shows that the others have been read.
        time.sleep(0.05)
        gone_at = time.perf_counter()
    assert hung_up_s(call, gone_at) < AT_ONCE_S
    assert only_row(proxy, before)["outcome"] == "cancelled"
    assert held_nusd(proxy) == 0
    assert len(provider.calls) == 1
    assert eventually(lambda: proxy.metric("farthing_inflight_requests") == 1, "no request left but the scrape")


def test_a_caller_gone_who_sent_a_long_body_at_once(proxy: Proxy, provider: SimulatedProvider) -> None:
    provider.faults.always("silence")
    before = ids(proxy)
    with caller(proxy, text="word " * 60_000):
        call = received(provider)
        gone_at = time.perf_counter()
    assert hung_up_s(call, gone_at) < AT_ONCE_S
    assert only_row(proxy, before)["outcome"] == "cancelled"


def test_a_caller_who_closes_one_half_after_sending_still_counts_as_gone(
    proxy: Proxy, provider: SimulatedProvider
) -> None:
    provider.faults.always("silence")
    with caller(proxy) as connection:
        call = received(provider)
        connection.shutdown(socket.SHUT_WR)
        assert hung_up_s(call, time.perf_counter()) < 1


def test_a_caller_gone_in_mid_request_costs_nothing(proxy: Proxy, provider: SimulatedProvider) -> None:
    before = ids(proxy)
    with socket.create_connection(("127.0.0.1", proxy.port)) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{")
    assert proxy.ask(max_tokens=5).status_code == 200
    assert len(ids(proxy) - before) == 1
    assert eventually(lambda: proxy.metric("farthing_inflight_requests") == 1, "no request left but the scrape")


def test_many_callers_gone_at_once_leave_nothing_open(proxy: Proxy, provider: SimulatedProvider) -> None:
    provider.faults.always("silence=4")
    before = ids(proxy)
    connections = []
    for _ in range(30):
        with_it = caller(proxy, stream=True)
        connections.append((with_it, with_it.__enter__()))
    for _, connection in connections:
        read_until(connection, b'"content"', 3)
    gone_at = time.perf_counter()
    for with_it, _ in connections:
        with_it.__exit__(None, None, None)
    for call in provider.calls:
        assert hung_up_s(call, gone_at) < 5 * AT_ONCE_S

    def settled() -> list[Row] | None:
        rows = [row for row in proxy.rows() if row["id"] not in before]
        return rows if len(rows) == 30 and all(row["outcome"] == "cancelled" for row in rows) else None

    rows = eventually(settled, "thirty settled rows")
    assert held_nusd(proxy) == 0
    assert all(row["charged_nusd"] > 0 for row in rows)
    assert proxy.metric("farthing_requests_total", outcome="cancelled") >= 30
    everything = proxy.rows()
    assert proxy.metric_nusd("farthing_cost_usd_total") == sum(row["charged_nusd"] for row in everything)


class Impatient(BoundedHttp):
    read_within_s = 0.5


EVENT = chunk(json.dumps({"content": "word " * 50_000}))


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Proxy, Upstream]]:
    """A proxy that soon gives up on who does not read, and an upstream with many answers of 12 MB."""
    with running_upstream() as upstream:
        files = {
            "models": f"models: {{big: {{target: openai/gpt-4o-mini, base_url: '{upstream.base_url}'}}}}\n",
            # A budget that refuses would end answers so long.
            "default": "task: default\nbudget: {per_day_usd: 100, on_exceeded: warn}\nroute: [{use: big}]\n",
        }
        upstream.stream(*[EVENT] * 48, chunk(finish='"stop"'), DONE)
        with running_proxy(tmp_path_factory.mktemp("impatient"), files, http=Impatient) as proxy:
            yield proxy, upstream


@contextmanager
def narrow_caller(proxy: Proxy) -> Iterator[socket.socket]:
    """Ask for a stream over a socket that keeps little of it."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(WITHIN_S)
        connection.connect(("127.0.0.1", proxy.port))
        connection.sendall(request(stream=True).replace(b"watched", b"default"))
        yield connection


def test_a_caller_who_reads_nothing_any_more_is_gone(impatient: tuple[Proxy, Upstream]) -> None:
    proxy, _ = impatient
    with narrow_caller(proxy):
        row = eventually(lambda: [row for row in ledger_rows(proxy.ledger) if row["outcome"] != "held"], "the row")[0]
    assert (row["outcome"], row["certainty"]) == ("cancelled", "counted")
    assert row["output_tokens"] < 48 * 50_000
    assert held_nusd(proxy) == 0


def test_a_caller_who_reads_slowly_is_not(impatient: tuple[Proxy, Upstream]) -> None:
    proxy, upstream = impatient
    upstream.stream(*[EVENT] * 48, chunk(finish='"stop"'), DONE)
    got = 0
    end = b""
    with narrow_caller(proxy) as connection:
        began = time.perf_counter()
        while DONE not in end:
            # It takes what is there ten times in the time after which it would be gone, for longer than that.
            if time.perf_counter() - began < 3 * Impatient.read_within_s:
                time.sleep(Impatient.read_within_s / 10)
            piece = connection.recv(16_384)
            assert piece, got
            got += len(piece)
            end = end[-100:] + piece
    assert got > 48 * len(EVENT)
