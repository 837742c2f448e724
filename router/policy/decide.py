"""The decision: which models may answer a request, in which order, with how many tokens, for at most how much.

Pure: the same policies, facts and money give the same answer. It never raises; a refusal is an answer too, and both
carry every candidate that was looked at with the reason why it was taken or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from msgspec import Struct, structs

from router.policy.experiment import Side, Trial
from router.policy.facts import Facts
from router.policy.money import Weighed, weighed
from router.policy.policy import Policy, PolicySet, Rule
from router.policy.target import Model
from router.policy.trial import trial_of
from router.policy.verify import Judge, Verify
from router.policy.warm import Stay, Warm
from router.pricing import Ask
from router.values import Usage, usd_text

GRADE_TOKENS = 4
"""What a judge is expected to answer: one number."""
MOST_GRADE_TOKENS = 256
"""What a judge may answer; a model that reasons needs some room before its number."""
JUDGE_INSTRUCTION_TOKENS = 100
"""About what a judge is told beside the question, the conversation and the answer."""
PINNED = "pinned"
"""The rule's name where the caller named a model of models.yaml; no rule of a policy may bear it."""


class Misfit(StrEnum):
    """Why a candidate can't be tried."""

    ABSENT = "absent"
    ABILITY = "ability"
    CONTEXT = "context"
    MONEY = "money"
    RATE = "rate"


@dataclass(frozen=True, slots=True)
class Purse:
    """What one request may cost, and whose limit that is ("the request's budget in support.yaml")."""

    nusd: int
    whose: str
    code: str = "request_budget_exceeded"
    may_downgrade: bool = True
    anew_at: str | None = None
    """When all of it is there again ("2026-11-23 00:00 UTC"), where that is known."""
    held_nusd: int = 0
    """What requests under way have set aside beside `nusd`; what they don't use comes back before `anew_at`."""


class Candidate(Struct, frozen=True):
    """A model that was looked at for a request, and what it would cost there."""

    model: Model
    misfit: Misfit | None
    reason: str
    input_tokens: int
    max_output_tokens: int = 0
    """The longest answer that is paid for, each of `n`; 0 where it does not fit."""
    clamped: bool = False
    """Whether that limit must be sent, because the caller's own or the model's would allow more."""
    ceiling_nusd: int = 0
    """The dearest this may cost; where it does not fit, the least it would take."""
    estimate_nusd: int = 0

    @property
    def fits(self) -> bool:
        return self.misfit is None


class Route(Struct, frozen=True):
    """Where a request goes: `candidates` fit, are in the order of trying, and are never empty."""

    task: str
    rule: Rule
    revision: str
    candidates: tuple[Candidate, ...]
    considered: tuple[Candidate, ...]
    purse: Purse | None
    downgraded: bool = False
    """Whether money kept the first rule that held from being served as it stands."""
    trial: Trial | None = None
    """Its part in the rule's experiment; None where there is none, or where the canary does not fit it."""
    stay: Stay | None = None
    """What came of comparing a warm cache with the rule's first choice; None where nothing was compared."""
    by_money: Weighed | None = None
    """How a rule by money weighed its models; None where the rule is none."""
    checks_nusd: int = 0
    """What the calls that the rule's checks make, a second answer and a grade, are estimated to cost."""

    @property
    def estimate_nusd(self) -> int:
        """What the request is estimated to cost: its answer and its checks, but no escalation."""
        return self.with_checks_nusd(self.candidates[0].estimate_nusd)

    def with_checks_nusd(self, answer_nusd: int) -> int:
        """Return what an answer and its checks come to; they draw on one purse."""
        both_nusd = answer_nusd + self.checks_nusd
        return min(both_nusd, self.purse.nusd) if self.purse else both_nusd


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request goes nowhere; `code` is one of CONTRACT's, `message` says what it would have taken."""

    task: str
    rule: Rule
    revision: str
    code: str
    message: str
    considered: tuple[Candidate, ...]
    purse: Purse | None


Decision = Route | Refusal


def decide(
    policies: PolicySet, policy: Policy, facts: Facts, *, purse: Purse | None, pinned: str | None = None
) -> Decision:
    """Return where `facts` go under `policy`, with no more than `purse` to spend (None: no limit).

    The first rule that holds is served as it stands where one of its models fits. Where none does, later rules that
    hold are looked at, then every other model of the policy, cheapest first; under `on_exceeded: reject` money is a
    reason to stop instead. A pinned model stands alone.
    """
    considered: dict[str, Candidate] = {}
    first: Rule | None = None
    for rule in _ways(policies, policy, facts, pinned):
        first = first or rule
        trial = trial_of(rule.experiment, facts) if rule.experiment else None
        fresh = [
            considered.setdefault(name, consider(policies.models[name], policy, facts, purse))
            for name in _names(rule, trial)
        ]
        fitting = [candidate for candidate in fresh if candidate.fits]
        if fitting:
            if rule.prefer == "cheapest":
                fitting.sort(key=lambda candidate: candidate.estimate_nusd)
            by_money = _by_money(rule, policies, policy, facts, fitting)
            trial = _led(trial, fitting)
            stay = None
            if rule.sticks and (there := _warm(policies, policy, rule, facts, purse, fitting[0])) and facts.warm:
                stay = _stay(facts.warm, there, fitting[0], facts)
                considered[there.model.name] = structs.replace(there, reason=f"{there.reason}; {stay}")
                if stay.stays:
                    fitting = [there, *(candidate for candidate in fitting if candidate.model is not there.model)]
            return Route(
                task=policy.task,
                rule=first if rule.name == "" else rule,
                revision=policies.revision,
                candidates=tuple(fitting),
                considered=tuple(considered.values()),
                purse=purse,
                downgraded=rule is not first,
                trial=trial,
                stay=stay,
                by_money=by_money,
                checks_nusd=_checks_nusd((rule if rule.name else first).verify, policies, policy, facts, fitting[0]),
            )
        if purse and not purse.may_downgrade and any(c.misfit is Misfit.MONEY for c in fresh):
            break
    assert first is not None, "a policy's last rule always holds"
    code, message = _why_not(policy, facts, tuple(considered.values()), purse)
    return Refusal(policy.task, first, policies.revision, code, message, tuple(considered.values()), purse)


def consider(model: Model, policy: Policy, facts: Facts, purse: Purse | None) -> Candidate:
    """Return whether `model` can serve `facts` within `purse`, and for how much at the most.

    A model with several targets is judged by its narrowest limit and its dearest price, so that any may answer.
    """
    input_tokens = facts.input_tokens_for(model.name)
    if model.absent:
        return Candidate(model, Misfit.ABSENT, f"is left out: {model.absent}", input_tokens)
    if not model.lacks.isdisjoint(facts.has):
        return Candidate(
            model, Misfit.ABILITY, f"can't take {', '.join(sorted(model.lacks & facts.has))}", input_tokens
        )
    own = model.max_output_tokens
    if (context := model.context_tokens) is not None:
        if input_tokens >= context:
            reason = f"{input_tokens:,} input tokens do not fit its context of {context:,}"
            return Candidate(model, Misfit.CONTEXT, reason, input_tokens)
        own = min(own, context - input_tokens)
    asked = facts.max_output_tokens
    most = own if asked is None else min(asked, own)
    least = min(policy.min_output_tokens, most)
    ask = ask_of(facts, input_tokens)
    prices = model.prices
    limit = most
    if purse is not None:
        limit = min(most, *[price.output_tokens_within(purse.nusd, ask) for price in prices])
    if limit < least:
        needs_nusd = max([price.ceiling_nusd(ask, least) for price in prices])
        reason = f"needs ${usd_text(needs_nusd)} for {input_tokens:,} input and {least:,} output tokens"
        return Candidate(model, Misfit.MONEY, reason, input_tokens, ceiling_nusd=needs_nusd)

    ceiling_nusd = max([price.ceiling_nusd(ask, limit) for price in prices])
    estimate_nusd = max([price.estimate_nusd(ask, min(facts.expected_output_tokens, limit)) for price in prices])
    kept_unsent = asked if asked is not None else model.sure_output_tokens
    return Candidate(
        model,
        None,
        f"answers of up to {limit:,} tokens" + (", clamped to the budget" if limit < most else ""),
        input_tokens,
        max_output_tokens=limit,
        clamped=kept_unsent is None or limit < kept_unsent,
        ceiling_nusd=ceiling_nusd,
        estimate_nusd=min(estimate_nusd, ceiling_nusd),
    )


def ask_of(facts: Facts, input_tokens: int) -> Ask:
    """Return what a request asks of a model that counts its input as `input_tokens`."""
    return Ask(
        input_tokens=input_tokens,
        choices=facts.n,
        service_tier=facts.service_tier,
        has=facts.has,
        search_context=facts.search_context,
        predicted_tokens=facts.predicted_tokens,
    )


def _ways(policies: PolicySet, policy: Policy, facts: Facts, pinned: str | None) -> Iterator[Rule]:
    """Yield the rules to try in order; the last, which has no name, is every model that is left, cheapest first."""
    if pinned is not None:
        yield Rule(name=PINNED, use=(pinned,))
        return
    seen: set[str] = set()
    for rule in policy.rules:
        if rule.when.holds(facts):
            seen.update(rule.use)
            yield rule
    left: Iterable[str] = (name for name in policy.models if name not in seen)
    if rest := tuple(left):
        yield Rule(name="", use=rest, prefer="cheapest")


def _names(rule: Rule, trial: Trial | None) -> tuple[str, ...]:
    """Return the models that a rule tries, in order: on a canary's side that one, before the rule's own."""
    canary = trial.experiment.canary if trial and trial.side is Side.CANARY else None
    if canary is None:
        return rule.use
    return (canary.model, *(name for name in rule.use if name != canary.model))


def _by_money(
    rule: Rule, policies: PolicySet, policy: Policy, facts: Facts, fitting: list[Candidate]
) -> Weighed | None:
    """Put those that fit into the order that a rule by money asks for; None where the rule is none."""
    if not rule.by_money:
        return None
    costs_nusd = {name: _full_nusd(policies.models[name], facts) for name in rule.use}
    found = weighed(rule, policy, policies.models, facts, costs_nusd)
    fitting.sort(key=lambda candidate: found.order(candidate.model.name) if candidate.model.name in costs_nusd else 0)
    return found


def _full_nusd(model: Model, facts: Facts) -> int:
    """Estimate what a request costs at a model with as long an answer as is expected, whatever it may cost."""
    ask = ask_of(facts, facts.input_tokens_for(model.name))
    return max([price.estimate_nusd(ask, facts.expected_output_tokens) for price in model.prices])


def _checks_nusd(verify: Verify | None, policies: PolicySet, policy: Policy, facts: Facts, chosen: Candidate) -> int:
    """Estimate the calls that a rule's checks make where its answer passes the checks before them."""
    if verify is None or not verify.beside or (facts.stream and not verify.buffer):
        return 0
    nusd = 0
    if (agree := verify.agree) is not None:
        second = consider(policies.models[agree.model], policy, structs.replace(facts, n=1, stream=False), None)
        nusd += second.estimate_nusd
    if (judge := verify.judge) is not None:
        answer_tokens = facts.n * min(facts.expected_output_tokens, chosen.max_output_tokens)
        nusd += grade_nusd(judge, policies.models[judge.model], facts, answer_tokens)
    return nusd


def grade_nusd(judge: Judge, model: Model, facts: Facts, answer_tokens: int) -> int:
    """Estimate what it costs to let `model`, the judge's, grade an answer so long."""
    ask = Ask(facts.input_tokens_for(judge.model) + answer_tokens + len(judge.question) // 4 + JUDGE_INSTRUCTION_TOKENS)
    return max([price.estimate_nusd(ask, GRADE_TOKENS) for price in model.prices])


def _led(trial: Trial | None, fitting: list[Candidate]) -> Trial | None:
    """Put the canary first among those that fit; a request that it does not fit has no part in the experiment."""
    canary = trial.experiment.canary if trial and trial.side is Side.CANARY else None
    if canary is None:
        return trial
    if all(candidate.model.name != canary.model for candidate in fitting):
        return None
    fitting.sort(key=lambda candidate: candidate.model.name != canary.model)
    return trial


def _warm(
    policies: PolicySet, policy: Policy, rule: Rule, facts: Facts, purse: Purse | None, chosen: Candidate
) -> Candidate | None:
    """Return the model that has the conversation cached, where it may keep it in place of `chosen`.

    A policy that moves a conversation up to a model that is dearer in itself means it: only a model of this rule, or
    one that is dearer than `chosen`, may keep it. An experiment's model keeps nobody, and loses nobody, this way.
    """
    warm = facts.warm
    if warm is None or warm.model == chosen.model.name or warm.model not in policy.models:
        return None
    if rule.experiment and {warm.model, chosen.model.name} & {*rule.experiment.models}:
        return None
    there = consider(policies.models[warm.model], policy, facts, purse)
    if not there.fits or (warm.model not in rule.use and there.estimate_nusd <= chosen.estimate_nusd):
        return None
    return there


def _stay(warm: Warm, there: Candidate, elsewhere: Candidate, facts: Facts) -> Stay:
    """Price this turn alone at both, at their real prices; the warm model stays where it is cheaper."""
    stay_nusd = _turn_nusd(there, facts, min(warm.tokens, there.input_tokens))
    switch_nusd = _turn_nusd(elsewhere, facts, 0)
    return Stay(warm, stay_nusd < switch_nusd, elsewhere.model.name, stay_nusd, switch_nusd)


def _turn_nusd(candidate: Candidate, facts: Facts, cached: int) -> int:
    output_tokens = facts.n * min(facts.expected_output_tokens, candidate.max_output_tokens)
    usage = Usage(
        candidate.input_tokens, output_tokens, cached_tokens=cached, service_tier=facts.service_tier or "default"
    )
    return max(price.charge_nusd(usage) for price in candidate.model.prices)


def _why_not(policy: Policy, facts: Facts, considered: tuple[Candidate, ...], purse: Purse | None) -> tuple[str, str]:
    """Return the code and the message of a refusal; money comes first, for more of it would help."""
    dear = [candidate for candidate in considered if candidate.misfit is Misfit.MONEY]
    if dear and purse:
        cheapest = min(dear, key=lambda candidate: candidate.ceiling_nusd)
        anew = f" and begins anew at {purse.anew_at}" if purse.anew_at else ""
        held = f" beside ${usd_text(purse.held_nusd)} held for requests under way" if purse.held_nusd else ""
        return purse.code, (
            f"No model of task '{policy.task}' fits {purse.whose}, which leaves ${usd_text(purse.nusd)}{held}{anew}: "
            f"the cheapest, '{cheapest.model.name}', {cheapest.reason}."
            + (" What those under way don't use comes back as they end." if held else "")
        )
    reasons = "; ".join(f"'{candidate.model.name}' {candidate.reason}" for candidate in considered)
    if any(candidate.misfit is Misfit.CONTEXT for candidate in considered):
        return (
            "context_length_exceeded",
            f"The request is too long for every model of task '{policy.task}': {reasons}.",
        )
    if any(candidate.misfit is Misfit.ABILITY for candidate in considered):
        return "invalid_request", f"No model of task '{policy.task}' can take this request: {reasons}."
    return "model_not_found", f"No model of task '{policy.task}' is there: {reasons}."
