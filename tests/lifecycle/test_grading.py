"""Grades come out as good as the answers are: by a judge, and by the checks of the rule."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from proxy import Proxy, eventually, running_provider, running_proxy
from redis_server import running_redis

from lifecycle.mixture import CHEAP, JUDGE, MIXTURE, PREMIUM, asked, files, labels, recovered, shadow, texts
from router.chat import Chat
from router.providers.simulated import SimulatedProvider, Simulation, ToolUse

SEED = 47
JUDGED = 'grade: judge, judge: {model: judge, question: "Is the number right?"}'
CHECKED = "grade: verify"
Answered = str | tuple[ToolUse, ...]
FORMED = r"^The answer is \d+\.$"


@dataclass(frozen=True, slots=True)
class Careless:
    """Answers in the form that was asked for where it answers rightly, and in no form where it does not."""

    def __call__(self, chat: Chat, model: str) -> str | None:
        said = MIXTURE(chat, model)
        return said if said is None or MIXTURE.is_right(model, chat.last_user_text()) else "I would rather not say."


@pytest.fixture(scope="module")
def provider() -> Iterator[SimulatedProvider]:
    with running_provider(Simulation(answerer=MIXTURE)) as provider:
        yield provider


@pytest.fixture(scope="module")
def careless() -> Iterator[SimulatedProvider]:
    with running_provider(Simulation(answerer=Careless())) as provider:
        yield provider


def shown_seconds(proxy: Proxy) -> Any:
    """Return what `farthing difficulty show` says of second answers, of rows that are written."""
    proxy.rows()
    named = ("--task", "default", "--policies", str(proxy.policies), "--ledger-url", f"sqlite:///{proxy.ledger}")
    command = [sys.executable, "-m", "router", "difficulty", "show", *named, "--json"]
    ran = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return json.loads(ran.stdout)["second_answers"]


def checking(check: str) -> str:
    rule = f"{{name: rest, use: cheap, verify: {{{check}, buffer: true}}}}"
    return f"  - {{name: hard, when: {{difficulty: {{gte: 0.6}}}}, use: premium}}\n  - {rule}\n"


@pytest.mark.parametrize("stream", [False, True])
def test_a_judge_grades_both_answers(provider: SimulatedProvider, tmp_path: Path, *, stream: bool) -> None:
    with running_proxy(tmp_path, files(shadow(JUDGED), url=provider.base_url)) as proxy:
        sent = {
            proxy.ask(text, max_tokens=16, stream=stream).headers["x-farthing-request-id"]: text
            for text in texts(40, SEED)
        }
        rows = eventually(lambda: found if len(found := labels(proxy)) == len(sent) else None, "a label of each")
        assert [row.gain for row in rows] == [MIXTURE.gain(sent[row.request_id]) for row in rows]
        assert {row.gain for row in rows} >= {0.0, 1.0}
        every = proxy.rows()
        seconds = [row for row in every if row["outcome"] == "shadow"]
        given = {row["id"]: row["routed_model"] for row in every if row["outcome"] != "shadow"}
        for row in seconds:
            assert row["facts"]["grades"]["given"] == given[row["id"].removesuffix(".l.s")]
            # A second answer and two judgements, all of it overhead of the task's learning.
            asked_models = [attempt["model"] for attempt in row["attempts"]]
            assert (asked_models[1:], row["overhead_nusd"]) == (["judge", "judge"], row["charged_nusd"])
            assert row["facts"]["grades"]["premium"] - row["facts"]["grades"]["cheap"] == MIXTURE.gain(
                sent[row["id"].removesuffix(".l.s")]
            )
        told = shown_seconds(proxy)
        assert (told["asked"], told["graded"]) == (len(sent), len(sent))


def test_what_a_judge_does_not_grade_is_no_label(tmp_path: Path) -> None:
    def silent(chat: Chat, model: str) -> str | None:
        return "I can't tell." if model == JUDGE else MIXTURE(chat, model)

    with (
        running_provider(Simulation(answerer=silent)) as provider,
        running_proxy(tmp_path, files(shadow(JUDGED), url=provider.base_url)) as proxy,
    ):
        for text in texts(5, SEED):
            asked(proxy, text)

        def dropped() -> float:
            return proxy.metric("farthing_experiment_shadows_dropped_total", rule="learning", reason="ungraded")

        eventually(lambda: dropped() == 5, "five that were not graded")
        assert labels(proxy) == []
        told = shown_seconds(proxy)
        assert (told["asked"], told["graded"]) == (5, 0)
        assert told["cost_usd"] > 0


def test_no_second_answer_is_bought_whose_grades_can_not_be_paid(provider: SimulatedProvider, tmp_path: Path) -> None:
    little = shadow(JUDGED).replace("budget_per_day_usd: 5", "budget_per_day_usd: 0.0006")
    with running_proxy(tmp_path, files(little, url=provider.base_url)) as proxy:

        def dropped(reason: str) -> float:
            return proxy.metric("farthing_experiment_shadows_dropped_total", rule="learning", reason=reason)

        for number, text in enumerate(texts(10, SEED), start=1):
            asked(proxy, text)
            eventually(
                lambda number=number: len(labels(proxy)) + dropped("ungraded") + dropped("over_budget") == number,
                "what became of each",
            )
        seconds = [row for row in proxy.rows() if row["outcome"] == "shadow"]
        assert 0 < len(seconds) == len(labels(proxy)) < 10
        assert {len(row["attempts"]) for row in seconds} == {3}, "a second answer and two grades"


def test_a_caller_s_limit_must_leave_room_for_a_second_answer_and_both_grades(
    provider: SimulatedProvider, tmp_path: Path
) -> None:
    with running_proxy(
        tmp_path, files(shadow(JUDGED), route="  - use: [premium, cheap]\n", url=provider.base_url)
    ) as proxy:

        def dropped() -> float:
            return proxy.metric("farthing_experiment_shadows_dropped_total", rule="learning", reason="over_budget")

        # The answer of the cheap model takes $0.00001, and each grade up to about $0.0002.
        for limit_usd, expected in (("0.0003", (0, 1)), ("0.0005", (1, 1))):
            answer = proxy.ask(texts(1, SEED)[0], max_tokens=16, headers={"x-farthing-budget-usd": limit_usd})
            assert answer.status_code == 200, answer.text
            eventually(lambda expected=expected: (len(labels(proxy)), dropped()) == expected, "what became of it")
        assert [len(row["attempts"]) for row in proxy.rows() if row["outcome"] == "shadow"] == [3]


@pytest.mark.parametrize("store", ["memory", "redis"])
def test_second_answers_that_are_asked_for_at_once_leave_each_other_the_money_for_grades(
    tmp_path: Path, store: str
) -> None:
    little = shadow(JUDGED).replace("budget_per_day_usd: 5", "budget_per_day_usd: 0.0006")
    with ExitStack() as running:
        settings = {"budgets_url": running.enter_context(running_redis()).url} if store == "redis" else {}
        provider = running.enter_context(running_provider(Simulation(answerer=MIXTURE)))
        provider.faults.always("drip=0.02")
        proxy = running.enter_context(running_proxy(tmp_path, files(little, url=provider.base_url), settings=settings))

        def dropped(reason: str) -> float:
            return proxy.metric("farthing_experiment_shadows_dropped_total", rule="learning", reason=reason)

        with ThreadPoolExecutor(16) as callers:
            list(callers.map(lambda text: asked(proxy, text), texts(16, SEED)))
        eventually(lambda: len(labels(proxy)) + dropped("over_budget") == 16, "a label of each that was paid for")
        seconds = [row for row in proxy.rows() if row["outcome"] == "shadow"]
        assert 0 < len(seconds) == len(labels(proxy)) < 16
        eventually(lambda: proxy.metric_nusd("farthing_budget_held_usd", scope="shadow") == 0, "nothing held any more")
        spent_nusd = proxy.metric_nusd("farthing_budget_spent_usd", scope="shadow")
        assert spent_nusd == sum(row["charged_nusd"] for row in seconds) <= 600_000
        assert dropped("ungraded") == 0


NUMBER = "grade: agree, agree: {by: number}"


@pytest.mark.parametrize(("grade", "choices"), [("grade: agree", 2), (NUMBER, 3), (JUDGED, 2), (NUMBER, 1)])
def test_what_can_not_be_compared_is_no_label(tmp_path: Path, grade: str, choices: int) -> None:
    def vague(chat: Chat, model: str) -> str | None:
        return "It depends." if choices == 1 and model == PREMIUM else MIXTURE(chat, model)

    with (
        running_provider(Simulation(answerer=vague)) as provider,
        running_proxy(tmp_path, files(shadow(grade), route="  - use: cheap\n", url=provider.base_url)) as proxy,
    ):
        for text in texts(5, SEED):
            assert proxy.ask(text, max_tokens=16, n=choices).status_code == 200

        def dropped() -> float:
            return proxy.metric("farthing_experiment_shadows_dropped_total", rule="learning", reason="ungraded")

        eventually(lambda: dropped() == 5, "five that were not graded")
        assert labels(proxy) == []


CALL, OTHER_CALL, BROKEN = (
    (ToolUse("look_up", arguments),) for arguments in ('{"case": 1, "deep": true}', '{"case": 2}', '{"case": "1"}')
)
SAME_CALL = (ToolUse("look_up", '{"deep": true, "case": 1}'),)
PARAMETERS = {"type": "object", "properties": {"case": {"type": "integer"}}}
TOOLS = [{"type": "function", "function": {"name": "look_up", "description": "Reads.", "parameters": PARAMETERS}}]
SAID = "It is 1."
VALID = "  - {use: cheap, verify: {tool_calls_valid: true, buffer: true}}\n"


@pytest.mark.parametrize(
    ("grade", "cheap", "premium", "gain", "stream"),
    [
        ("grade: agree", CALL, SAME_CALL, 0, False),
        ("grade: agree", CALL, OTHER_CALL, 1, True),
        ("grade: agree", SAID, CALL, 1, True),
        ("grade: agree", SAID, SAID, 0, True),
        (NUMBER, CALL, SAME_CALL, 0, True),
        (NUMBER, CALL, CALL + OTHER_CALL, 1, False),
        (NUMBER, CALL, SAID, 1, True),
        (CHECKED, BROKEN, CALL, 1, True),
        (CHECKED, CALL, OTHER_CALL, 0, False),
        (JUDGED, BROKEN, CALL, 1, True),
        (JUDGED, OTHER_CALL, SAID, 0, False),
    ],
)
def test_calls_of_tools_are_graded(
    tmp_path: Path, grade: str, cheap: Answered, premium: Answered, gain: float, *, stream: bool
) -> None:
    def answers(chat: Chat, model: str) -> Answered:
        if model == JUDGE:
            # Of calls it likes the one of case 1, and no text.
            return "1" if '{\\"case\\": 1,' in chat.last_user_text() else "0"
        return cheap if model == CHEAP else premium

    route = VALID if grade == CHECKED else "  - use: cheap\n"
    with (
        running_provider(Simulation(answerer=answers)) as provider,
        running_proxy(tmp_path, files(shadow(grade), route=route, url=provider.base_url)) as proxy,
    ):
        assert proxy.ask("Which case is it?", max_tokens=40, tools=TOOLS, stream=stream).status_code == 200
        eventually(lambda: proxy.metric("farthing_learning_labels_total") == 1, "a label")
    # A proxy that stops writes what it has, so nobody waits here for the second that it gives itself else.
    (label,) = labels(proxy)
    assert label.gain == gain


@pytest.mark.parametrize(
    ("grade", "cheap", "premium", "asked_twice"),
    [(NUMBER, CALL, "It depends.", True), ("grade: agree", (ToolUse("", "{}"),), CALL, False)],
)
def test_calls_that_can_not_be_compared_are_no_label(
    tmp_path: Path, grade: str, cheap: Answered, premium: Answered, *, asked_twice: bool
) -> None:
    def answers(chat: Chat, model: str) -> Answered:
        return cheap if model == CHEAP else premium

    with (
        running_provider(Simulation(answerer=answers)) as provider,
        running_proxy(tmp_path, files(shadow(grade), route="  - use: cheap\n", url=provider.base_url)) as proxy,
    ):
        assert proxy.ask("Which case is it?", max_tokens=40, tools=TOOLS).status_code == 200

        def dropped() -> float:
            return proxy.metric("farthing_experiment_shadows_dropped_total", rule="learning", reason="ungraded")

        eventually(lambda: dropped() == 1, "one that was not graded")
        assert labels(proxy) == []
        assert len(provider.calls) == 1 + asked_twice


def test_the_rules_checks_grade_both_answers(careless: SimulatedProvider, tmp_path: Path) -> None:
    route = checking(f"regex: '{FORMED}'")
    with running_proxy(tmp_path, files(shadow(CHECKED), route=route, url=careless.base_url)) as proxy:
        sent = {}
        for text in texts(60, SEED):
            answer = asked(proxy, text)
            if answer.headers["x-farthing-rule"] == "rest":
                sent[answer.headers["x-farthing-request-id"]] = text
        rows = eventually(lambda: found if len(found := labels(proxy)) == len(sent) else None, "a label of each")
        assert len(rows) > 15
        assert [row.gain for row in rows] == [MIXTURE.gain(sent[row.request_id]) for row in rows]
        assert {row.gain for row in rows} >= {0.0, 1.0}


def test_checks_that_look_at_more_than_the_answer_grade_nothing(careless: SimulatedProvider, tmp_path: Path) -> None:
    route = "  - {name: told, when: {messages: {gt: 5}}, use: cheap, verify: {min_chars: 5, buffer: true}}\n"
    route += checking('judge: {model: judge, question: "Is the number right?", gte: 0.5}')
    with running_proxy(tmp_path, files(shadow(CHECKED), route=route, url=careless.base_url)) as proxy:
        for text in texts(20, SEED):
            asked(proxy, text)
        eventually(lambda: proxy.metric("farthing_inflight_requests") <= 1, "all that was asked")
        assert len(proxy.rows()) == 20
        assert labels(proxy) == []


@pytest.mark.parametrize(("grade", "route"), [(JUDGED, ""), (CHECKED, checking(f"regex: '{FORMED}'"))])
def test_either_grade_teaches_what_is_hard(
    provider: SimulatedProvider, careless: SimulatedProvider, tmp_path: Path, grade: str, route: str
) -> None:
    unseen = texts(150, SEED + 1)
    route = route.replace("use: premium}", f"use: premium, verify: {{regex: '{FORMED}', buffer: true}}}}")
    url = careless.base_url if route else provider.base_url
    with running_proxy(tmp_path, files(shadow(grade), route=route, url=url)) as proxy:
        cold = recovered(proxy, unseen)
        for text in texts(120, SEED):
            asked(proxy, text)
        eventually(lambda: len(labels(proxy)) == 120, "a label of each")
        eventually(lambda: recovered(proxy, unseen) >= 0.65, "learning what is hard")
        print(f"recovered {recovered(proxy, unseen):.3f}, cold {cold:.3f}, random 0.500, by {grade}")
