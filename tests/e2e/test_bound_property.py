"""No request costs more than its budget, as a property over random policies, prices and providers.

All in one process: only the provider is a stand-in.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from router.budgets.contract import Answer as StoreAnswer
from router.budgets.contract import Hold
from router.budgets.memory import MemoryBudgets
from router.chat import ChatBody
from router.errors import AnswerBroken, FarthingError, ProviderOverloaded, ProviderTimedOut
from router.pipeline import Arrival, Parts, Pipeline
from router.policy.policy import Budget, Policy, PolicySet, Rule
from router.policy.target import Model, Target
from router.policy.verify import Agree, Judge, Verify
from router.pricing import Price
from router.pricing.price import Bracket, Rates, Schedule
from router.providers.breaker import Breakers
from router.providers.contract import Answer, AnswerStream, Call, Chunk
from router.tokens import Counter, rules_for
from router.values import Ending, Outcome, Scope, Usage

RULES = rules_for("openai", "gpt-4o-mini")
TOKENS = Counter()
WORD = " word"
"""One token."""


@dataclass(slots=True)
class Conduct:
    """What the provider does with one call, as fractions of what it may."""

    input_share: float
    output_share: float
    cached_share: float
    reasoning_share: float
    told: bool
    """Whether it reports its usage."""
    failure: str | None
    excess: float
    """How many times the limit it gives; 1.0 keeps to it."""
    is_json: bool


@dataclass(slots=True)
class Lane:
    """A provider that behaves as the example says, call by call."""

    conducts: Iterator[Conduct]
    honest: bool = True

    async def whole(self, call: Call) -> Answer:
        await asyncio.sleep(0)
        conduct, usage, visible = self._play(call)
        text = '"x"' if conduct.is_json else WORD * visible
        message = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        body = json.dumps({"choices": [message]}).encode()
        counted = WORD * visible
        return Answer(body, usage if conduct.told else None, "m", (counted,), "stop", 0.0)

    async def stream(self, call: Call) -> AnswerStream:
        await asyncio.sleep(0)
        conduct, usage, visible = self._play(call)
        return Stream(visible, usage if conduct.told else None, broken=conduct.failure == "late")

    async def aclose(self) -> None:
        pass

    def _play(self, call: Call) -> tuple[Conduct, Usage, int]:
        conduct = next(self.conducts)
        chat = ChatBody(call.body).chat
        if conduct.failure == "overloaded":
            raise ProviderOverloaded("busy", retry_after_s=0)
        if conduct.failure == "timeout":
            raise ProviderTimedOut("slow")
        if conduct.failure == "broken":
            raise AnswerBroken("broken")
        limit = chat.asked_output_tokens
        limit = call.target.max_output_tokens if limit is None else limit
        predicted = len(chat.prediction["content"].split()) if chat.prediction else 0
        most_out = math.floor((limit * chat.choices + predicted) * conduct.excess)
        most_in = TOKENS.count_input(chat, RULES)
        read = math.floor(most_in * conduct.input_share)
        # Long answers are only reported, for a count of a million words takes too long here.
        written = math.floor(most_out * conduct.output_share)
        thought = math.floor(written * conduct.reasoning_share) if conduct.told else 0
        visible = min(written - thought, 3_000)
        if not conduct.told:
            written = visible
        if conduct.excess > 1:
            self.honest = False
        cached = math.floor(read * conduct.cached_share)
        usage = Usage(read, written, cached_tokens=cached, reasoning_tokens=thought)
        return conduct, usage, visible


class Stream:
    """An answer in a few chunks, its usage last."""

    first_byte_s = 0.0

    def __init__(self, visible: int, usage: Usage | None, *, broken: bool) -> None:
        sizes = [visible // 4] * 3 + [visible - 3 * (visible // 4)]
        self._chunks = [Chunk(b"data: {}\n\n", texts={0: WORD * size} if size else {}) for size in sizes]
        if broken:
            del self._chunks[2:]
        elif usage is not None:
            self._chunks.append(Chunk(b"", usage=usage))
        self._broken = broken

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self

    async def __anext__(self) -> Chunk:
        if self._chunks:
            return self._chunks.pop(0)
        if self._broken:
            self._broken = False
            raise AnswerBroken("broken")
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self._chunks.clear()


@dataclass(slots=True)
class Recorder:
    """Stands where the ledger's writer does; commits at once."""

    rows: list[Outcome] = field(default_factory=list)
    not_ready: str | None = None

    def record(self, outcome: Outcome) -> asyncio.Event:
        self.rows.append(outcome)
        committed = asyncio.Event()
        committed.set()
        return committed


class Distant(MemoryBudgets):
    """A store that answers no sooner than the next turn of the loop, as one beyond a socket does."""

    async def hold(self, hold: Hold) -> StoreAnswer:
        await asyncio.sleep(0)
        return await super().hold(hold)


shares = st.floats(0, 1)
rates = st.integers(0, 100_000_000_000)
"""nUSD per million tokens: up to $100."""
money = st.integers(0, 30_000_000) | st.integers(0, 2_000_000_000)


@st.composite
def prices(draw: st.DrawFn) -> Price:
    def level() -> Rates:
        own = {"input": draw(rates), "output": draw(rates)}
        for name in ("cached_input", "reasoning", "cache_write"):
            if draw(st.booleans()):
                own[name] = draw(rates)
        return Rates.filled(own)  # type: ignore[arg-type]  the names are token classes

    brackets = [Bracket(-1, level())]
    if draw(st.booleans()):
        brackets.append(Bracket(draw(st.integers(0, 300)), level()))
    return Price((Schedule("default", tuple(brackets)),), request_nusd=draw(st.sampled_from([0, 0, 1, 50_000])))


@st.composite
def models(draw: st.DrawFn, name: str) -> Model:
    targets = tuple(
        Target(
            provider="openai",
            model=f"{name}-{index}",
            price=draw(prices()),
            token_rules=RULES,
            max_output_tokens=draw(st.sampled_from([16, 100, 4_096, 16_384])),
            output_limit_known=draw(st.booleans()),
            context_tokens=draw(st.sampled_from([None, None, 400, 128_000])),
        )
        for index in range(draw(st.integers(1, 2)))
    )
    return Model(name=name, kind="routine", targets=targets, retries=draw(st.integers(0, 2)))


@st.composite
def policy_sets(draw: st.DrawFn) -> PolicySet:
    names = ("a", "b", "c")[: draw(st.integers(1, 3))]
    use = st.lists(st.sampled_from(names), min_size=1, unique=True).map(tuple)
    maybe = st.none() | money

    def rule(number: int) -> Rule:
        verify = None
        if draw(st.booleans()):
            verify = Verify(
                json=draw(st.booleans()),
                agree=Agree(draw(st.sampled_from(names)), "exact") if draw(st.booleans()) else None,
                judge=Judge(draw(st.sampled_from(names)), "Good?", 0.5) if draw(st.booleans()) else None,
                escalate_to=draw(st.none() | st.sampled_from(names)),
                buffer=draw(st.booleans()),
            )
        prefer = draw(st.sampled_from(["order", "cheapest"]))
        return Rule(f"r{number}", draw(use), prefer=prefer, verify=verify)

    def budget() -> Budget:
        return Budget(
            per_request_nusd=draw(maybe),
            per_day_nusd=draw(st.none() | st.integers(1, 3_000_000_000)),
            on_exceeded=draw(st.sampled_from(["downgrade", "reject"])),
        )

    policy = Policy(
        task="default",
        rules=tuple(rule(number) for number in range(draw(st.integers(1, 2)))),
        baseline=draw(st.none() | st.sampled_from(names)),
        budget=budget(),
        min_output_tokens=draw(st.sampled_from([1, 64, 500])),
        prompts=MappingProxyType({names[0]: "Be brief."} if draw(st.booleans()) else {}),
    )
    by_name = {name: draw(models(name)) for name in names}
    return PolicySet("r", MappingProxyType(by_name), MappingProxyType({"default": policy}), budget=budget())


@st.composite
def bodies(draw: st.DrawFn) -> tuple[dict[str, Any], int | None]:
    body: dict[str, Any] = {
        "model": draw(st.sampled_from(["auto", "auto", "a"])),
        "messages": [
            {"role": "system", "content": "Be " + "very " * draw(st.integers(0, 50)) + "kind."},
            {"role": "user", "content": "word " * draw(st.integers(0, 300))},
        ],
        "stream": draw(st.booleans()),
    }
    for name, values in (
        ("n", st.integers(1, 5)),
        ("max_tokens", st.integers(1, 20_000)),
        ("max_completion_tokens", st.integers(1, 20_000)),
    ):
        if draw(st.booleans()):
            body[name] = draw(values)
    if draw(st.integers(0, 3)) == 0:
        body["prediction"] = {"type": "content", "content": "word " * draw(st.integers(1, 100))}
    return body, draw(st.none() | money)


conducts = st.builds(
    Conduct,
    input_share=shares | st.just(1.0),
    output_share=shares | st.just(1.0),
    cached_share=shares,
    reasoning_share=shares,
    told=st.booleans(),
    failure=st.sampled_from([None, None, None, "overloaded", "timeout", "broken", "late"]),
    excess=st.just(1.0),
    is_json=st.booleans(),
)
liars = st.builds(
    Conduct,
    input_share=shares,
    output_share=shares,
    cached_share=shares,
    reasoning_share=shares,
    told=st.booleans(),
    failure=st.sampled_from([None, None, "late", "broken"]),
    excess=st.floats(1, 5),
    is_json=st.booleans(),
)


async def carry(pipeline: Pipeline, arrival: Arrival) -> None:
    """Send one request through and read its answer, whatever it is."""
    try:
        if not arrival.body.chat.stream:
            await pipeline.whole(arrival)
            return
        answer = await pipeline.stream(arrival)
        try:
            async for _ in answer.pieces():
                pass
        finally:
            await answer.aclose()
    except FarthingError:
        pass


def bound_of(policies: PolicySet, budget_nusd: int | None) -> int | None:
    limits = (policies.budget.per_request_nusd, policies.policies["default"].budget.per_request_nusd, budget_nusd)
    return min((limit for limit in limits if limit is not None), default=None)


def check(policies: PolicySet, asked: list[tuple[dict[str, Any], int | None]], lane: Lane) -> list[Outcome]:
    """Carry the requests one after the other; check what holds whatever the provider does, and return the outcomes."""
    outcomes: list[Outcome] = []
    ledger, budgets = Recorder(), Distant(lambda: 1e9)
    breakers = Breakers(0, lambda *_: None)
    parts = Parts(
        lambda: policies, TOKENS, budgets, ledger, lambda _: lane, breakers, outcomes.append, lambda *_: None,
        lambda: 1e9,
    )  # fmt: skip
    pipeline = Pipeline(parts)

    async def everything() -> None:
        for number, (body, budget_nusd) in enumerate(asked):
            chat = ChatBody(json.dumps(body).encode())
            await carry(pipeline, Arrival(str(number), 1e9, time.perf_counter(), chat, None, {}, None, budget_nusd))

    RUNNER.run(everything())
    windowed = any(b.per_day_nusd is not None for b in (policies.budget, policies.policies["default"].budget))
    for outcome, (_, budget_nusd) in zip(outcomes, asked, strict=True):
        bound = bound_of(policies, budget_nusd)
        assert outcome.charged_nusd == sum(attempt.charge_nusd for attempt in outcome.attempts)
        passed_nusd = max(0, outcome.charged_nusd - bound) if bound is not None else 0
        if windowed:
            # A day that had less left than the request's own limit bounds the request too, and is metered alike.
            assert passed_nusd <= outcome.over_budget_nusd <= outcome.charged_nusd
            assert outcome.charged_nusd - outcome.held_nusd <= outcome.over_budget_nusd
        else:
            assert outcome.over_budget_nusd == passed_nusd
        assert 0 <= outcome.overhead_nusd <= outcome.charged_nusd
        if outcome.ending is Ending.REFUSED:
            assert outcome.charged_nusd == outcome.held_nusd == 0
    settled = [row for row in ledger.rows if row.ending is not Ending.HELD]
    assert settled == outcomes
    for kind, name, budget in (
        ("task", "default", policies.policies["default"].budget),
        ("global", "all", policies.budget),
    ):
        if budget.per_day_nusd is not None:
            scope = Scope(kind, name, "day", budget.per_day_nusd)  # type: ignore[arg-type]  the kinds above
            (level,) = RUNNER.run(budgets.levels([scope]))
            assert level.held_nusd == 0
            assert level.spent_nusd == sum(outcome.charged_nusd for outcome in outcomes)
            if lane.honest:
                assert level.spent_nusd <= budget.per_day_nusd
    return outcomes


@pytest.fixture(scope="module", autouse=True)
def _runner() -> Iterator[None]:
    with RUNNER:
        yield


RUNNER = asyncio.Runner()
PROPERTY = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@PROPERTY
@given(policy_sets(), st.lists(bodies(), min_size=1, max_size=3), st.lists(conducts, min_size=60, max_size=60))
def test_what_is_charged_never_passes_the_budget_of_a_request_whose_provider_keeps_its_limit(
    policies: PolicySet, asked: list[tuple[dict[str, Any], int | None]], conducted: list[Conduct]
) -> None:
    for outcome, (_, budget_nusd) in zip(check(policies, asked, Lane(iter(conducted))), asked, strict=True):
        event(outcome.ending.value)
        bound = bound_of(policies, budget_nusd)
        assert outcome.over_budget_nusd == 0
        assert bound is None or outcome.charged_nusd <= bound
        assert outcome.charged_nusd <= outcome.held_nusd


@PROPERTY
@given(policy_sets(), st.lists(bodies(), min_size=1, max_size=3), st.lists(liars, min_size=60, max_size=60))
def test_what_passes_the_budget_is_metered_where_a_provider_does_not_keep_its_limit(
    policies: PolicySet, asked: list[tuple[dict[str, Any], int | None]], conducted: list[Conduct]
) -> None:
    for outcome in check(policies, asked, Lane(iter(conducted))):
        event(f"{outcome.ending.value}, {'over' if outcome.over_budget_nusd else 'within'}")


def test_a_candidate_tried_while_a_second_answer_is_being_held_draws_on_what_that_leaves() -> None:
    def model(name: str, output_nusd: int) -> Model:
        rates = Rates.filled({"input": 150_000_000, "output": output_nusd})
        target = Target(
            provider="openai",
            model=name,
            price=Price((Schedule("default", (Bracket(-1, rates),)),)),
            token_rules=RULES,
            max_output_tokens=16_384,
            output_limit_known=True,
            context_tokens=None,
        )
        return Model(name=name, kind="routine", targets=(target,), retries=0)

    rule = Rule("r", ("cheap", "dear"), verify=Verify(agree=Agree("second", "exact")))
    policy = Policy("default", rules=(rule,), budget=Budget(per_request_nusd=1_000_000))
    models = {each.name: each for each in (model("cheap", 10), model("dear", 10**9), model("second", 5 * 10**8))}
    policies = PolicySet("r", MappingProxyType(models), MappingProxyType({"default": policy}))
    at_the_limit = Conduct(1.0, 1.0, 0.0, 0.0, told=True, failure=None, excess=1.0, is_json=True)
    lane = Lane(iter([replace(at_the_limit, failure="overloaded"), at_the_limit, at_the_limit]))
    body = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1_000}
    (outcome,) = check(policies, [(body, None)], lane)
    assert [attempt.model for attempt in outcome.attempts] == ["cheap", "second", "dear"]
    assert outcome.charged_nusd <= 1_000_000
