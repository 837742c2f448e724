"""Runs the `tests:` of policy files: the facts, the decision they come to, and what differs from the expected.

No clock, no network, no environment; all that is read is the files of requests that tests name. A test that was not
told what budget is left has all of it, which bounds a request as it does in a proxy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

from msgspec import structs

from router.chat import ChatBody
from router.errors import FarthingError, InvalidRequest
from router.policy.claim import AUTO, claim
from router.policy.decide import Candidate, Decision, Purse, Refusal, decide
from router.policy.expectation import Bounds, Expected, PolicyTest
from router.policy.facts import Facts
from router.policy.features import Circumstances, facts_of
from router.policy.policy import Account, Policy, PolicySet
from router.policy.purse import BUDGET_HEADER, asked_nusd, purse_of
from router.policy.request import request_body
from router.policy.room import foreseen, left_usd, tighter, unused
from router.tokens import Counter
from router.values import nusd_limit, usd, usd_text


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one test came out: what differs from the expected, a line each; none where it holds."""

    test: PolicyTest
    differences: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.differences

    @property
    def message(self) -> str:
        return "; ".join(self.differences)


@dataclass(frozen=True, slots=True)
class Decided:
    """What a test's request came to, and of what facts."""

    policy: Policy
    facts: Facts
    decision: Decision


def run_tests(policies: PolicySet, tests: Iterable[PolicyTest], counter: Counter) -> Iterator[Verdict]:
    """Yield a verdict for each test, in order, as soon as it is there."""
    return (run_test(policies, test, counter) for test in tests)


def run_test(policies: PolicySet, test: PolicyTest, counter: Counter) -> Verdict:
    """Decide what the test gives and compare it with what the test expects."""
    try:
        body = _body(test)
    except InvalidRequest as error:
        return Verdict(test, (error.message,))
    try:
        decided = _decided(policies, test, body, counter)
    except FarthingError as error:
        if test.expect.refused == error.code:
            return Verdict(test, ())
        return Verdict(test, (f"expected {_wanted(test.expect)}, got {error.code}: {error.message}",))
    return Verdict(test, tuple(_differences(test.expect, decided)))


def _decided(policies: PolicySet, test: PolicyTest, body: ChatBody | None, counter: Counter) -> Decided:
    """Decide as a request would be decided.

    Raises:
        FarthingError: it is refused before any rule is looked at.
    """
    given, known = test.given, policies
    policies = replace(policies, models=given.models(policies.models))
    account = policies.accounts[given.account] if given.account else None
    chat = body.chat if body else None
    claimed = claim(
        policies,
        chat.model if chat else AUTO,
        header_task=test.task,
        metadata=chat.metadata if chat else None,
        account=account,
        headers=given.headers,
    )
    if chat:
        around = Circumstances(headers=given.headers)
        facts = facts_of(chat, policies, claimed.policy, counter, around, claimed.pinned)
    else:
        facts = test.facts or Facts(input_tokens=0)
    facts = given.over(facts)
    levels = unused(known, claimed.policy, account) if given.budget_remaining_usd is None else ()
    if levels:
        facts = structs.replace(facts, budget_remaining_usd=left_usd(levels))
    purse = _purse(policies, claimed.policy, account, test)

    def decided(purse: Purse | None) -> Decision:
        return decide(policies, claimed.policy, facts, purse=purse, pinned=claimed.pinned)

    decision = foreseen(
        decided(purse), levels, lambda each: each.ceiling_nusd, lambda level: decided(tighter(purse, level))
    )
    return Decided(claimed.policy, facts, decision)


def _body(test: PolicyTest) -> ChatBody | None:
    """Return the test's request; None where it gives facts.

    Raises:
        InvalidRequest: its file can't be read, or holds no request.
    """
    if test.request_file is None:
        return ChatBody(test.request) if test.request is not None else None
    path = Path(test.file).parent / test.request_file
    try:
        return request_body(path.read_bytes())
    except OSError as error:
        words = "; a request in words is `{messages: [{role: user, content: …}]}`" if " " in path.name else ""
        raise InvalidRequest(f"{path} can't be read: {error.strerror}{words}") from None
    except InvalidRequest as error:
        raise InvalidRequest(f"{path}: {error.message}") from None


def _purse(policies: PolicySet, policy: Policy, account: Account | None, test: PolicyTest) -> Purse | None:
    """Return the tightest limit: of the request, or what the test says is left of the budgets."""
    asked = test.given.headers.get(BUDGET_HEADER)
    purse = purse_of(policies, policy, account, None if asked is None else asked_nusd(asked))
    if test.given.budget_remaining_usd is None:
        return purse
    left = Purse(
        nusd_limit(Decimal(str(test.given.budget_remaining_usd))),
        "the test's `budget_remaining_usd`",
        code="budget_exceeded",
        may_downgrade=policy.budget.on_exceeded != "reject",
    )
    return left if purse is None or left.nusd < purse.nusd else purse


def _differences(expect: Expected, decided: Decided) -> Iterator[str]:
    decision = decided.decision
    if expect.rule is not None and expect.rule != decision.rule.name:
        yield f"expected rule {expect.rule}, got {decision.rule.name} ({_why_not(expect.rule, decided)})"
    if isinstance(decision, Refusal):
        if expect.refused != decision.code:
            yield f"expected {_wanted(expect)}, got {decision.code}: {decision.message}"
        return
    first = decision.candidates[0]
    names = tuple(candidate.model.name for candidate in decision.candidates)
    if expect.refused is not None:
        yield f"expected {expect.refused}, got rule {decision.rule.name}, use {names[0]}"
        return
    if expect.use is not None and expect.use != (names[:1] if len(expect.use) == 1 else names):
        got = names[:1] if len(expect.use) == 1 else names
        yield f"expected use {_listed(expect.use)}, got {_listed(got)}{_skipped(expect.use, decision)}"
    if expect.cost_usd is not None and not expect.cost_usd.hold(usd(decision.estimate_nusd)):
        got_usd = usd_text(decision.estimate_nusd)
        checks = f", and {usd_text(decision.checks_nusd)} for its checks" if decision.checks_nusd else ""
        yield f"expected cost_usd {expect.cost_usd}, got {got_usd} ({_terms(first, decided.facts)}{checks})"
    yield from _length_difference(expect.max_output_tokens, first)


def _length_difference(bounds: Bounds | None, first: Candidate) -> Iterator[str]:
    if bounds is not None and not bounds.hold(first.max_output_tokens):
        yield f"expected max_output_tokens {bounds}, got {first.max_output_tokens} on {first.model.name}"


def _why_not(name: str, decided: Decided) -> str:
    """Say what kept the expected rule from being the one."""
    rule = next((rule for rule in decided.policy.rules if rule.name == name), None)
    if rule is None:
        return f"{name} is not a rule of this request"
    if not rule.when.holds(decided.facts):
        return f"{name}: {rule.when.explain(decided.facts)}"
    reasons = [
        f"{candidate.model.name} {candidate.reason}"
        for candidate in decided.decision.considered
        if candidate.model.name in rule.use and not candidate.fits
    ]
    if reasons:
        return f"{name} holds, but {'; '.join(reasons)}"
    got = decided.decision.rule
    return f"{got.name} comes first: {got.when.explain(decided.facts)}"


def _skipped(wanted: tuple[str, ...], decision: Decision) -> str:
    reasons = [
        f"{candidate.model.name} {candidate.reason}"
        for candidate in decision.considered
        if candidate.model.name in wanted and not candidate.fits
    ]
    return f" ({'; '.join(reasons)})" if reasons else f" (rule {decision.rule.name})"


def _terms(candidate: Candidate, facts: Facts) -> str:
    output = str(min(facts.expected_output_tokens, candidate.max_output_tokens))
    if facts.n > 1:
        output = f"{facts.n} × {output}"  # noqa: RUF001 - a multiplication sign
    return f"{candidate.model.name}, {candidate.input_tokens} input and {output} output tokens"


def _wanted(expect: Expected) -> str:
    if expect.refused is not None:
        return expect.refused
    return f"use {_listed(expect.use)}" if expect.use else f"rule {expect.rule}" if expect.rule else "an answer"


def _listed(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"[{', '.join(names)}]"
