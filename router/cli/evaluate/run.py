"""A labelled set sent through policies as if it were traffic, in its order, and what that kept and cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

from router.cli.evaluate.alike import near_duplicates
from router.cli.evaluate.pair import (
    Costs,
    Lack,
    Pair,
    TooFew,
    compared,
    named_in_most,
    on_too_few_lines,
    pair_of,
)
from router.cli.progress import Work
from router.difficulty.gauge import Gauge
from router.difficulty.labelled import Labelled
from router.difficulty.look import Look, goes_on, key_of, question_of, shape_of
from router.difficulty.measure import Prompt
from router.difficulty.scorer import Label
from router.errors import UnusableFile
from router.policy.backtest.forecast import Course, Known, course_of, unforeseen
from router.policy.decide import Refusal, Route, consider, decide, grade_nusd
from router.policy.facts import Facts
from router.policy.features import Circumstances, facts_of
from router.policy.policy import Policy, PolicySet
from router.policy.purse import purse_of
from router.policy.room import Levels, foreseen, left_usd, tighter, unused
from router.policy.verify import Verify
from router.tokens import Counter
from router.values import NUSD_PER_USD, nusd_cost, short_of, usd_number


@dataclass(frozen=True, slots=True)
class Choice:
    """What the policy did with one prompt."""

    quality: float
    cost_usd: float
    premium: bool
    refused: bool = False
    passed: bool | None = None
    """Whether the first answer passed the rule's checks; None where it has none."""
    escalated: bool = False
    unknown: tuple[str, ...] = ()
    """Checks of the rule that the line can't tell of; they are taken as passed."""
    grade_usd: float | None = None
    """What a judge's grade of the answer costs; None where none is asked."""
    beyond_budget: bool = False
    """Whether it cost more than the budgets let a request cost: a proxy would have cut the answer short."""


@dataclass(frozen=True, slots=True)
class Lacking:
    """Lines that can't be judged, for they have no outcome of a model that is needed there."""

    lines: int
    first: int
    """The number of the first of them."""
    model: str
    """What that one lacks."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """Everything that a report is made of. `scores` are those of all lines; the rest leaves the learned ones out."""

    pair: Pair
    learned: int
    learned_to_line: int | None
    """The last line that was learned: with it all lines before that have an outcome of both models."""
    lacking: Lacking | None
    too_few: dict[str, TooFew]
    scores: list[tuple[str, float]]
    tested: list[Labelled]
    looks: list[Look]
    near_duplicates: int
    """How many of the tested nearly repeat a line before them, be it tested or learned."""
    prompts: list[Prompt]
    choices: list[Choice]


def evaluate_set(rows: list[Labelled], policies: PolicySet, policy: Policy, learn: int, work: Work) -> Evaluated:
    """Feed the first `learn` lines as labels, and send the others through the policy in their order.

    Raises:
        UnusableFile: no line would be left, or no two models can be compared.
    """
    costs = Costs(named_in_most(rows, policy), rows, policies, policy)
    pair = pair_of(costs, policy)
    both, lacks = compared(rows, pair)
    if learn >= len(both):
        raise UnusableFile(f"--learn {learn} leaves no line of {len(both)} to be judged; learn from fewer.")
    gauge = Gauge(policies.weights)
    work.step("Looking at the prompts")
    asked = [(row.chat, question_of(row.chat)) for row in rows]
    gauge.share(policy.task, (question for chat, question in asked if not goes_on(chat, question)))
    labels: list[Label] = []
    if learn:
        work.step(f"Learning from {learn} labels")
        labels = _labels(both[:learn], costs.named, gauge, policies, policy)
        gauge.learn(policy.task, labels)
    readings = {row.line: _read(row, gauge, policy) for row in work.over("Scoring", rows, len(rows))}
    own = (gauge.own_text(policy.task, question) for _, question in asked)
    alike = near_duplicates(work.over("Looking for near duplicates", own, len(rows)))
    repeating = {row.line for row, repeats in zip(rows, alike, strict=True) if repeats}
    counter = Counter()
    tested: list[Labelled] = []
    choices: list[Choice] = []
    for row in work.over("Deciding", both[learn:], len(both) - learn):
        choice = _choice(row, gauge, policies, policy, costs, pair, counter)
        if isinstance(choice, Lack):
            lacks.append(choice)
        else:
            tested.append(row)
            choices.append(choice)
    lacking = _lacking(lacks)
    if not tested and lacking:
        raise UnusableFile(
            f"No line can be judged; line {lacking.first} has none of '{lacking.model[:80]}', which the policy "
            "sends it to or is compared with."
        )
    return Evaluated(
        pair=pair,
        learned=len(labels),
        learned_to_line=both[learn - 1].line if learn else None,
        lacking=lacking,
        too_few=on_too_few_lines(rows, costs, policy, pair),
        scores=[(row.id, readings[row.line][0]) for row in rows],
        tested=tested,
        looks=[readings[row.line][1] for row in tested],
        near_duplicates=sum(row.line in repeating for row in tested),
        prompts=[
            Prompt(
                score=readings[row.line][0],
                cheap=row.outcomes[pair.cheap].quality,
                premium=row.outcomes[pair.premium].quality,
                cheap_usd=costs.usd(row, pair.cheap),
                premium_usd=costs.usd(row, pair.premium),
            )
            for row in tested
        ],
        choices=choices,
    )


def _lacking(lacks: list[Lack]) -> Lacking | None:
    if not lacks:
        return None
    first = min(lacks, key=lambda lack: lack.line)
    return Lacking(len(lacks), first.line, first.model)


def _read(row: Labelled, gauge: Gauge, policy: Policy) -> tuple[float, Look]:
    text = question_of(row.chat)
    reading = gauge.read(policy.task, text, shape_of(row.chat, text), key=key_of(row.chat, row.task))
    return reading.score, reading.look


def _labels(rows: list[Labelled], named: list[str], gauge: Gauge, policies: PolicySet, policy: Policy) -> list[Label]:
    """Make labels of lines, by what these lines alone say of the models: what is judged must not teach.

    Where they say that two other models are to be compared, a line that lacks one of those teaches nothing.
    """
    costs = Costs([name for name in named if any(name in row.outcomes for row in rows)], rows, policies, policy)
    pair = pair_of(costs, policy)
    return [
        Label(
            look=_read(row, gauge, policy)[1],
            gain=row.outcomes[pair.premium].quality - row.outcomes[pair.cheap].quality,
            cost_usd=costs.usd(row, pair.premium) - costs.usd(row, pair.cheap),
        )
        for row in compared(rows, pair)[0]
    ]


def _choice(
    row: Labelled, gauge: Gauge, policies: PolicySet, policy: Policy, costs: Costs, pair: Pair, counter: Counter
) -> Choice | Lack:
    """Decide as the proxy would, every budget of hours, days and months unused.

    A line that has no outcome of a model that it would really be sent to is a Lack.
    """
    levels = unused(policies, policy, None)
    around = Circumstances(gauge=gauge, label=row.task, budget_remaining_usd=left_usd(levels))
    facts = facts_of(row.chat, policies, policy, counter, around)
    if facts.reading:
        gauge.seen(policy.task, facts.reading)
    purse = purse_of(policies, policy, None, None)
    decision = foreseen(
        decide(policies, policy, facts, purse=purse),
        levels,
        lambda each: each.ceiling_nusd,
        lambda level: decide(policies, policy, facts, purse=tighter(purse, level)),
    )
    if facts.reading and decision.rule.premium_share is not None:
        gauge.seen_in(policy.task, decision.rule.name, facts.reading, policy.unsure)
    if isinstance(decision, Refusal):
        return Choice(0.0, 0.0, premium=False, refused=True)
    met = _Met(decision, facts, levels)
    choice = _carried_out(row, met, policies, policy, costs, pair)
    if isinstance(choice, Lack):
        return choice
    return replace(choice, beyond_budget=met.is_dearer_than_may_be(choice.cost_usd))


@dataclass(frozen=True, slots=True)
class _Met:
    """What one prompt met: the decision, the facts that it was made by, and the budgets of hours, days and months."""

    decision: Route
    facts: Facts
    levels: Levels

    def is_dearer_than_may_be(self, cost_usd: float) -> bool:
        return self.decision.purse is not None and round(cost_usd * NUSD_PER_USD) > self.decision.purse.nusd


def _carried_out(
    row: Labelled, met: _Met, policies: PolicySet, policy: Policy, costs: Costs, pair: Pair
) -> Choice | Lack:
    """Carry a decision out: an answer that failed its checks stays where what is left of the request's budget does not
    buy another, or any other budget has no room for one."""
    decision, facts = met.decision, met.facts
    first = decision.candidates[0].model.name
    if lack := costs.lack(row, first, pair):
        return lack
    name = costs.answers_as(first, pair)
    if (verify := decision.rule.verify) is None:
        return Choice(row.outcomes[name].quality, costs.usd(row, name), premium=name == pair.premium)
    known = _known(verify, first, row, costs, pair)
    grade_usd = _grade_usd(verify, policies, facts, costs.answer_tokens(row, name))
    staying = replace(verify, escalate_to=None)
    stayed = course_of(known, first, staying, row.chat, grade_usd=grade_usd)
    if verify.agree and "agree" in stayed.untold and (lack := costs.lack(row, verify.agree.model, pair)):
        return lack
    if stayed.passed or verify.escalate_to in (None, first):
        return _chosen(stayed, verify, grade_usd, premium=name == pair.premium)
    spent_nusd = nusd_cost(Decimal(stayed.cost_usd))
    left = decision.purse and replace(decision.purse, nusd=max(0, decision.purse.nusd - spent_nusd))
    dearer = consider(policies.models[verify.escalate_to], policy, facts, left)
    drawn = [replace(level, spent_nusd=spent_nusd) for level in met.levels]
    if not dearer.fits or short_of(drawn, dearer.ceiling_nusd):
        return _chosen(stayed, verify, grade_usd, premium=name == pair.premium)
    if lack := costs.lack(row, verify.escalate_to, pair):
        return lack
    through = course_of(known, first, verify, row.chat, grade_usd=grade_usd)
    up = costs.answers_as(verify.escalate_to, pair)
    return _chosen(through, verify, grade_usd, premium=up == pair.premium)


def _grade_usd(verify: Verify, policies: PolicySet, facts: Facts, answer_tokens: int) -> float:
    """Return what a judge's grade of an answer costs, by the price of its model; 0 where the rule has no judge."""
    if verify.judge is None:
        return 0.0
    return usd_number(grade_nusd(verify.judge, policies.models[verify.judge.model], facts, answer_tokens))


def _known(verify: Verify, first: str, row: Labelled, costs: Costs, pair: Pair) -> dict[str, Known]:
    """Return what the line says of each model that a cascade may ask; one that it lacks must not be looked at."""
    known = {}
    for model in filter(None, (first, verify.escalate_to)):
        name = costs.answers_as(model, pair)
        if name in row.outcomes:
            known[model] = Known(row.outcomes[name].quality, costs.usd(row, name), row.outcomes[name].answer)
    if verify.agree is not None and verify.agree.model not in known:
        known[verify.agree.model] = _second(verify.agree.model, row, costs, costs.answers_as(first, pair))
    return known


def _second(model: str, row: Labelled, costs: Costs, first: str) -> Known:
    """Return the answer that another must agree with: unknown where the set does not label the model, or labels of it
    the very answer that it is to be held against. It is paid all the same."""
    if model not in costs.named or model not in row.outcomes:
        return Known(0.0, costs.expected_usd(row, model))
    return Known(
        row.outcomes[model].quality, costs.usd(row, model), row.outcomes[model].answer if model != first else None
    )


def _chosen(course: Course, verify: Verify, grade_usd: float, *, premium: bool) -> Choice:
    return Choice(
        course.quality,
        course.cost_usd,
        premium=premium,
        passed=course.passed,
        escalated=course.escalated,
        unknown=(*unforeseen(verify), *course.untold),
        grade_usd=grade_usd if course.judged else None,
    )
