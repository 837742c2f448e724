"""A labelled set sent through policies as if it were traffic, in its order, and what that kept and cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

from router.cli.evaluate.alike import near_duplicates
from router.cli.evaluate.pair import Costs, Lacking, Pair, complete, named_in_all, pair_of
from router.cli.progress import Work
from router.difficulty.gauge import Gauge
from router.difficulty.labelled import Labelled
from router.difficulty.look import Look, key_of, shape_of
from router.difficulty.measure import Prompt
from router.difficulty.scorer import Label
from router.errors import UnusableFile
from router.policy.backtest.forecast import Known, course_of, unforeseen
from router.policy.decide import Refusal, consider, decide, grade_nusd
from router.policy.facts import Facts
from router.policy.features import Circumstances, facts_of
from router.policy.policy import Policy, PolicySet
from router.policy.purse import purse_of
from router.policy.room import foreseen, left_usd, tighter, unused
from router.policy.verify import Verify
from router.tokens import Counter
from router.values import nusd_cost, short_of, usd_number


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


@dataclass(frozen=True, slots=True)
class Evaluated:
    """Everything that a report is made of. `scores` are those of all lines; the rest leaves the learned ones out."""

    pair: Pair
    learned: int
    lacking: Lacking | None
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
    whole, lacking = complete(rows, policy)
    if learn >= len(whole):
        raise UnusableFile(f"--learn {learn} leaves no line of {len(whole)} to be judged; learn from fewer.")
    named = named_in_all(whole)
    costs = Costs(named, whole, policies, policy)
    pair = pair_of(costs, policy)
    gauge = Gauge(policies.weights)
    work.step("Looking at the prompts")
    gauge.share(policy.task, (row.chat.last_user_text() for row in rows))
    if learn:
        work.step(f"Learning from {learn} labels")
        gauge.learn(policy.task, _labels(whole[:learn], named, gauge, policies, policy))
    readings = {row.line: _read(row, gauge, policy) for row in work.over("Scoring", rows, len(rows))}
    tested = whole[learn:]
    counter = Counter()
    own = (gauge.own_text(policy.task, row.chat.last_user_text()) for row in rows)
    alike = near_duplicates(work.over("Looking for near duplicates", own, len(rows)))
    repeating = {row.line for row, repeats in zip(rows, alike, strict=True) if repeats}
    return Evaluated(
        pair=pair,
        learned=learn,
        lacking=lacking,
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
        choices=[
            _choice(row, gauge, policies, policy, costs, pair, counter)
            for row in work.over("Deciding", tested, len(tested))
        ],
    )


def _read(row: Labelled, gauge: Gauge, policy: Policy) -> tuple[float, Look]:
    text = row.chat.last_user_text()
    reading = gauge.read(policy.task, text, shape_of(row.chat, len(text)), key=key_of(row.chat, row.task))
    return reading.score, reading.look


def _labels(rows: list[Labelled], named: list[str], gauge: Gauge, policies: PolicySet, policy: Policy) -> list[Label]:
    """Make labels of lines, by what these lines alone say of the models: what is judged must not teach."""
    costs = Costs(named, rows, policies, policy)
    pair = pair_of(costs, policy)
    return [
        Label(
            look=_read(row, gauge, policy)[1],
            gain=row.outcomes[pair.premium].quality - row.outcomes[pair.cheap].quality,
            cost_usd=costs.usd(row, pair.premium) - costs.usd(row, pair.cheap),
        )
        for row in rows
    ]


def _choice(
    row: Labelled, gauge: Gauge, policies: PolicySet, policy: Policy, costs: Costs, pair: Pair, counter: Counter
) -> Choice:
    """Decide as the proxy would, every budget of hours, days and months unused.

    An answer that failed its checks stays where what is left of the request's budget does not buy another, or any
    other budget has no room for one.
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
    first = decision.candidates[0].model.name
    if (verify := decision.rule.verify) is None:
        name = costs.answers_as(first, pair)
        return Choice(row.outcomes[name].quality, costs.usd(row, name), premium=name == pair.premium)
    grade_usd = _grade_usd(verify, policies, facts, costs.answer_tokens(row, costs.answers_as(first, pair)))
    through = _through(verify, first, row, costs, pair, grade_usd)
    if not through.escalated or verify.escalate_to is None:
        return through
    stayed = _through(replace(verify, escalate_to=None), first, row, costs, pair, grade_usd)
    spent_nusd = nusd_cost(Decimal(stayed.cost_usd))
    left = decision.purse and replace(decision.purse, nusd=max(0, decision.purse.nusd - spent_nusd))
    dearer = consider(policies.models[verify.escalate_to], policy, facts, left)
    drawn = [replace(level, spent_nusd=spent_nusd) for level in levels]
    return through if dearer.fits and not short_of(drawn, dearer.ceiling_nusd) else stayed


def _grade_usd(verify: Verify, policies: PolicySet, facts: Facts, answer_tokens: int) -> float:
    """Return what a judge's grade of an answer costs, by the price of its model; 0 where the rule has no judge."""
    if verify.judge is None:
        return 0.0
    return usd_number(grade_nusd(verify.judge, policies.models[verify.judge.model], facts, answer_tokens))


def _through(verify: Verify, first: str, row: Labelled, costs: Costs, pair: Pair, grade_usd: float) -> Choice:
    """Carry one prompt through a cascade."""
    known = {}
    for model in filter(None, (first, verify.escalate_to)):
        name = costs.answers_as(model, pair)
        known[model] = Known(row.outcomes[name].quality, costs.usd(row, name), row.outcomes[name].answer)
    if verify.agree is not None and verify.agree.model not in known:
        known[verify.agree.model] = _second(verify.agree.model, row, costs, costs.answers_as(first, pair))
    course = course_of(known, first, verify, row.chat, grade_usd=grade_usd)
    answering = verify.escalate_to if course.escalated and verify.escalate_to else first
    return Choice(
        course.quality,
        course.cost_usd,
        premium=costs.answers_as(answering, pair) == pair.premium,
        passed=course.passed,
        escalated=course.escalated,
        unknown=(*unforeseen(verify), *course.untold),
        grade_usd=grade_usd if course.judged else None,
    )


def _second(model: str, row: Labelled, costs: Costs, first: str) -> Known:
    """Return the answer that another must agree with: unknown where the set does not label the model, or labels of it
    the very answer that it is to be held against. It is paid all the same."""
    if model in costs.named and model != first:
        return Known(row.outcomes[model].quality, costs.usd(row, model), row.outcomes[model].answer)
    return Known(0.0, costs.usd(row, model) if model in costs.named else costs.expected_usd(row, model))
