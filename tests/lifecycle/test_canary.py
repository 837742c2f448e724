"""Canaries: who meets one, what it may cost, and how a bad one ends."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from proxy import Proxy, eventually, running_proxy

from lifecycle.conftest import TRIAL, files_for
from router.policy.experiment import Canary, Drawn, Experiment, Side
from router.policy.facts import Facts
from router.policy.trial import trial_of
from router.providers.simulated import SimulatedProvider

HALF = "{canary: {model: trial, share: 0.5}}"
ALL = "{canary: {model: trial, share: 1}"


def _experiment(share: float, sticky_by: str = "conversation", model: str = "trial") -> Experiment:
    return Experiment("default/all", "v1", Canary(model, share, sticky_by))


def _side(experiment: Experiment, facts: Facts) -> Side:
    return trial_of(experiment, facts).side


def _canaries(experiment: Experiment, count: int = 20_000) -> set[int]:
    return {
        number
        for number in range(count)
        if _side(experiment, Facts(input_tokens=1, conversation=f"c{number}")) is Side.CANARY
    }


@pytest.mark.parametrize("share", [0.0, 0.01, 0.25, 0.5, 1.0])
def test_a_share_is_kept_within_four_standard_deviations(share: float) -> None:
    found = len(_canaries(_experiment(share)))
    assert abs(found - 20_000 * share) <= 4 * (20_000 * share * (1 - share)) ** 0.5


def test_raising_a_share_moves_nobody_back() -> None:
    assert _canaries(_experiment(0.05)) < _canaries(_experiment(0.2))


def test_the_next_canary_meets_other_conversations() -> None:
    one, other = _canaries(_experiment(0.1)), _canaries(_experiment(0.1, model="other"))
    assert len(one & other) == pytest.approx(200, abs=80)


def test_an_account_and_a_header_keep_their_side_whatever_the_conversation() -> None:
    for sticky_by, who in (("account", {"account": "a"}), ("header:x-user", {"headers": {"x-user": "a"}})):
        sides = {
            _side(_experiment(0.5, sticky_by), Facts(input_tokens=1, conversation=str(number), **who))
            for number in range(50)
        }
        assert len(sides) == 1


def test_without_the_header_the_conversation_decides() -> None:
    facts = [Facts(input_tokens=1, conversation=str(number)) for number in range(50)]
    by_header, by_conversation = _experiment(0.5, "header:x-user"), _experiment(0.5)
    assert [_side(by_header, each) for each in facts] == [_side(by_conversation, each) for each in facts]


def test_a_request_that_is_decided_again_is_where_it_was() -> None:
    raised = Experiment("default/all", "v2", Canary("trial", 0.2))
    other = Experiment("default/all", "v3", Canary("other", 1.0))
    for number in range(200):
        facts = Facts(input_tokens=1, conversation=f"c{number}")
        trial = trial_of(_experiment(0.05), facts)
        again = Facts(input_tokens=1, experiment=msgspec.convert(trial.recorded(), Drawn))
        assert trial_of(_experiment(0.05), again) == trial
        # What a larger share would do is known from the point; what another model would do is not.
        assert _side(raised, again) == _side(raised, facts)
        assert _side(other, again) is Side.CONTROL
        # One that was promoted or aborted since has the share of then in its files, and so its version.
        assert {_side(_experiment(share), again) for share in (0.0, 1.0)} == {trial.side}


@pytest.mark.parametrize(
    ("point", "share", "side"),
    [(0.0, 0.0, Side.CONTROL), (0.2, 0.2, Side.CONTROL), (0.2, 0.201, Side.CANARY), (0.999, 1.0, Side.CANARY)],
)
def test_a_share_is_of_the_points_below_it(point: float, share: float, side: Side) -> None:
    drawn = Drawn("default/all", "v0", Side.CONTROL, "trial", point)
    assert _side(_experiment(share), Facts(input_tokens=1, experiment=drawn)) is side


def _turns(number: int, answers: int) -> list[dict[str, str]]:
    """Return a conversation that has had so many answers."""
    turns = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": f"Where is parcel {number}?"}]
    for turn in range(answers):
        turns += [{"role": "assistant", "content": f"Which {turn}?"}, {"role": "user", "content": f"That one, {turn}."}]
    return turns


def _model(proxy: Proxy, messages: list[dict[str, str]]) -> str:
    answer = proxy.ask(messages=messages, max_tokens=5)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-farthing-model"]


def test_a_conversation_stays_on_its_side_in_every_replica(provider: SimulatedProvider, tmp_path: Path) -> None:
    files = files_for(provider, HALF)
    with running_proxy(tmp_path / "one", files) as one, running_proxy(tmp_path / "other", files) as other:
        models = set()
        for number in range(12):
            found = {_model(one, _turns(number, 0)), _model(other, _turns(number, 1)), _model(one, _turns(number, 2))}
            assert len(found) == 1
            models |= found
        assert models == {"plain", "trial"}
        sides = {row["facts"]["experiment"]["side"]: row["routed_model"] for row in one.rows()}
        assert sides == {"canary": "trial", "control": "plain"}


def test_a_canary_that_does_not_fit_the_budget_leaves_the_request_to_the_rule(
    provider: SimulatedProvider, tmp_path: Path
) -> None:
    files = files_for(provider, "{canary: {model: dear, share: 1}}")
    files["default"] += "budget: {per_request_usd: 0.0001}\n"
    with running_proxy(tmp_path, files) as proxy:
        answer = proxy.ask()
        assert (answer.status_code, answer.headers["x-farthing-model"]) == (200, "plain")
        assert "experiment" not in proxy.row_of(answer)["facts"]


def test_a_canary_that_fails_is_stood_in_for_and_its_error_counted(provider: SimulatedProvider, tmp_path: Path) -> None:
    provider.faults.always("status=500", model=TRIAL)
    with running_proxy(tmp_path, files_for(provider, ALL + "}")) as proxy:
        answer = proxy.ask()
        assert (answer.status_code, answer.headers["x-farthing-model"]) == (200, "plain")
        assert proxy.metric("farthing_experiment_requests_total", side="canary", result="failed") == 1


def _state(proxy: Proxy) -> str:
    states = ("paused", "running", "aborted", "promoted")
    return " ".join(state for state in states if proxy.metric("farthing_experiment_state", state=state))


ABORT = ALL + ", abort_when: {after_requests: 5, error_rate: {gt: 0.3}}}"


def test_a_bad_canary_ends_by_itself_and_stays_ended_after_a_restart(
    provider: SimulatedProvider, tmp_path: Path
) -> None:
    provider.faults.always("status=500", model=TRIAL)
    files = files_for(provider, ABORT)
    with running_proxy(tmp_path, files) as proxy:
        for _ in range(4):
            assert proxy.ask().status_code == 200
        assert _state(proxy) == "running"
        assert proxy.ask().status_code == 200
        eventually(lambda: _state(proxy) == "aborted", "an aborted canary")
        provider.calls.clear()
        assert proxy.ask().headers["x-farthing-model"] == "plain"
        assert [call.body["model"] for call in provider.calls] == ["gpt-4o-mini"]
    with running_proxy(tmp_path, files) as proxy:
        assert _state(proxy) == "aborted"
        assert proxy.ask().headers["x-farthing-model"] == "plain"


def test_an_edit_of_the_experiment_starts_it_afresh(provider: SimulatedProvider, tmp_path: Path) -> None:
    provider.faults.always("status=500", model=TRIAL)
    files = files_for(provider, ABORT)
    with running_proxy(tmp_path, files) as proxy:
        for _ in range(5):
            proxy.ask()
        eventually(lambda: _state(proxy) == "aborted", "an aborted canary")
        provider.faults.always("", model=TRIAL)
        proxy.rewrite(default=files["default"].replace("after_requests: 5", "after_requests: 6"))
        eventually(lambda: proxy.ask().headers["x-farthing-model"] == "trial", "a canary that runs again")
        assert _state(proxy) == "running"


def test_what_one_replica_aborts_every_replica_aborts(provider: SimulatedProvider, tmp_path: Path) -> None:
    provider.faults.always("status=500", model=TRIAL)
    files = files_for(provider, ABORT)
    # Both have the same folder, and so the same ledger.
    with running_proxy(tmp_path, files) as one, running_proxy(tmp_path, files) as other:
        for _ in range(3):
            assert one.ask().status_code == 200
            assert other.ask().status_code == 200
        eventually(lambda: _state(one) == _state(other) == "aborted", "two aborted canaries")
        assert other.ask().headers["x-farthing-model"] == "plain"


def test_a_good_canary_is_promoted_to_every_request(provider: SimulatedProvider, tmp_path: Path) -> None:
    guards = ", promote_when: {after_requests: 5, error_rate: {lte: 0}, latency_p95_ms: {lt: 60000}}}"
    experiment = "{canary: {model: trial, share: 0.5}" + guards
    with running_proxy(tmp_path, files_for(provider, experiment)) as proxy:
        for number in range(40):
            _model(proxy, _turns(number, 0))
        eventually(lambda: _state(proxy) == "promoted", "a promoted canary")
        assert {_model(proxy, _turns(number, 0)) for number in range(10)} == {"trial"}


def test_an_operator_sees_where_an_experiment_stands(provider: SimulatedProvider, tmp_path: Path) -> None:
    provider.faults.always("status=500", model=TRIAL)
    with running_proxy(tmp_path, files_for(provider, ABORT), settings={"admin_key": "k"}) as proxy:
        for _ in range(5):
            proxy.ask()
        eventually(lambda: _state(proxy) == "aborted", "an aborted canary")
        headers = {"authorization": "Bearer k"}
        [found] = proxy.http.get("/admin/experiments", headers=headers).json()["experiments"]
        assert (found["state"], found["requests"], found["canary"]["share"]) == ("aborted", 5, 0.0)
        assert found["because"] == "error_rate of 1 is above 0.3 over 5 requests"
        spent = proxy.http.get("/admin/spend", headers=headers).json()
        assert spent["requests"] == 5
