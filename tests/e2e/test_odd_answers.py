"""Answers and requests that are odd but happen: each is charged for what it was, once, and no secret gets out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from proxy import Proxy, events, eventually, running_proxy, said
from redis_server import running_redis

from e2e.upstream import DONE, Upstream, chunk, running_upstream, usage_event
from router.tokens import Counter, rules_for

MODELS = """
models:
  cheap:
    target: openai/gpt-4o-mini
    base_url: {url}
    api_key: ${{ODD_API_KEY}}
    retries: 0
  dear: {{target: openai/gpt-4o, base_url: "{url}", retries: 0}}
  foreign:
    target: openai/deepseek-chat
    base_url: {url}
    price: {{input_usd_per_mtok: 0.15, output_usd_per_mtok: 0.60}}
"""
BUFFERED = "task: buffered\nroute: [{use: cheap, verify: {min_chars: 1, buffer: true}}]\n"
EITHER = "task: either\nroute: [{use: [cheap, dear], verify: {min_chars: 1}}]\n"
FOREIGN = "task: foreign\nbudget: {per_day_usd: 1000}\nroute: [{use: foreign}]\n"
GRADED = "task: graded\nroute: [{use: cheap, verify: {judge: {model: dear, question: Good?}}}]\n"
CHECKED = "task: checked\nbaseline: dear\nroute: [{use: cheap, verify: {json: true, escalate_to: dear}}]\n"
DEFAULT = "task: default\nbaseline: dear\nbudget: {per_day_usd: 1000}\nroute: [{use: cheap}]\n"
KEY = "sk-odd-0123456789"
USAGE = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}
IN, OUT = 150, 600
"""nUSD a token of gpt-4o-mini."""
DEAR_IN, DEAR_OUT = 2_500, 10_000
"""Of gpt-4o."""


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with running_upstream() as running:
        yield running


@pytest.fixture(scope="module")
def proxy(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with running(upstream, tmp_path_factory.mktemp("odd")) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def redis_proxy(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with (
        running_redis() as redis,
        running(upstream, tmp_path_factory.mktemp("odd"), {"budgets_url": redis.url}) as proxy,
    ):
        yield proxy


@contextmanager
def running(upstream: Upstream, folder: Path, settings: dict[str, str] | None = None) -> Iterator[Proxy]:
    files = {"models": MODELS.format(url=upstream.base_url), "default": DEFAULT, "checked": CHECKED, "graded": GRADED}
    files |= {"buffered": BUFFERED, "either": EITHER, "foreign": FOREIGN}
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ODD_API_KEY", KEY)
        with running_proxy(folder, files, settings=settings) as proxy:
            yield proxy


def completion(message: dict[str, object], usage: dict[str, int] | None = USAGE) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
    return json.dumps({"object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}).encode()


def test_two_limits_of_different_size_both_become_the_smaller(proxy: Proxy, upstream: Upstream) -> None:
    upstream.whole(completion({"content": "Hello"}))
    assert proxy.ask(max_tokens=1, max_completion_tokens=15_000).status_code == 200
    sent = json.loads(upstream.bodies[-1])
    assert sent["max_tokens"] == sent["max_completion_tokens"] == 1


def test_an_answer_nested_too_deeply_to_be_read_is_charged_and_asked_for_elsewhere(
    proxy: Proxy, upstream: Upstream
) -> None:
    upstream.whole(completion({"content": "[" * 5_000}))
    upstream.whole(completion({"content": "{}"}))
    answer = proxy.ask(model="task:checked")
    row = proxy.row_of(answer)
    assert (answer.status_code, row["outcome"], row["routed_model"]) == (200, "answered", "dear")
    assert [attempt["reason"] for attempt in row["attempts"]] == ["check_json", "answered"]
    assert row["overhead_nusd"] == 12 * IN + 5 * OUT


def no_choice() -> bytes:
    return json.dumps({"object": "chat.completion", "model": "m", "choices": [], "usage": USAGE}).encode()


def test_an_answer_without_a_choice_fails_its_check_and_is_charged_as_reported(
    proxy: Proxy, upstream: Upstream
) -> None:
    upstream.whole(no_choice())
    upstream.whole(completion({"content": "{}"}))
    answer = proxy.ask(model="task:checked")
    row = proxy.row_of(answer)
    assert (answer.status_code, row["outcome"], row["routed_model"]) == (200, "answered", "dear")
    assert answer.headers["x-farthing-verified"] == "escalated"
    assert [attempt["reason"] for attempt in row["attempts"]] == ["check_empty", "answered"]
    assert (row["overhead_nusd"], row["certainty"]) == (12 * IN + 5 * OUT, "reported")


def test_an_answer_without_a_choice_goes_to_the_next_candidate_where_nobody_is_escalated_to(
    proxy: Proxy, upstream: Upstream
) -> None:
    upstream.whole(no_choice())
    upstream.whole(completion({"content": "{}"}))
    answer = proxy.ask(model="task:either")
    upstream.answers.clear()
    assert (answer.status_code, answer.headers["x-farthing-model"]) == (200, "dear")
    assert answer.headers["x-farthing-verified"] == "passed"


@pytest.mark.parametrize(
    ("task", "paid_nusd"),
    [
        ("checked", 12 * (IN + DEAR_IN) + 5 * (OUT + DEAR_OUT)),
        ("buffered", 12 * IN + 5 * OUT),
        ("default", 12 * IN + 5 * OUT),
    ],
)
def test_an_answer_without_a_choice_is_given_to_nobody_and_charged_as_reported(
    proxy: Proxy, upstream: Upstream, task: str, paid_nusd: int
) -> None:
    upstream.whole(no_choice())
    upstream.whole(no_choice())
    answer = proxy.ask(model=f"task:{task}")
    upstream.answers.clear()
    row = proxy.row_of(answer)
    assert (answer.status_code, row["outcome"]) == (502, "failed")
    assert "choice" in answer.json()["error"]["message"]
    assert (row["charged_nusd"], row["overhead_nusd"], row["certainty"]) == (paid_nusd, paid_nusd, "reported")


@pytest.mark.parametrize("content", [None, "", "I will look for it."])
def test_a_tool_call_is_not_asked_for_again_because_it_is_no_json(
    proxy: Proxy, upstream: Upstream, content: str | None
) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "track", "arguments": "{}"}}
    upstream.whole(completion({"content": content, "tool_calls": [call]}))
    row = proxy.row_of(proxy.ask(model="task:checked"))
    assert (row["routed_model"], len(row["attempts"])) == ("cheap", 1)


def test_a_judge_sees_the_call_of_a_tool_beside_the_words(proxy: Proxy, upstream: Upstream) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "track", "arguments": "{}"}}
    upstream.whole(completion({"content": "I will look.", "tool_calls": [call]}))
    upstream.whole(completion({"content": "1"}))
    assert proxy.ask(model="task:graded").headers["x-farthing-verified"] == "passed"
    asked = json.loads(upstream.bodies[-1])["messages"][-1]["content"]
    assert '"answer":{"text":"I will look.","calls":[{"name":"track","arguments":"{}"}]}' in asked


def test_where_the_second_model_fails_the_first_answer_is_told_as_it_was(proxy: Proxy, upstream: Upstream) -> None:
    upstream.whole(completion({"content": "no json"}))
    upstream.answers.append(b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    answer = proxy.ask(model="task:checked")
    row = proxy.row_of(answer)
    assert (answer.status_code, row["routed_model"], row["overhead_nusd"]) == (200, "cheap", 0)
    assert (row["input_tokens"], row["output_tokens"], row["charged_nusd"]) == (12, 5, 12 * IN + 5 * OUT)
    assert row["baseline_nusd"] > row["charged_nusd"]


def test_a_usage_of_nothing_is_counted_by_us(proxy: Proxy, upstream: Upstream) -> None:
    upstream.whole(completion({"content": "Hello there"}, {"prompt_tokens": 0, "completion_tokens": 0}))
    row = proxy.row_of(proxy.ask())
    assert (row["certainty"], row["output_tokens"]) == ("counted", 2)
    assert row["charged_nusd"] > 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("told_in", "told_out"), [(0, 5), (12, 0)])
def test_a_usage_that_leaves_out_what_was_read_or_written_is_counted_by_us(
    proxy: Proxy, upstream: Upstream, told_in: int, told_out: int, stream: bool
) -> None:
    usage = {"prompt_tokens": told_in, "completion_tokens": told_out}
    if stream:
        upstream.stream(told("Hello there", usage, finish="stop"), DONE)
    else:
        upstream.whole(completion({"content": "Hello there"}, usage))
    row = proxy.row_of(proxy.ask(stream=stream))
    assert (row["outcome"], row["certainty"], row["output_tokens"]) == ("answered", "counted", 2)
    assert row["charged_nusd"] == row["facts"]["input_tokens"] * IN + 2 * OUT


def test_an_answer_of_nothing_visible_is_charged_as_reported(proxy: Proxy, upstream: Upstream) -> None:
    upstream.whole(completion({"content": ""}, {"prompt_tokens": 12, "completion_tokens": 0}))
    row = proxy.row_of(proxy.ask())
    assert (row["certainty"], row["charged_nusd"]) == ("reported", 12 * IN)


@pytest.mark.parametrize("tokens", [10**9 + 1, 10**18, 10**30])
@pytest.mark.parametrize("member", ["prompt_tokens", "completion_tokens", "num_search_queries"])
@pytest.mark.parametrize("store", ["proxy", "redis_proxy"])
def test_a_usage_that_nobody_can_have_had_is_counted_by_us(
    store: str, upstream: Upstream, member: str, tokens: int, request: pytest.FixtureRequest
) -> None:
    proxy: Proxy = request.getfixturevalue(store)
    spent_nusd = proxy.metric_nusd("farthing_budget_spent_usd")
    upstream.whole(completion({"content": "Hello there"}, {**USAGE, member: tokens}))
    row = proxy.row_of(proxy.ask())
    assert (row["certainty"], row["output_tokens"]) == ("counted", 2)
    assert row["charged_nusd"] == row["facts"]["input_tokens"] * IN + 2 * OUT
    eventually(lambda: proxy.metric("farthing_unsettled_holds") == 0, "the settlement")
    assert proxy.metric_nusd("farthing_budget_spent_usd") - spent_nusd == row["charged_nusd"]
    assert proxy.metric("farthing_budget_held_usd") == 0


@pytest.mark.parametrize(
    "message",
    [
        {"content": None, "reasoning": "Hello there"},
        {"content": None, "tool_calls": [{"type": "custom", "custom": {"name": "", "input": "Hello there"}}]},
    ],
)
def test_text_under_other_names_is_counted_too(proxy: Proxy, upstream: Upstream, message: dict[str, object]) -> None:
    upstream.whole(completion(message, None))
    assert proxy.row_of(proxy.ask())["output_tokens"] == 2


@pytest.mark.parametrize("said", [f"Incorrect API key provided: {KEY}", "x" * 490 + KEY])
def test_an_error_inside_a_200_tells_no_key(proxy: Proxy, upstream: Upstream, said: str) -> None:
    upstream.whole(json.dumps({"error": {"message": said}}).encode())
    answer = proxy.ask()
    assert answer.status_code == 502
    assert KEY[:8] not in answer.text


def told(text: str, usage: dict[str, int] | None = None, finish: str | None = None, index: object = 0) -> bytes:
    """Return an event of a stream that may bear a usage beside its text."""
    choices = [{"index": index, "delta": {"content": text}, "finish_reason": finish}]
    event = {"object": "chat.completion.chunk", "model": "m", "choices": choices, "usage": usage}
    return b"data: " + json.dumps(event).encode() + b"\n\n"


EARLY = {"prompt_tokens": 12, "completion_tokens": 1}


@pytest.mark.parametrize(
    ("events", "outcome", "certainty", "output_tokens"),
    [
        ([told("one", EARLY), told(" two three four")], "failed", "counted", 4),
        ([told("one", EARLY), told(" two three four", finish="stop"), DONE], "answered", "counted", 4),
        ([told("one", EARLY), told(" two", {**EARLY, "completion_tokens": 2})], "failed", "reported", 2),
        ([told("one", EARLY), told("", finish="stop"), DONE], "answered", "reported", 1),
        ([told("one two", finish="stop"), told("", EARLY), DONE], "answered", "reported", 1),
    ],
    ids=["broken off", "whole", "kept up to date", "nothing after it", "at the end"],
)
def test_a_usage_tells_of_no_text_that_came_after_it(
    proxy: Proxy, upstream: Upstream, events: list[bytes], outcome: str, certainty: str, output_tokens: int
) -> None:
    upstream.stream(*events)
    row = proxy.row_of(proxy.ask(stream=True))
    assert (row["outcome"], row["certainty"], row["output_tokens"]) == (outcome, certainty, output_tokens)


@pytest.mark.parametrize("task", ["default", "buffered"])
@pytest.mark.parametrize("between", [b"", b": " + b"x" * 1_000_000 + b"\n\n"], ids=["in one read", "apart"])
@pytest.mark.parametrize(
    ("early", "late", "certainty"),
    [
        ([told("one", EARLY)], told(" two three four", finish="stop"), "counted"),
        ([usage_event(12, 1), told("one")], told(" two three four", finish="stop"), "counted"),
        ([usage_event(12, 1)], told("one two three four", {**EARLY, "completion_tokens": 4}, "stop"), "reported"),
    ],
    ids=["beside its text", "alone", "alone and beside its text later"],
)
def test_callers_are_told_the_usage_that_is_charged_wherever_it_came(
    proxy: Proxy, upstream: Upstream, task: str, between: bytes, early: list[bytes], late: bytes, certainty: str
) -> None:
    upstream.stream(*early, between, late, DONE)
    answer = proxy.ask(model=f"task:{task}", stream=True, stream_options={"include_usage": True})
    row = proxy.row_of(answer)
    assert (row["certainty"], row["input_tokens"] > 0, row["output_tokens"]) == (certainty, True, 4)
    [alone] = [event["usage"] for event in events(answer.text) if not event["choices"]]
    assert alone["completion_tokens"] == 4


@pytest.mark.parametrize("task", ["default", "buffered"])
@pytest.mark.parametrize("index", ["0, 1, 2", "0, 2, 1"])
def test_choices_that_come_in_turns_and_keep_their_limit_are_neither_ended_nor_charged_for_more(
    proxy: Proxy, upstream: Upstream, task: str, index: str
) -> None:
    sentences = ("Interdisciplinary communication. " * 9, "Unquestionably straightforward. " * 9, "")
    tokens = [Counter().count_text(sentence, rules_for("openai", "gpt-4o-mini")) for sentence in sentences]
    length = max(map(len, sentences))
    pieces = [
        told(sentence[at : at + 5], index=place)
        for at in range(0, length, 5)
        for sentence, place in zip(sentences, json.loads(f"[{index}]"), strict=True)
    ]
    upstream.stream(*pieces, *(told("", finish="stop", index=place) for place in range(3)), DONE)
    # What is held buys a token more than they come to, over all three.
    answer = proxy.ask(model=f"task:{task}", stream=True, n=3, max_tokens=sum(tokens) // 3 + 1)
    row = proxy.row_of(answer)
    assert (row["outcome"], row["certainty"], row["over_budget_nusd"]) == ("answered", "counted", 0)
    assert row["output_tokens"] == sum(tokens)


def test_short_choices_are_not_counted_as_one_word(proxy: Proxy, upstream: Upstream) -> None:
    choices = [{"index": at, "message": {"content": "A"}, "finish_reason": "stop"} for at in range(16)]
    upstream.whole(json.dumps({"model": "gpt-4o-mini", "choices": choices}).encode())
    assert proxy.row_of(proxy.ask(n=16))["output_tokens"] == 16


@pytest.mark.parametrize("index", [None, "1", 1.5, [], {}])
def test_a_choice_whose_index_is_no_number_is_passed_on_and_counted(
    proxy: Proxy, upstream: Upstream, index: object
) -> None:
    upstream.stream(told("one", index=index), told(" two three", finish="stop", index=index), DONE)
    row = proxy.row_of(proxy.ask(stream=True))
    assert (row["outcome"], row["output_tokens"]) == ("answered", 3)


@pytest.mark.parametrize("reports", [True, False])
def test_a_stream_in_chinese_that_kept_its_limit_is_neither_ended_nor_charged_for_more(
    proxy: Proxy, upstream: Upstream, reports: bool
) -> None:
    sentence = "随着计算能力的提升和数据的积累、机器学习模型已经能够在语言理解和图像识别等领域取得显著的进展。"
    # DeepSeek makes 0.6 tokens of a character ("Token & Token Usage" in its API's docs, 2026).
    tokens = round(0.6 * len(sentence))
    pieces = [chunk(json.dumps({"content": sentence[at : at + 2]})) for at in range(0, len(sentence), 2)]
    usage = (usage_event(12, tokens),) if reports else ()
    upstream.stream(*pieces, chunk(finish='"length"'), *usage, DONE)
    answer = proxy.ask(model="task:foreign", stream=True, max_tokens=tokens)
    row = proxy.row_of(answer)
    assert (row["outcome"], said(answer.text)) == ("answered", sentence)
    assert (row["output_tokens"], row["over_budget_nusd"]) == (tokens, 0)
