"""Recorded requests decided again, one at a time: what each would cost, to the token and the nano-dollar."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from policy.broken_folder import WHOLE
from policy.loading import load, task
from router.policy.backtest.recorded import Played, Record, read
from router.policy.backtest.replay import Player
from router.policy.record import BUDGET_FACTS
from router.pricing import Catalogue

CAP = 50
"""Tokens that the caller lets an answer have."""
MODELS = """version: 1
models:
  then:
    target: openai/then
    price: {input_usd_per_mtok: 1, output_usd_per_mtok: 10}
  now:
    kind: premium
    target: openai/now
    price: {input_usd_per_mtok: 2, cached_input_usd_per_mtok: 0.2, output_usd_per_mtok: 20}
  # $0.4 and $1.6, $2 and $8, $0.1 and $0.4 for a million tokens.
  either: {targets: [{target: openai/gpt-4.1-mini}, {target: openai/gpt-4.1}, {target: openai/gpt-4.1-nano}]}
"""
USED = {"model": "then", "target": "openai/then", "reason": "answered", "charged_nusd": 777}
FACTS = {
    "input_tokens": 100,
    "input_tokens_by_model": {"then": 100, "now": 150, "either": 100},
    "max_output_tokens": CAP,
    "first_model": "then",
}


def used(**more: Any) -> dict[str, Any]:
    return {**USED, "input_tokens": 100, "output_tokens": 20, **more}


def record(*attempts: dict[str, Any], facts: dict[str, Any], **more: Any) -> Record:
    columns = {
        "id": "1",
        "at": "2026-03-30T10:00:00.000000Z",
        "account": None,
        "task": "support",
        "rule": "all",
        "requested_model": "auto",
        "routed_model": "then",
        "kind": "routine",
        "outcome": "answered",
        "charged_nusd": 777,
        "policy_revision": "of-then",
        **more,
    }
    told = {"attempts": msgspec.json.encode(attempts).decode(), "facts": msgspec.json.encode(FACTS | facts).decode()}
    return msgspec.convert(columns | told, Record)


def player(catalogue: Catalogue, body: str, account: str = "") -> Player:
    default = task("route: [{use: then}]\n", name="default")
    files: dict[str, str | bytes] = {"models.yaml": MODELS, "a-first.yaml": default, "support.yaml": task(body)}
    files["accounts.yaml"] = WHOLE["accounts.yaml"].replace(b"]}", f"]{account}}}".encode())
    return Player(load(catalogue, files).checked())


def play(player: Player, *attempts: dict[str, Any], facts: dict[str, Any] | None = None, **more: Any) -> Played:
    request = read(record(*attempts, facts=facts or {}, **more))
    assert request is not None
    return player.play(request)


@pytest.fixture(scope="module")
def moved(catalogue: Catalogue) -> Player:
    """Plays requests that went to `then` where they go to `now`."""
    return player(catalogue, "expected_output_tokens: 30\nroute: [{use: now}]\n")


@pytest.fixture(scope="module")
def kept(catalogue: Catalogue) -> Player:
    return player(catalogue, "route: [{use: [then, now]}]\n")


CEILING_NUSD = 150 * 2_000 + CAP * 20_000
ANSWER_NUSD = 20 * 20_000
REFUSED: dict[str, Any] = {"outcome": "refused", "routed_model": None, "kind": None, "charged_nusd": 0}


@pytest.mark.parametrize(
    ("usage", "facts", "nusd"),
    [
        ({}, {}, 150 * 2_000 + ANSWER_NUSD),
        ({"input_tokens": 101}, {}, 152 * 2_000 + ANSWER_NUSD),
        ({"cached_tokens": 31}, {}, (150 - 46) * 2_000 + 46 * 200 + ANSWER_NUSD),
        # What was counted as nothing tells no ratio.
        ({}, {"input_tokens_by_model": {"then": 0, "now": 150}}, 100 * 2_000 + ANSWER_NUSD),
        ({"cached_tokens": 100, "output_tokens": CAP}, {}, 150 * 200 + CAP * 20_000),
        ({"cached_tokens": 100, "output_tokens": CAP + 1}, {}, 150 * 200 + CAP * 20_000),
        ({"cached_tokens": 100, "output_tokens": 2 * CAP}, {"n": 2}, 150 * 200 + 2 * CAP * 20_000),
        ({"cached_tokens": 100, "output_tokens": 2 * CAP + 1}, {"n": 2}, 150 * 200 + 2 * CAP * 20_000),
        ({"cached_tokens": 100, "output_tokens": CAP + 8}, {"predicted_tokens": 7}, 150 * 200 + (CAP + 7) * 20_000),
        ({"input_tokens": 399}, {}, CEILING_NUSD),
    ],
    ids=[
        "its input as the other counts it",
        "rounded up",
        "what was cached in the same ratio",
        "no ratio",
        "an answer as long as may be",
        "no longer",
        "of two choices as long as may be",
        "of two choices no longer",
        "a prediction on top",
        "never above the ceiling",
    ],
)
def test_an_answer_of_another_model_is_as_long_as_it_was_and_may_be(
    moved: Player, usage: dict[str, Any], facts: dict[str, Any], nusd: int
) -> None:
    assert play(moved, used(**usage), facts=facts) == Played("otherwise", "now", "now", "premium", nusd)


@pytest.mark.parametrize(
    ("missing", "recounted", "input_tokens"),
    # Of a model whose encoding nobody knows, up to twice as many tokens are taken.
    [((), False, 100), (("now",), True, 200), (("then",), False, 100)],
)
def test_an_input_that_the_model_never_counted_is_told_as_an_estimate(
    moved: Player, missing: tuple[str, ...], recounted: bool, input_tokens: int
) -> None:
    counts = {name: 100 for name in ("then", "now") if name not in missing}
    played = play(moved, used(), facts={"input_tokens_by_model": counts})
    assert (played.recounted, played.nusd) == (recounted, input_tokens * 2_000 + ANSWER_NUSD)


@pytest.mark.parametrize(
    ("facts", "row", "attempts", "nusd"),
    [
        ({}, {"outcome": "held", "charged_nusd": 5}, [], CEILING_NUSD),
        ({"first_model": None}, REFUSED, [], 150 * 2_000 + 30 * 20_000),
        ({}, {"outcome": "failed", "charged_nusd": 0}, [USED | {"reason": "provider_down", "charged_nusd": 0}], 0),
    ],
    ids=["held", "refused", "failed"],
)
def test_what_had_no_answer_is_held_estimated_or_fails_again(
    moved: Player, facts: dict[str, Any], row: dict[str, Any], attempts: list[dict[str, Any]], nusd: int
) -> None:
    assert play(moved, *attempts, facts=facts, **row).nusd == nusd


def test_what_is_refused_now_costs_nothing(catalogue: Catalogue) -> None:
    poor = player(catalogue, "budget: {per_request_usd: 0.000000001}\nroute: [{use: then}]\n")
    assert play(poor, used()) == Played("otherwise", None, None, None, 0)
    refused = play(poor, facts={"first_model": None}, **REFUSED)
    assert refused == Played("otherwise", None, None, None, 0)


@pytest.mark.parametrize(
    ("attempts", "nusd"),
    [
        ([], 777),
        ([USED], 777),
        ([used(), used(output_tokens=30)], 2 * 100 * 1_000 + 50 * 10_000),
        ([used(model="gone", target="openai/gone")], 777),
        ([used(model="either", target="openai/gpt-4.1-mini")], 100 * 400 + 20 * 1_600),
        ([used(model="either", target="openai/gpt-4.1")], 100 * 2_000 + 20 * 8_000),
        ([used(model="either", target="openai/gpt-4.1-nano")], 100 * 100 + 20 * 400),
        ([used(model="either", target="openai/gone")], 100 * 2_000 + 20 * 8_000),
    ],
    ids=[
        "what is only held",
        "no usage",
        "each attempt",
        "a model that is gone",
        "the first target",
        "the dearest target",
        "the last target",
        "the dearest for a target that is gone",
    ],
)
def test_a_decision_that_stands_is_priced_anew_attempt_by_attempt(
    kept: Player, attempts: list[dict[str, Any]], nusd: int
) -> None:
    assert play(kept, *attempts) == Played("otherwise", "then", "then", "routine", nusd)


@pytest.mark.parametrize(("answered_by", "kind"), [("now", "premium"), ("gone", "routine"), (None, "routine")])
def test_who_answered_then_is_of_the_kind_that_it_is_now(kept: Player, answered_by: str | None, kind: str) -> None:
    played = play(kept, used(), routed_model=answered_by)
    assert (played.first_model, played.answered_by, played.kind) == ("then", answered_by, kind)


@pytest.mark.parametrize(
    ("use", "least", "budget", "bound"),
    [
        ("then", 1, "per_day_usd: 0.0009", []),
        ("then", 1, "per_day_usd: 0.000899999", [(1, 0, 0)]),
        ("then", 1, "per_day_usd: 0.0007, hold: expected", []),
        ("then", 1, "per_day_usd: 0.000699999, hold: expected", [(1, 0, 0)]),
        ("now, then", CAP, "per_day_usd: 0.0013", [(1, 1, 0)]),
        ("then", CAP, "per_day_usd: 0.000899999", [(1, 0, 1)]),
    ],
    ids=["room", "cut", "room as expected", "cut as expected", "moved", "refused"],
)
def test_a_budget_binds_a_request_whose_hold_finds_no_room(
    catalogue: Catalogue, use: str, least: int, budget: str, bound: list[tuple[int, int, int]]
) -> None:
    # At `then` the first costs $0.0003; the next holds $0.0006 as a ceiling and $0.0004 as it is expected.
    tokens = f"expected_output_tokens: 30\nmin_output_tokens: {least}\n"
    limited = player(catalogue, f"{tokens}budget: {{{budget}}}\nroute: [{{use: [{use}]}}]\n")
    for _ in range(2):
        play(limited, used())
    assert [(met["requests"], met["downgraded"], met["refused"]) for met in limited.limits.report()] == bound


@pytest.mark.parametrize(("account", "binds"), [("search-team", True), (None, False)])
def test_an_account_s_budget_binds_its_own_requests_alone(
    catalogue: Catalogue, account: str | None, binds: bool
) -> None:
    body = f"min_output_tokens: {CAP}\nroute: [{{use: then}}]\n"
    limited = player(catalogue, body, ", budget: {per_day_usd: 0.000899999}")
    models = [play(limited, used(), account=account).first_model for _ in range(2)]
    assert models == ["then", None if binds else "then"]


def test_a_full_budget_does_not_bind_what_is_refused_without_it(catalogue: Catalogue) -> None:
    poor = "budget: {per_request_usd: 0.000000001, per_day_usd: 0.0003}\nroute: [{use: then}]\n"
    limited = player(catalogue, poor)
    limited.keep("support", None, "2026-03-30T10", 300_000)
    assert play(limited, used()).first_model is None
    assert limited.limits.report() == []


@pytest.mark.parametrize(
    ("when", "budget", "model"),
    [
        ("budget_used_pct: {gte: 50}", "per_hour_usd: 0.0006, per_day_usd: 0.006", "now"),
        ("budget_used_pct: {gt: 50}", "per_hour_usd: 0.0006, per_day_usd: 0.006", "then"),
        ("budget_remaining_usd: {lte: 0.0003}", "per_hour_usd: 0.0006, per_day_usd: 0.006", "now"),
        ("budget_remaining_usd: {lt: 0.0003}", "per_hour_usd: 0.0006, per_day_usd: 0.006", "then"),
        ("budget_used_pct: {gt: 0}", "per_request_usd: 1", "then"),
        ("budget_remaining_usd: {gte: 0}", "per_request_usd: 1", "then"),
    ],
)
def test_rules_see_how_full_the_budgets_are_now_and_not_how_they_were(
    catalogue: Catalogue, when: str, budget: str, model: str
) -> None:
    rules = f"route:\n  - {{when: {{{when}}}, use: now}}\n  - {{use: then}}\n"
    limited = player(catalogue, f"budget: {{{budget}, on_exceeded: warn}}\n{rules}")
    was = {"budget_used_pct": 10.0, "budget_remaining_usd": 0.0001, "looked_at": list(BUDGET_FACTS)}
    limited.keep("support", None, "2026-03-30T10", 300_000)
    assert play(limited, used(), facts=was).first_model == model
