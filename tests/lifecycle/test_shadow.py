"""Shadows: they cost what they may, say how they agree, and never touch a caller's answer."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from proxy import Proxy, Row, eventually, ledger_rows, running_provider, running_proxy, said

from lifecycle.conftest import PLAIN, TRIAL, files_for
from router.chat import Chat
from router.lifecycle.agreement import agreement_of
from router.providers.simulated import SimulatedProvider, Simulation

SHADOW = "{shadow: {model: trial, budget_per_day_usd: 1}}"


def _shadows(proxy: Proxy) -> list[Row]:
    return [row for row in proxy.rows() if row["outcome"] == "shadow"]


def _shadow_of(proxy: Proxy, request_id: str) -> Row:
    return proxy.row(request_id + ".s")


def test_a_hanging_shadow_holds_no_byte_back(provider: SimulatedProvider, tmp_path: Path) -> None:
    provider.faults.always("silence=0", model=TRIAL)
    with running_proxy(tmp_path, files_for(provider, SHADOW)) as proxy:
        for _ in range(20):
            body = {"model": "auto", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
            with proxy.http.stream("POST", "/v1/chat/completions", json=body) as answer:
                text = answer.read().decode()
            assert text.endswith("data: [DONE]\n\n")
            assert said(text)
            assert proxy.ask().status_code == 200
        hanging = [call for call in provider.calls if call.body["model"] == TRIAL]
        assert hanging
        assert all(call.ended_at is None for call in hanging)


def test_an_answer_is_the_same_bytes_with_a_shadow_and_without(provider: SimulatedProvider, tmp_path: Path) -> None:
    with (
        running_proxy(tmp_path / "with", files_for(provider, SHADOW)) as shadowed,
        running_proxy(tmp_path / "without", files_for(provider, SHADOW.replace("1}}", "1, share: 0}}"))) as plain,
    ):
        ours, theirs = (proxy.ask(seed=7).json() for proxy in (shadowed, plain))
        assert ours["choices"] == theirs["choices"]
        eventually(lambda: _shadows(shadowed), "a shadow's row")
        assert _shadows(plain) == []


def test_a_shadow_is_overhead_in_a_row_of_its_own(provider: SimulatedProvider, tmp_path: Path) -> None:
    with running_proxy(tmp_path, files_for(provider, SHADOW), settings={"admin_key": "k"}) as proxy:
        answer = proxy.ask()
        own = proxy.row_of(answer)
        shadow = _shadow_of(proxy, own["id"])
        assert (own["routed_model"], own["overhead_nusd"], own["facts"]["experiment"]["side"]) == (
            "plain",
            0,
            "control",
        )
        assert (shadow["outcome"], shadow["routed_model"], shadow["account"]) == ("shadow", "trial", None)
        assert shadow["overhead_nusd"] == shadow["charged_nusd"] > 0
        assert shadow["baseline_nusd"] == 0
        assert 0 <= shadow["facts"]["agreement"] <= 1
        overhead_nusd = proxy.metric_nusd("farthing_overhead_cost_usd_total", reason="shadow")
        assert overhead_nusd == shadow["charged_nusd"]
        assert proxy.metric_nusd("farthing_cost_usd_total") == own["charged_nusd"] + shadow["charged_nusd"]
        assert proxy.metric("farthing_requests_total") == 1
        spent = proxy.http.get("/admin/spend", headers={"authorization": "Bearer k"}).json()
        assert (spent["requests"], spent["overhead_usd"]) == (1, shadow["charged_nusd"] / 1e9)
        spent_usd = proxy.metric("farthing_budget_spent_usd", scope="shadow", name="default/all")
        assert spent_usd == pytest.approx(shadow["charged_nusd"] / 1e9)


def test_no_text_of_a_shadow_is_kept(provider: SimulatedProvider, tmp_path: Path) -> None:
    with running_proxy(tmp_path, files_for(provider, SHADOW)) as proxy:
        answer = proxy.ask("Where is parcel QX77?")
        shadow = _shadow_of(proxy, answer.headers["x-farthing-request-id"])
        said_by_shadow = provider.calls[-1]
        assert said_by_shadow.body["messages"][0]["content"] == "Where is parcel QX77?"
        assert "QX77" not in json.dumps(shadow)
        assert answer.json()["choices"][0]["message"]["content"] not in json.dumps(shadow)


def test_a_stream_is_mirrored_whole(provider: SimulatedProvider, tmp_path: Path) -> None:
    with running_proxy(tmp_path, files_for(provider, SHADOW)) as proxy:
        answer = proxy.ask(stream=True, stream_options={"include_usage": True})
        _shadow_of(proxy, answer.headers["x-farthing-request-id"])
        [call] = [call for call in provider.calls if call.body["model"] == TRIAL]
        assert "stream" not in call.body
        assert "stream_options" not in call.body


def test_a_shadows_failure_is_recorded_and_seen_by_nobody(provider: SimulatedProvider, tmp_path: Path) -> None:
    provider.faults.always("status=500", model=TRIAL)
    with running_proxy(tmp_path, files_for(provider, SHADOW)) as proxy:
        answer = proxy.ask()
        shadow = _shadow_of(proxy, answer.headers["x-farthing-request-id"])
        assert (answer.status_code, shadow["charged_nusd"]) == (200, 0)
        assert [attempt["reason"] for attempt in shadow["attempts"]] == ["failed"]
        assert proxy.metric("farthing_experiment_requests_total", side="shadow", result="failed") == 1


CALLERS = 40


def test_a_days_budget_holds_however_many_shadows_run_at_once(provider: SimulatedProvider, tmp_path: Path) -> None:
    # A shadow of 64 tokens holds about $0.00011, so that some seventeen fit.
    limit_nusd = 2_000_000
    experiment = SHADOW.replace("budget_per_day_usd: 1", "budget_per_day_usd: 0.002")
    with running_proxy(tmp_path, files_for(provider, experiment)) as proxy:

        def ask(number: int) -> int:
            return proxy.ask(f"Where is {number}?", max_tokens=64).status_code

        with ThreadPoolExecutor(CALLERS) as pool:
            assert set(pool.map(ask, range(3 * CALLERS))) == {200}

        def all_told() -> bool:
            dropped = proxy.metric("farthing_experiment_shadows_dropped_total", reason="over_budget")
            return dropped > 0 and dropped + len(_shadows(proxy)) == 3 * CALLERS

        eventually(all_told, "every shadow asked or dropped")
        assert 0 < sum(row["charged_nusd"] for row in _shadows(proxy)) <= limit_nusd
        assert proxy.metric("farthing_budget_held_usd", scope="shadow") == 0


def test_a_days_budget_is_still_spent_after_a_restart(provider: SimulatedProvider, tmp_path: Path) -> None:
    files = files_for(provider, SHADOW)
    with running_proxy(tmp_path, files) as proxy:
        _shadow_of(proxy, proxy.ask().headers["x-farthing-request-id"])
        spent_usd = proxy.metric("farthing_budget_spent_usd", scope="shadow")
        assert spent_usd > 0
    with running_proxy(tmp_path, files) as proxy:
        assert proxy.metric("farthing_budget_spent_usd", scope="shadow") == spent_usd


def test_a_shadow_draws_on_its_tasks_budget_and_never_moves_to_another_model(
    provider: SimulatedProvider, tmp_path: Path
) -> None:
    files = files_for(provider, SHADOW.replace("trial", "dear"))
    # The budget takes one request of the rule's own model, and not a shadow of one a dozen times as dear.
    files["default"] += "budget: {per_day_usd: 0.0003}\n"
    with running_proxy(tmp_path, files) as proxy:
        assert proxy.ask(max_tokens=64).status_code == 200
        eventually(
            lambda: proxy.metric("farthing_experiment_shadows_dropped_total", reason="over_budget"), "a dropped shadow"
        )
        assert [call.body["model"] for call in provider.calls] == [PLAIN]


def test_what_finds_no_room_in_the_queue_is_dropped_and_counted(provider: SimulatedProvider, tmp_path: Path) -> None:
    provider.faults.always("silence=0", model=TRIAL)
    with running_proxy(tmp_path, files_for(provider, SHADOW.replace("1}}", "100}}"))) as proxy:
        with ThreadPoolExecutor(16) as pool:
            statuses = set(pool.map(lambda _: proxy.ask(max_tokens=1).status_code, range(300)))
        assert statuses == {200}
        assert proxy.metric("farthing_experiment_shadows_dropped_total", reason="queue_full") == 300 - 256 - 16


def test_shadows_under_way_are_charged_when_the_proxy_stops(provider: SimulatedProvider, tmp_path: Path) -> None:
    provider.faults.always("silence=0", model=TRIAL)
    with running_proxy(tmp_path, files_for(provider, SHADOW)) as proxy:
        request_id = proxy.ask().headers["x-farthing-request-id"]
        eventually(lambda: ledger_rows(proxy.ledger, request_id + ".s"), "a held shadow")
    [shadow] = ledger_rows(proxy.ledger, request_id + ".s")
    assert (shadow["outcome"], shadow["certainty"]) == ("shadow", "counted")
    assert shadow["charged_nusd"] > 0


def test_a_shadow_that_says_the_same_agrees(tmp_path: Path) -> None:
    def answer(chat: Chat, model: str) -> str:
        return "It is in Leeds." if model == PLAIN else "it is in  LEEDS"

    with (
        running_provider(Simulation(answerer=answer)) as provider,
        running_proxy(tmp_path, files_for(provider, SHADOW)) as proxy,
    ):
        shadow = _shadow_of(proxy, proxy.ask().headers["x-farthing-request-id"])
        assert shadow["facts"]["agreement"] == 1.0
        assert proxy.metric("farthing_experiment_agreement_sum") == 1.0


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("", "", 1.0),
        ("Yes.", "yes", 1.0),
        ('{"a": 1, "b": [2]}', '{"b":[2],"a":1}', 1.0),
        ("the parcel is here", "the parcel is there", 0.75),
        ("yes", "no", 0.0),
        ("", "no", 0.0),
        ("…", "!", 0.0),
        ("a a a", "a", 0.5),
        ("[" * 5000, "[" * 5001, 0.0),
    ],
)
def test_agreement_is_what_two_answers_share(one: str, other: str, expected: float) -> None:
    assert agreement_of(one, other) == agreement_of(other, one) == expected
