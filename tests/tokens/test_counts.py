"""Token counts: equal to what OpenAI's API reported, never below it, and safe for any text."""

from __future__ import annotations

import base64
import json
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from math import ceil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.chat import ChatBody
from router.errors import InvalidRequest
from router.tokens import Counter, TokenRules, rules_for
from router.tokens.encoding import Encodings, count, utf8_length
from router.tokens.texts import Recent
from tokens.chats import CLAUDE, GPT_4, GPT_4O, chat, user

EXAMPLES = json.loads((Path(__file__).parents[1] / "data" / "token_examples.json").read_text(encoding="utf-8"))
"""Requests whose prompt tokens OpenAI's API reported in public, each with its source and date.

`slack` is by how much we may exceed that, where the form in which the model sees the request is not fully
known (parallel calls, arguments with spaces).
"""


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda each: f"{each['request']['model']}-{each['prompt_tokens']}")
def test_published_requests_count_as_the_api_reported(counter: Counter, example: dict[str, object]) -> None:
    request = ChatBody(json.dumps(example["request"]).encode()).chat
    counted = counter.count_input(request, rules_for("openai", request.model))
    reported = example["prompt_tokens"]
    assert reported <= counted <= reported + example["slack"], example["source"]


def test_at_least_sixty_published_requests_are_counted_exactly(counter: Counter) -> None:
    exact = [example for example in EXAMPLES if example["slack"] == 0]
    assert len(exact) >= 60
    assert {"gpt-3.5-turbo", "gpt-4o", "gpt-4o-mini", "gpt-4.1-mini", "gpt-5-mini", "o4-mini-2025-04-16"} <= {
        example["request"]["model"] for example in exact
    }


@pytest.mark.parametrize(
    ("provider", "model", "name"),
    [
        ("openai", "gpt-4o-2024-08-06", "gpt-4o"),
        ("openai", "ft:gpt-4o-mini-2024-07-18:acme::abc123", "gpt-4o-mini"),
        ("openai", "chatgpt-4o-latest", "gpt-4o"),
        ("azure", "prod-gpt-4o-eu", "gpt-4o"),
        ("azure", "gpt-35-turbo", "gpt-3.5"),
        ("azure", "gpt-41-mini", "gpt-4.1-mini"),
        ("openai", "gpt-4-1106-preview", "gpt-4"),
        ("openai", "gpt-4.1-2025-04-14", "gpt-4.1"),
        ("openai", "gpt-5.1", "gpt-5"),
        ("openai", "gpt-5.2-chat-latest", "gpt-5.2"),
        ("openai", "gpt-5.6-luna", "gpt"),
        ("openai", "o1-2024-12-17", "o1"),
        ("openai", "o4-mini", "o4-mini"),
        ("groq", "openai/gpt-oss-120b", "gpt-oss"),
        ("openrouter", "openai/gpt-4o-mini", "gpt-4o-mini"),
        ("anthropic", "claude-3-5-sonnet-20241022", "claude-4"),
        ("anthropic", "claude-opus-4-20250514", "claude-4"),
        ("anthropic", "claude-sonnet-4-5-20250929", "claude-4"),
        ("anthropic", "claude-opus-4-7", "claude"),
        ("openrouter", "anthropic/claude-opus-4.7", "claude"),
        ("bedrock", "anthropic.claude-3-haiku-20240307-v1:0", "claude-4"),
        ("anthropic", "something-new", "claude"),
        ("gemini", "gemini-2.5-flash", "gemini"),
        ("vertex_ai", "gemini-3-pro", "gemini-3"),
        ("groq", "llama-3.3-70b-versatile", "llama"),
        ("mistral", "open-unheard-of", "mistral"),
        ("ollama", "phi4", "unknown"),
        ("openai", "support-ft-v3", "unknown"),
        ("", "", "unknown"),
    ],
)
def test_a_name_tells_the_rules(provider: str, model: str, name: str) -> None:
    rules = rules_for(provider, model)
    assert rules.name == name
    assert rules == rules_for(provider, model)
    assert hash(rules) == hash(rules_for(provider, model))


def test_another_family_is_counted_higher(counter: Counter) -> None:
    text = "Each of these sentences is plain English, and there are some of them here."
    plain = counter.count_text(text, GPT_4O)
    assert counter.count_text(text, CLAUDE) == ceil(plain * CLAUDE.factor) > plain * 3 // 2
    assert counter.count_text(text, rules_for("openai", "support-ft-v3")) == 2 * plain
    request = chat(user(text), tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}])
    assert counter.count_input(request, CLAUDE) > counter.count_input(request, GPT_4O) * 3 // 2


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("1234567890" * 50, 500),
        ("2023-10-04 10:12:33,\n" * 30, 630),
        ("0.45299879\t0.75414529\t0.28119668\n" * 20, 660),
        ("9/25/2023\tPOSITIVE\t0.995773256\n" * 10, 240),
        ("Սա հայերեն նախադասություն է, որը գրվել է փորձարկման համար. " * 10, 261),  # noqa: RUF001
        ("ეს არის ქართული წინადადება, რომელიც დაწერილია შესამოწმებლად. " * 10, 231),
    ],
    ids=["digits", "times", "decimals", "table", "Armenian", "Georgian"],
)
def test_what_gemma_splits_finer_is_not_counted_below_it(counter: Counter, text: str, tokens: int) -> None:
    """`tokens` is what gemma-3-270m's own tokenizer makes of it, 2026-11."""
    for model in ("gemma-3-270m", "gemini-2.5-pro"):
        assert tokens <= counter.count_text(text, rules_for("gemini", model)) <= len(text.encode())


def test_a_factor_never_takes_a_count_above_the_bytes(counter: Counter) -> None:
    for text in ("\u0301" * 50, "ξ" * 10, "1!2?3;4", "漢字" * 100):
        assert counter.count_text(text, rules_for("openai", "support-ft-v3")) <= len(text.encode())


def test_a_system_prompt_replaces_every_instruction(counter: Counter) -> None:
    request = chat(
        {"role": "system", "content": "A long instruction that does not matter."},
        {"role": "developer", "content": "Another one."},
        user("hi"),
    )
    replaced = chat({"role": "system", "content": "Be brief."}, user("hi"))
    assert counter.count_input(request, GPT_4O, system_prompt="Be brief.") == counter.count_input(replaced, GPT_4O)
    assert counter.count_input(chat(user("hi")), GPT_4O, system_prompt="") == 3 + 4 + 4 + 1


def test_names_of_special_tokens_are_ordinary_text(counter: Counter) -> None:
    assert counter.count_text("<|endoftext|>", GPT_4O) > 1
    assert counter.count_text("<|im_start|>system", GPT_4) > 1


HOSTILE = [
    "a", " ", "!", "A", "\n", "漢", "😀", "\u200b", "7", "\u0301", "ก", "\u00a0", "漢a!", " \n", "'s", "!\n/",
    "<|endoftext|>", "\ud800", "\x00", "\ufeff", "👩\u200d👩\u200d👧",
]  # fmt: skip


@pytest.mark.parametrize("rules", [GPT_4O, GPT_4], ids=lambda rules: rules.encoding)
@pytest.mark.parametrize("piece", HOSTILE, ids=ascii)
def test_a_hostile_million_is_counted_in_time(counter: Counter, piece: str, rules: TokenRules) -> None:
    text = piece * (1_000_000 // len(piece))
    started = time.perf_counter()
    tokens = counter.count_text(text, rules)
    assert time.perf_counter() - started < 5
    assert 0 < tokens <= utf8_length(text)


def test_twenty_megabytes_are_bounded_by_their_length(counter: Counter) -> None:
    started = time.perf_counter()
    request = chat(*[user(" " * 1_000_000) for _ in range(20)])
    tokens = counter.count_input(request, GPT_4O)
    assert time.perf_counter() - started < 3
    assert 20_000_000 <= tokens <= 20_000_200


def test_pieces_count_like_the_whole() -> None:
    encodings = Encodings()
    source = Path(__file__).read_text(encoding="utf-8") * 8
    chinese = "这是一个很长的中文句子，用来测试切分。我们希望它是准确的、可靠的。" * 4_000  # noqa: RUF001
    for name in ("o200k_base", "cl100k_base"):
        encode = encodings.get(name)
        for text in (source, chinese, " ".join(f"word{n}," for n in range(20_000))):
            assert len(text) > 100_000
            assert count(encode, text) == len(encode(text))
        for text in ("a" * 100_000, "漢" * 100_000, "7" * 100_000):
            assert len(encode(text)) <= count(encode, text) <= len(encode(text)) + 4


class PanicException(BaseException):
    """As a panic of the native part looks from outside: by this name, and no Exception."""


def test_a_panic_of_the_encoder_is_bounded_and_an_interrupt_is_not() -> None:
    def panics(_: str) -> list[int]:
        raise PanicException

    def interrupted(_: str) -> list[int]:
        raise KeyboardInterrupt

    assert count(panics, "naïve") == 6
    with pytest.raises(KeyboardInterrupt):
        count(interrupted, "naïve")


def nested(depth: int) -> object:
    schema: dict[str, object] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


@pytest.mark.parametrize(
    "parameters",
    [
        None, 7, "x", [], True, {"properties": None}, {"properties": {"a": None}},
        {"properties": {"a": 1.5e300}}, {"properties": {"": {"type": None}}},
        {"type": "object", "required": 3, "properties": {"a": {"enum": []}}},
        {"properties": {"a": {"anyOf": 5}, "b": {"type": ["string", "null"]}, "c": {"$ref": "#/$defs/x"}}},
        {"properties": {"a": {"enum": [1, None, {"b": []}], "default": 10**30}}},
        nested(20), nested(30), nested(100),
    ],
    ids=range(15),
)  # fmt: skip
def test_any_schema_is_counted(counter: Counter, parameters: object) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    fmt = {"type": "json_schema", "json_schema": {"name": "f", "schema": parameters, "strict": True}}
    plain = chat(user("hi"))
    for request in (chat(user("hi"), tools=[tool]), chat(user("hi"), response_format=fmt)):
        for rules in (GPT_4O, GPT_4, CLAUDE):
            assert counter.count_input(request, rules) > counter.count_input(plain, rules)


def test_a_schema_as_deep_as_can_be_decoded_is_counted(counter: Counter) -> None:
    for depth in (200, 300, 400, 600, 900, 2_000):
        schema = '{"properties":{"a":' * depth + "{}" + "}}" * depth
        body = '{"model":"m","messages":[{"role":"user","content":"hi"}],'
        body += f'"response_format":{{"json_schema":{schema}}},'
        body += f'"tools":[{{"type":"function","function":{{"name":"f","parameters":{schema}}}}}]}}'
        try:
            request = ChatBody(body.encode()).chat
        except InvalidRequest:
            continue
        assert counter.count_input(request, GPT_4O) > depth
        assert isinstance(counter.is_long(request), bool)


def test_what_we_cannot_read_is_bounded(counter: Counter) -> None:
    base = counter.count_input(chat(user([])), GPT_4O)
    data = base64.b64encode(b"%PDF-1.7" + bytes(3_000)).decode()

    def extra(part: dict[str, object]) -> int:
        return counter.count_input(chat(user([part])), GPT_4O) - base

    assert extra({"type": "file", "file": {"filename": "a.pdf", "file_data": data}}) >= len(data)
    assert extra({"type": "file", "file": {"file_id": "file-1"}}) >= 250_000
    assert extra({"type": "file", "file": "odd"}) >= 250_000
    assert extra({"type": "video_url", "video_url": {"url": "https://example.com/v.mp4"}}) >= 1_445
    assert extra({"type": "text", "text": ""}) == 0


def wav(seconds: int, rate: int) -> str:
    head = b"RIFF\x00\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00" + struct.pack("<II", rate // 2, rate)
    return base64.b64encode(head + b"\x02\x00\x10\x00data\x00\x00\x00\x00" + bytes(seconds * rate)).decode()


def test_audio_is_bounded_by_the_length_it_can_have(counter: Counter) -> None:
    base = counter.count_input(chat(user([])), GPT_4O)

    def extra(data: str, kind: str) -> int:
        audio = {"type": "input_audio", "input_audio": {"data": data, "format": kind}}
        return counter.count_input(chat(user([audio])), GPT_4O) - base

    assert 600 <= extra(wav(60, 48_000), "wav") <= 605
    assert 600 <= extra(wav(60, 8_000), "wav") <= 605
    assert extra(base64.b64encode(bytes(2_880_000)).decode(), "wav") >= 600
    assert extra(wav(1, 4_000_000).replace("TWF", "////"), "wav") >= 4_000_000 * 10 // 192_000
    # 53,000 bytes of MP3 were billed 44 tokens (pydantic-ai's recorded request, 2025-02-24).
    assert extra(base64.b64encode(bytes(53_000)).decode(), "mp3") >= 44
    assert extra("?", "ogg") >= 1


def test_results_of_parallel_calls_are_counted_as_escaped_json(counter: Counter) -> None:
    def asked(text: str, calls: int) -> int:
        function = {"name": "lookup", "arguments": "{}"}
        made = [{"id": str(n), "type": "function", "function": function} for n in range(calls)]
        results = [{"role": "tool", "tool_call_id": str(n), "content": text} for n in range(calls)]
        return counter.count_input(chat(user("hi"), {"role": "assistant", "tool_calls": made}, *results), GPT_4O)

    # community.openai.com/t/1375117, 2026: billed 1,121, 3,191 and 39,235 with their own prompt and tools.
    assert 1_000 < asked("테스트 " * 1_000, 1) < 1_121
    assert 3_000 < asked("test " * 1_000, 3) < 3_191
    assert 39_000 < asked("테스트 " * 1_000, 3) < 39_235


def test_long_requests_are_told_apart(counter: Counter) -> None:
    assert not counter.is_long(chat(user("a" * 65_536)))
    assert counter.is_long(chat(user("a" * 65_537)))
    assert counter.is_long(chat(*[user([{"type": "text", "text": "a" * 7_000}]) for _ in range(10)]))
    assert not counter.is_long(chat(user([{"type": "image_url", "image_url": {"url": "a" * 100_000}}])))
    tool = {"type": "function", "function": {"name": "f", "description": "a" * 70_000}}
    assert counter.is_long(chat(user("hi"), tools=[tool]))


def test_what_is_remembered_is_bounded_and_recent() -> None:
    recent = Recent(100)
    for n in range(10_000):
        recent.put(n.to_bytes(16), n)
        assert recent.get((5).to_bytes(16)) == 5 or n < 5
        assert len(recent) <= 200
    assert recent.get((9_999).to_bytes(16)) == 9_999
    assert recent.get((7).to_bytes(16)) is None


def test_threads_agree(counter: Counter) -> None:
    fresh = Counter(remembered=8)
    requests = [chat(user(f"{n} " * n), user("same text for all " * 20)) for n in range(60)]
    expected = [counter.count_input(request, GPT_4O) for request in requests]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            assert list(pool.map(lambda request: fresh.count_input(request, GPT_4O), requests)) == expected


def test_encodings_load_offline_without_litellm_in_little_memory() -> None:
    script = """
import sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"): raise OSError(event)
sys.addaudithook(refuse)
from pathlib import Path
from router.tokens import Counter, rules_for
counter = Counter()
counter.warm(["o200k_base", "cl100k_base"])
assert counter.count_text("hello world", rules_for("openai", "gpt-4o")) == 2
assert "litellm" not in sys.modules
pages = int(Path("/proc/self/statm").read_text().split()[1]) if Path("/proc/self/statm").exists() else 0
print(pages * 4096 // 2**20)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout) < 110


ROLES = st.sampled_from(["system", "developer", "user", "assistant", "tool", "critic"])
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": ROLES, "content": st.none() | st.text(max_size=90)}, optional={"name": st.text(max_size=9)}
    ),
    min_size=1,
    max_size=5,
)
ANY_RULES = st.sampled_from([GPT_4O, GPT_4, CLAUDE, rules_for("openai", "gpt-5"), rules_for("openai", "custom")])


@given(st.text(max_size=300), ANY_RULES)
@settings(deadline=None)
def test_a_count_is_between_nothing_and_the_bytes(text: str, rules: TokenRules) -> None:
    tokens = SHARED.count_text(text, rules)
    assert 0 <= tokens <= utf8_length(text)
    assert (tokens == 0) == (text == "")


@given(MESSAGES, MESSAGES, st.booleans(), ANY_RULES)
@settings(deadline=None)
def test_more_messages_never_count_less(
    first: list[object], more: list[object], with_tools: bool, rules: TokenRules
) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}] if with_tools else None
    before = SHARED.count_input(chat(*first, tools=tools), rules)
    assert 0 < before <= SHARED.count_input(chat(*first, *more, tools=tools), rules)


SHARED = Counter()


def test_another_family_is_counted_higher_still_in_other_scripts(counter: Counter) -> None:
    hindi = "यह एक बहुत लंबा हिंदी वाक्य है जिसका उपयोग परीक्षण के लिए किया जाता है। "
    # Claude 2's published tokenizer makes 4.2 times the tokens of o200k_base here.
    assert counter.count_text(hindi, CLAUDE) >= 4.2 * counter.count_text(hindi, GPT_4O)
