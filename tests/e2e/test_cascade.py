"""`verify:` as callers, the ledger and the metrics see it: what passes, what is asked for elsewhere, and who pays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from proxy import Proxy, Row, events, running_provider, running_proxy, said

from router.chat import Chat
from router.providers.simulated import Faults, SimulatedProvider, Simulation, ToolUse

MODELS = """
models:
  cheap: {{target: openai/gpt-4o-mini, base_url: "{url}", retries: 0}}
  other: {{target: openai/gpt-4.1-nano, base_url: "{url}", retries: 0}}
  dear: {{target: openai/gpt-4o, base_url: "{url}", retries: 0}}
  hurried: {{target: openai/gpt-4.1-nano, base_url: "{url}", timeouts: {{total_s: 0.0001}}}}
"""
CHEAP, OTHER, DEAR = "gpt-4o-mini", "gpt-4.1-nano", "gpt-4o"
SCHEMA = {"type": "object", "properties": {"due": {"type": "string"}}, "required": ["due"]}
TOOL = {
    "type": "function",
    "function": {
        "name": "track",
        "parameters": {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]},
    },
}
FITS, FITS_NOT = '{"due": "3 May"}', '{"due": 3}'


def passes_own(request: dict[str, Any], answer: dict[str, Any]) -> bool:
    """A check as an operator writes one: the answer repeats the caller's last word."""
    text = answer["choices"][0]["message"]["content"]
    return str(request["messages"][-1]["content"]).split()[-1] in text


def raises(request: dict[str, Any], answer: dict[str, Any]) -> bool:
    raise RuntimeError(request)


async def passes_async(request: dict[str, Any], answer: dict[str, Any]) -> bool:
    return passes_own(request, answer)


def exits(request: dict[str, Any], answer: dict[str, Any]) -> bool:
    raise SystemExit(3)


def rule(checks: str, *, budget_usd: float | None = None) -> str:
    budget = f"budget: {{per_request_usd: {budget_usd}}}\n" if budget_usd else ""
    return f"baseline: dear\n{budget}route: [{{use: cheap, verify: {{{checks}, buffer: true, escalate_to: dear}}}}]\n"


CHECKS = {
    "json": "json: true",
    "schema": f"json_schema: {json.dumps(SCHEMA)}",
    "own-schema": "json_schema: true",
    "regex": 'regex: "^[0-9]+ EUR$"',
    "min": "min_chars: 10",
    "refusal": "not_refusal: true",
    "truncated": "not_truncated: true",
    "tools": "tool_calls_valid: true",
    "sure": "logprob: {gte: -0.000001}",
    "unsure": "logprob: {gte: -1000}",
    "agree": "agree: {with: other, by: number}",
    "agree-json": "json: true, agree: {with: other, by: json}",
    "judge": 'judge: {model: other, question: "Is it polite?", gte: 0.7}',
    "hurried": 'judge: {model: hurried, question: "Is it polite?"}',
    "python": 'python: "e2e.test_cascade:passes_own"',
    "raises": 'python: "e2e.test_cascade:raises"',
    "exits": 'python: "e2e.test_cascade:exits"',
    "async": 'python: "e2e.test_cascade:passes_async"',
    "all": 'json: true, min_chars: 5, agree: {with: other, by: json}, judge: {model: other, question: "Good?"}',
}


@dataclass(slots=True)
class Script:
    """What each model says next: a text, calls of tools, or one for everything that it is asked."""

    says: dict[str, Any] = field(default_factory=dict)

    def __call__(self, chat: Chat, model: str) -> str | tuple[ToolUse, ...] | None:
        told = self.says.get(model)
        if callable(told):
            return told(chat)  # type: ignore[no-any-return]
        return told  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def script() -> Script:
    return Script()


@pytest.fixture(scope="module")
def provider(script: Script) -> Iterator[SimulatedProvider]:
    with running_provider(Simulation(answerer=script)) as running:
        yield running


@pytest.fixture(scope="module")
def proxy(provider: SimulatedProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder: Path = tmp_path_factory.mktemp("cascade")
    tasks = {name: f"task: {name}\n" + rule(checks) for name, checks in CHECKS.items()}
    tasks["poor"] = "task: poor\n" + rule("json: true", budget_usd=0.0006)
    tasks["poor-agree"] = "task: poor-agree\n" + rule("agree: {with: other, by: number}", budget_usd=0.0001)
    tasks["alone"] = "task: alone\nroute: [{use: cheap, verify: {json: true, buffer: false}}]\n"
    tasks["told"] = "task: told\nprompts: {other: {system: Be brief.}}\n" + rule("agree: {with: other, by: number}")
    tasks["backed"] = "task: backed\n" + rule("json: true").replace("use: cheap", "use: [cheap, dear]")
    tasks["default"] = "task: default\nroute: [{use: cheap}]\n"
    with running_proxy(folder, {"models": MODELS.format(url=provider.base_url), **tasks}) as running:
        yield running


@pytest.fixture(autouse=True)
def _fresh(script: Script, provider: SimulatedProvider) -> None:
    script.says.clear()
    provider.calls.clear()
    provider.faults = Faults()


def ask(proxy: Proxy, task: str, text: str = "How much is it?", **members: Any) -> httpx.Response:
    return proxy.ask(text, headers={"x-farthing-task": task}, **{"max_tokens": 60, **members})


def content(answer: httpx.Response) -> str:
    return str(answer.json()["choices"][0]["message"]["content"])


def reasons(row: Row) -> list[str]:
    return [attempt["reason"] for attempt in row["attempts"]]


def why_unchecked(row: Row) -> str | None:
    """Return why the answer was not checked, as the ledger tells it; None where it was."""
    told = [attempt for attempt in row["attempts"] if attempt.get("check") == "unchecked"]
    assert all(("because" in attempt) == (attempt in told) for attempt in row["attempts"])
    return told[0]["because"] if told else None


TEXTS = [
    ("json", '{"a": 1}', "no json"),
    ("schema", FITS, FITS_NOT),
    ("regex", "12 EUR", "12 euros"),
    ("min", "long enough", " too short "[:9]),
    ("refusal", "I'm sorry to hear that your parcel is late.", "I'm sorry, but I can't help with that."),
    ("python", "It is much: it?", "No."),
    ("async", "It is much: it?", "No."),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("task", "good", "bad"), TEXTS)
def test_an_answer_that_passes_is_given_and_one_that_does_not_is_asked_for_elsewhere(
    proxy: Proxy, script: Script, task: str, good: str, bad: str, stream: bool
) -> None:
    script.says = {CHEAP: good, DEAR: "a better answer"}
    answer = ask(proxy, task, stream=stream)
    row = proxy.row_of(answer)
    assert (said(answer.text) if stream else content(answer)) == good
    assert (answer.headers["x-farthing-verified"], row["attempts"][0]["check"]) == ("passed", "passed")
    assert (len(row["attempts"]), row["overhead_nusd"]) == (1, 0)

    script.says[CHEAP] = bad
    answer = ask(proxy, task, stream=stream)
    row = proxy.row_of(answer)
    check = {"schema": "json_schema", "min": "min_chars", "refusal": "not_refusal", "async": "python"}.get(task, task)
    assert (said(answer.text) if stream else content(answer)) == "a better answer"
    assert answer.headers["x-farthing-verified"] == "escalated"
    assert answer.headers["x-farthing-model"] == row["routed_model"] == "dear"
    assert reasons(row) == [f"check_{check}", "answered"]
    assert row["overhead_nusd"] == row["attempts"][0]["charged_nusd"] > 0
    assert row["charged_nusd"] == sum(attempt["charged_nusd"] for attempt in row["attempts"])


def test_a_stream_that_is_held_back_is_sent_as_the_provider_made_it(proxy: Proxy, script: Script) -> None:
    script.says = {CHEAP: '{"a": "some words to be sent in pieces"}'}
    plain = ask(proxy, "default", stream=True, stream_options={"include_usage": True})
    name = "gen_ai_server_time_to_first_token_seconds_count"
    before = proxy.metric(name)
    held = ask(proxy, "json", stream=True, stream_options={"include_usage": True})
    assert proxy.metric(name) == before + 1

    def alike(text: str) -> list[Any]:
        return [{**event, "id": "", "created": 0} for event in events(text)]

    assert alike(held.text) == alike(plain.text)
    assert events(held.text)[-1]["usage"]["completion_tokens"] > 0
    assert held.text.endswith("data: [DONE]\n\n")
    assert ": farthing cost_usd=" in held.text
    assert held.headers["content-type"] == plain.headers["content-type"]


def test_a_stream_that_is_not_held_back_says_that_it_is_unchecked(proxy: Proxy, script: Script) -> None:
    script.says = {CHEAP: "no json"}
    answer = ask(proxy, "alone", stream=True)
    assert (answer.headers["x-farthing-verified"], said(answer.text)) == ("unchecked", "no json")
    assert why_unchecked(proxy.row_of(answer)) == "stream"


def test_an_answer_that_fails_with_nobody_to_ask_is_given_and_says_so(proxy: Proxy, script: Script) -> None:
    script.says = {CHEAP: "no json"}
    answer = ask(proxy, "alone")
    row = proxy.row_of(answer)
    assert (answer.headers["x-farthing-verified"], content(answer)) == ("failed", "no json")
    assert (reasons(row), row["attempts"][0]["check"], row["overhead_nusd"]) == (["answered"], "json", 0)


def test_nobody_is_escalated_to_who_gave_the_answer(proxy: Proxy, provider: SimulatedProvider, script: Script) -> None:
    provider.faults.always("status=500", model=CHEAP)
    script.says = {DEAR: "no json"}
    answer = ask(proxy, "backed")
    row = proxy.row_of(answer)
    assert (answer.headers["x-farthing-verified"], content(answer)) == ("failed", "no json")
    assert [(attempt["model"], attempt.get("check")) for attempt in row["attempts"]] == [
        ("cheap", None),
        ("dear", "json"),
    ]


def test_an_escalation_that_the_money_does_not_buy_gives_the_first_answer(proxy: Proxy, script: Script) -> None:
    script.says = {CHEAP: "no json", DEAR: "{}"}
    answer = ask(proxy, "poor", max_tokens=200)
    assert (answer.headers["x-farthing-verified"], content(answer)) == ("failed", "no json")
    assert proxy.row_of(answer)["charged_nusd"] <= 600_000


def test_the_request_s_own_schema_is_held_against_the_answer(proxy: Proxy, script: Script) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "due", "schema": SCHEMA}}
    script.says = {CHEAP: FITS_NOT, DEAR: FITS}
    answer = ask(proxy, "own-schema", response_format=wanted)
    assert (answer.headers["x-farthing-verified"], content(answer)) == ("escalated", FITS)
    assert ask(proxy, "own-schema").headers["x-farthing-verified"] == "passed"


def test_an_answer_that_ends_at_its_limit_is_asked_for_elsewhere(proxy: Proxy, script: Script) -> None:
    script.says = {CHEAP: "word " * 100, DEAR: "short"}
    answer = ask(proxy, "truncated", max_tokens=20)
    assert (answer.headers["x-farthing-verified"], content(answer)) == ("escalated", "short")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("call", "verified"),
    [
        (ToolUse("track", '{"id": 7}'), "passed"),
        (ToolUse("track", '{"id": "seven"}'), "escalated"),
        (ToolUse("track", '{"id": '), "escalated"),
        (ToolUse("trace", '{"id": 7}'), "escalated"),
    ],
)
def test_calls_of_tools_must_be_of_those_offered_and_fit_them(
    proxy: Proxy, script: Script, call: ToolUse, verified: str, stream: bool
) -> None:
    script.says = {CHEAP: (call,), DEAR: (ToolUse("track", '{"id": 8}'),)}
    answer = ask(proxy, "tools", tools=[TOOL], stream=stream)
    assert answer.headers["x-farthing-verified"] == verified
    assert proxy.row_of(answer)["routed_model"] == ("cheap" if verified == "passed" else "dear")


@pytest.mark.parametrize(("demanded", "verified"), [("track", "escalated"), ("trace", "passed")])
def test_where_the_caller_demands_one_tool_a_call_of_another_has_not_passed(
    proxy: Proxy, script: Script, demanded: str, verified: str
) -> None:
    script.says = {CHEAP: (ToolUse("trace", "{}"),), DEAR: (ToolUse("track", '{"id": 8}'),)}
    choice = {"type": "function", "function": {"name": demanded}}
    tools = [TOOL, {"type": "function", "function": {"name": "trace"}}]
    assert ask(proxy, "tools", tools=tools, tool_choice=choice).headers["x-farthing-verified"] == verified


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("task", "verified"), [("sure", "escalated"), ("unsure", "passed")])
def test_log_probabilities_are_asked_for_and_taken_out_again(
    proxy: Proxy, provider: SimulatedProvider, script: Script, task: str, verified: str, stream: bool
) -> None:
    script.says = {CHEAP: "It is nine.", DEAR: "It is ten."}
    answer = ask(proxy, task, stream=stream)
    assert answer.headers["x-farthing-verified"] == verified
    assert provider.calls[0].body["logprobs"] is True
    choices = [choice for event in events(answer.text) for choice in event["choices"]] if stream else None
    assert all(choice.get("logprobs") is None for choice in choices or answer.json()["choices"])
    for refused in (False, None):
        assert ask(proxy, task, stream=stream, logprobs=refused).headers["x-farthing-verified"] == verified
    kept = ask(proxy, "unsure", logprobs=True).json()["choices"][0]["logprobs"]
    assert kept["content"]


@pytest.mark.parametrize("stream", [False, True])
def test_two_answers_that_agree_pass_and_the_second_is_overhead(
    proxy: Proxy, provider: SimulatedProvider, script: Script, stream: bool
) -> None:
    script.says = {CHEAP: "So \\boxed{1,250}", OTHER: "The answer is 1250.", DEAR: "It is 7"}
    before = proxy.metric_nusd("farthing_overhead_cost_usd_total", task="agree", reason="agree")
    answer = ask(proxy, "agree", stream=stream)
    row = proxy.row_of(answer)
    assert (answer.headers["x-farthing-verified"], answer.headers["x-farthing-model"]) == ("passed", "cheap")
    assert sorted(reasons(row)) == ["agree", "answered"]
    second = next(attempt for attempt in row["attempts"] if attempt["reason"] == "agree")
    assert second["model"] == "other"
    assert row["overhead_nusd"] == second["charged_nusd"] > 0
    after = proxy.metric_nusd("farthing_overhead_cost_usd_total", task="agree", reason="agree")
    assert after - before == second["charged_nusd"]
    assert len(provider.calls) == 2


def test_a_second_answer_is_asked_for_with_its_model_s_own_prompt(
    proxy: Proxy, provider: SimulatedProvider, script: Script
) -> None:
    script.says = {CHEAP: "7", OTHER: "7"}
    assert ask(proxy, "told").headers["x-farthing-verified"] == "passed"
    systems = {call.body["model"]: call.body["messages"][0]["content"] for call in provider.calls}
    assert systems == {CHEAP: "How much is it?", OTHER: "Be brief."}


def test_two_answers_that_differ_are_asked_for_elsewhere_and_all_three_are_charged(
    proxy: Proxy, script: Script
) -> None:
    script.says = {CHEAP: "1250", OTHER: "1251", DEAR: "It is 7"}
    labels = {"task": "agree", "from": "cheap", "to": "dear", "reason": "agree"}
    before = proxy.metric("farthing_escalations_total", **labels)
    spent = {
        reason: proxy.metric_nusd("farthing_overhead_cost_usd_total", task="agree", reason=reason)
        for reason in ("agree", "escalation")
    }
    answer = ask(proxy, "agree")
    row = proxy.row_of(answer)
    assert (answer.headers["x-farthing-verified"], content(answer)) == ("escalated", "It is 7")
    by_reason = {attempt["reason"]: attempt["charged_nusd"] for attempt in row["attempts"]}
    assert set(by_reason) == {"check_agree", "agree", "answered"}
    assert row["charged_nusd"] == sum(by_reason.values())
    assert row["overhead_nusd"] == by_reason["check_agree"] + by_reason["agree"]
    assert proxy.metric("farthing_escalations_total", **labels) == before + 1
    for reason, attempt in (("agree", "agree"), ("escalation", "check_agree")):
        now = proxy.metric_nusd("farthing_overhead_cost_usd_total", task="agree", reason=reason)
        assert now - spent[reason] == by_reason[attempt]


@pytest.mark.parametrize(
    ("second", "verified"),
    [
        ((ToolUse("track", '{ "id": 7.0 }'),), "passed"),
        ((ToolUse("track", '{"id": 8}'),), "escalated"),
        ((ToolUse("trace", '{"id": 7}'),), "escalated"),
        ((ToolUse("track", '{"id": 7}'), ToolUse("track", '{"id": 7}')), "escalated"),
        ("7", "escalated"),
    ],
)
def test_two_answers_that_call_tools_agree_where_the_calls_are_the_same(
    proxy: Proxy, script: Script, second: object, verified: str
) -> None:
    script.says = {CHEAP: (ToolUse("track", '{"id": 7}'),), OTHER: second, DEAR: "7"}
    assert ask(proxy, "agree", tools=[TOOL]).headers["x-farthing-verified"] == verified


def test_the_cheap_checks_spare_the_second_answer(proxy: Proxy, provider: SimulatedProvider, script: Script) -> None:
    script.says = {CHEAP: "no json", OTHER: "{}", DEAR: "{}"}
    row = proxy.row_of(ask(proxy, "agree-json"))
    assert reasons(row) == ["check_json", "answered"]
    script.says[CHEAP] = '{"b": 2, "a": 1.0}'
    script.says[OTHER] = '```json\n{"a": 1, "b": 2}\n```'
    assert ask(proxy, "agree-json").headers["x-farthing-verified"] == "passed"


def test_a_second_answer_that_can_not_be_had_leaves_the_first_unchecked(
    proxy: Proxy, provider: SimulatedProvider, script: Script
) -> None:
    script.says = {CHEAP: "1250", DEAR: "7"}
    provider.faults.always("status=500", model=OTHER)
    answer = ask(proxy, "agree")
    row = proxy.row_of(answer)
    assert (answer.headers["x-farthing-verified"], content(answer)) == ("unchecked", "1250")
    assert (row["routed_model"], row["overhead_nusd"]) == ("cheap", 0)
    assert why_unchecked(row) == "agree_failed"


def test_a_second_answer_that_fails_is_asked_for_once_and_paid_for_once(
    proxy: Proxy, provider: SimulatedProvider, script: Script
) -> None:
    script.says = {CHEAP: "1250", OTHER: "1250"}
    provider.faults.queue("malformed", model=OTHER)
    row = proxy.row_of(ask(proxy, "agree"))
    assert [call.body["model"] for call in provider.calls].count(OTHER) == 1
    assert sorted(attempt["model"] for attempt in row["attempts"]) == ["cheap", "other"]


def test_a_check_for_which_no_time_is_left_is_not_paid_for(proxy: Proxy, script: Script) -> None:
    script.says = {CHEAP: "Pay now!", OTHER: "1"}
    answer = ask(proxy, "hurried")
    row = proxy.row_of(answer)
    assert answer.headers["x-farthing-verified"] == "unchecked"
    assert [attempt["model"] for attempt in row["attempts"]] == ["cheap"]
    assert row["overhead_nusd"] == 0
    assert why_unchecked(row) == "judge_time"


def test_a_second_answer_that_the_money_does_not_buy_leaves_the_first_unchecked(
    proxy: Proxy, provider: SimulatedProvider, script: Script
) -> None:
    script.says = {CHEAP: "1250 " * 40, OTHER: "1250", DEAR: "7"}
    answer = ask(proxy, "poor-agree", max_tokens=160)
    row = proxy.row_of(answer)
    assert answer.headers["x-farthing-verified"] == "unchecked"
    assert row["charged_nusd"] <= 100_000
    assert [call.body["model"] for call in provider.calls] == [CHEAP]
    assert why_unchecked(row) == "agree_money"


def test_a_first_answer_that_fails_ends_the_second_and_all_is_settled(
    proxy: Proxy, provider: SimulatedProvider, script: Script
) -> None:
    provider.faults.always("status=500", model=CHEAP)
    provider.faults.always("silence", model=OTHER)
    answer = ask(proxy, "agree")
    row = proxy.row_of(answer)
    assert (answer.status_code, row["outcome"]) == (502, "failed")
    assert proxy.metric("farthing_unsettled_holds") == 0
    assert row["charged_nusd"] == row["overhead_nusd"]


@pytest.mark.parametrize(
    ("grade", "verified"),
    [
        ("0.9", "passed"),
        ("0.7", "passed"),
        ("0.69", "escalated"),
        ("No.", "escalated"),
        ("I like it", "unchecked"),
        ("0.2 out of 1", "escalated"),
        ("1/10", "escalated"),
    ],
)
def test_a_judge_grades_the_answer(
    proxy: Proxy, provider: SimulatedProvider, script: Script, grade: str, verified: str
) -> None:
    script.says = {CHEAP: "Pay now!", OTHER: grade, DEAR: "Please pay."}
    answer = ask(proxy, "judge")
    row = proxy.row_of(answer)
    assert answer.headers["x-farthing-verified"] == verified
    assert why_unchecked(row) == ("judge_grade" if verified == "unchecked" else None)
    asked = provider.calls[1].body
    assert "Is it polite?" in asked["messages"][-1]["content"]
    assert '"answer":"Pay now!"' in asked["messages"][-1]["content"]
    assert reasons(row)[1] == "judge"
    judged = row["attempts"][1]["charged_nusd"]
    assert row["overhead_nusd"] == judged + (row["attempts"][0]["charged_nusd"] if verified == "escalated" else 0)


def test_a_judge_is_shown_the_tools_and_their_calls(proxy: Proxy, provider: SimulatedProvider, script: Script) -> None:
    script.says = {CHEAP: (ToolUse("track", '{"id": 7}'),), OTHER: "1", DEAR: "better"}
    called = {"id": "call_1", "type": "function", "function": {"name": "track", "arguments": '{"id": 6}'}}
    messages = [
        {"role": "user", "content": "Where are parcels 6 and 7?"},
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "call_1", "content": "At the door."},
    ]
    described = {**TOOL, "function": {**TOOL["function"], "description": "Tells where a parcel is."}}
    answer = ask(proxy, "judge", messages=messages, tools=[described])
    assert answer.headers["x-farthing-verified"] == "passed"
    asked = provider.calls[1].body["messages"][-1]["content"]
    assert json.loads(asked.partition("\n\n")[2]) == {
        "conversation": [
            {"role": "user", "text": "Where are parcels 6 and 7?"},
            {"role": "assistant", "text": "", "calls": [{"name": "track", "arguments": '{"id": 6}'}]},
            {"role": "tool", "text": "At the door."},
        ],
        "tools": [{"name": "track", "description": "Tells where a parcel is."}],
        "answer": [{"name": "track", "arguments": '{"id": 7}'}],
    }


@pytest.mark.parametrize("task", ["raises", "exits"])
def test_an_own_check_that_raises_has_not_passed(proxy: Proxy, script: Script, task: str) -> None:
    script.says = {CHEAP: "fine", DEAR: "better"}
    answer = ask(proxy, task)
    assert (answer.headers["x-farthing-verified"], content(answer)) == ("escalated", "better")


@pytest.mark.parametrize(("task", "calls"), [("json", 1), ("agree", 2), ("agree-json", 2), ("judge", 2), ("all", 3)])
@pytest.mark.parametrize("stream", [False, True])
def test_the_estimate_counts_the_calls_that_checks_make(
    proxy: Proxy, script: Script, task: str, calls: int, stream: bool
) -> None:
    script.says = {CHEAP: "{}", OTHER: "{}", DEAR: "{}"}
    told = ask_dry(proxy, task, stream=stream)
    answer_usd = told["candidates"][0]["estimate_usd"]
    assert told["estimate_usd"] == pytest.approx(answer_usd + told["checks_usd"])
    # The other model costs two thirds of the cheap one: a second answer as much, a grade mostly its prompt.
    shares = {1: (0, 0), 2: (0.05, 0.7), 3: (0.7, 1.3)}[calls]
    assert shares[0] * answer_usd <= told["checks_usd"] <= shares[1] * answer_usd
    assert (told["checks_usd"] > 0) is (calls > 1)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_tells_the_estimate_that_the_dry_run_told(proxy: Proxy, script: Script, stream: bool) -> None:
    script.says = {CHEAP: "It is 5", OTHER: "5", DEAR: "6"}
    told = ask_dry(proxy, "agree", stream=stream)
    answer = ask(proxy, "agree", stream=stream)
    estimate_usd = float(answer.headers["x-farthing-estimate-usd"])
    assert estimate_usd == told["estimate_usd"] == proxy.row_of(answer)["estimated_nusd"] / 1e9
    assert estimate_usd > told["candidates"][0]["estimate_usd"]


def test_a_budget_bounds_the_estimate_of_an_answer_and_its_checks(proxy: Proxy) -> None:
    told = ask_dry(proxy, "poor-agree", max_tokens=None)
    assert told["candidates"][0]["estimate_usd"] + told["checks_usd"] > told["budget_usd"] == told["estimate_usd"]


def ask_dry(proxy: Proxy, task: str, **members: Any) -> dict[str, Any]:
    headers = {"x-farthing-task": task, "x-farthing-dry-run": "true"}
    told = proxy.ask("How much is it?", headers=headers, **{"max_tokens": 60, **members}).json()
    assert isinstance(told, dict)
    return told


def test_every_check_must_pass(proxy: Proxy, script: Script) -> None:
    def judged(chat: Chat) -> str:
        return "1" if "You grade" in chat.messages[0].text() else '{"a": 1}'

    script.says = {CHEAP: '{"a": 1}', OTHER: judged, DEAR: "better"}
    row = proxy.row_of(ask(proxy, "all"))
    assert reasons(row) == ["answered", "agree", "judge"]
    script.says[OTHER] = '{"a": 2}'
    assert reasons(proxy.row_of(ask(proxy, "all"))) == ["check_agree", "agree", "answered"]
    script.says[CHEAP] = "{}"
    assert reasons(proxy.row_of(ask(proxy, "all"))) == ["check_min_chars", "answered"]


def test_a_check_that_could_not_be_made_is_not_made_good_by_the_next(
    proxy: Proxy, provider: SimulatedProvider, script: Script
) -> None:
    script.says = {CHEAP: '{"a": 1}', OTHER: "1"}
    provider.faults.queue("status=500", model=OTHER)
    answer = ask(proxy, "all")
    assert answer.headers["x-farthing-verified"] == "unchecked"
    assert [attempt["model"] for attempt in proxy.row_of(answer)["attempts"]] == ["cheap", "other", "other"]


@pytest.mark.parametrize(("task", "good", "bad"), [("json", "{}", "no json"), ("agree", "7", "8")])
def test_each_of_several_choices_must_pass(proxy: Proxy, script: Script, task: str, good: str, bad: str) -> None:
    said_so_far: list[str] = []

    def by_turns(chat: Chat) -> str:
        said_so_far.append("")
        return bad if len(said_so_far) == 2 else good

    script.says = {CHEAP: by_turns, OTHER: good, DEAR: good}
    assert ask(proxy, task, n=3).headers["x-farthing-verified"] == "escalated"


def test_what_came_of_the_checks_is_counted(proxy: Proxy, script: Script) -> None:
    script.says = {CHEAP: "{}"}
    labels = {"task": "json", "rule": "otherwise", "result": "passed"}
    before = proxy.metric("farthing_checked_answers_total", **labels)
    ask(proxy, "json")
    assert proxy.metric("farthing_checked_answers_total", **labels) == before + 1


def test_the_sums_agree_and_nothing_stays_held(proxy: Proxy) -> None:
    rows = proxy.rows()
    assert proxy.metric_nusd("farthing_cost_usd_total") == sum(row["charged_nusd"] for row in rows)
    assert proxy.metric_nusd("farthing_overhead_cost_usd_total") == sum(row["overhead_nusd"] for row in rows)
    assert proxy.metric("farthing_over_budget_usd_total") == 0
    assert all(row["charged_nusd"] <= row["held_nusd"] for row in rows)
