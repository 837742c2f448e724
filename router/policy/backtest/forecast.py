"""What a cascade would have cost and kept on prompts whose outcomes are known: pure, and what `evaluate` shows.

The same rule as the proxy's, in the same order: the answer, the checks that look at it alone, the second answer, then
one escalation. Checks that a record of outcomes can't repeat (log probabilities, a judge, one's own function, tools)
are not forecast; `unforeseen` names them. What a judge costs is counted where the caller tells it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from router.chat import Chat, Message
from router.policy.closed_answer import answers_agree
from router.policy.said import Said
from router.policy.verify import Verify, failing

NO_REQUEST = Chat(model="auto", messages=[Message("user", "")])


@dataclass(frozen=True, slots=True)
class Known:
    """How one model did on one prompt. `answer` None where it was not recorded: what looks at it can't be told."""

    quality: float
    cost_usd: float
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class Course:
    """How one prompt went through a cascade."""

    quality: float
    cost_usd: float
    passed: bool
    escalated: bool
    untold: tuple[str, ...] = ()
    """Checks that this prompt's outcomes can't tell of, for want of an answer; they are taken as passed."""
    judged: bool = False
    """Whether the answer came as far as a judge, who is asked last and paid."""


def course_of(
    known: Mapping[str, Known], first: str, verify: Verify, chat: Chat = NO_REQUEST, *, grade_usd: float = 0.0
) -> Course:
    """Carry one prompt through the cascade; `chat` is its request, where that says which JSON is asked for.

    `grade_usd` is what a judge's grade of the first answer costs.

    An outcome is of one answer, so it can't tell whether a model would agree with itself.
    """
    given, cost_usd = known[first], known[first].cost_usd
    of_text = _of_text(verify)
    passed = given.answer is None or failing(of_text, (Said(given.answer, finish_reason="stop"),), chat) is None
    untold = _named(of_text) if given.answer is None else ()
    if (agree := verify.agree) is not None and (passed or verify.agrees_only):
        second = known[agree.model]
        cost_usd += second.cost_usd
        if agree.model == first or given.answer is None or second.answer is None:
            untold = (*untold, "agree")
        else:
            passed = passed and answers_agree(given.answer, second.answer, agree.by)
    judged = passed and verify.judge is not None
    if judged:
        cost_usd += grade_usd
    to = verify.escalate_to
    if passed or to is None or to == first:
        return Course(given.quality, cost_usd, passed, escalated=False, untold=untold, judged=judged)
    return Course(known[to].quality, cost_usd + known[to].cost_usd, passed=False, escalated=True, untold=untold)


def _of_text(verify: Verify) -> Verify:
    """Return the checks that an answer's text alone can be held against."""
    return Verify(
        json=verify.json,
        json_schema=verify.json_schema,
        regex=verify.regex,
        min_chars=verify.min_chars,
        not_refusal=verify.not_refusal,
    )


def _named(verify: Verify) -> tuple[str, ...]:
    """Return the names of the checks of an answer's text alone."""
    asked = {
        "json": verify.json,
        "json_schema": verify.json_schema,
        "min_chars": verify.min_chars,
        "not_refusal": verify.not_refusal,
        "regex": verify.regex,
    }
    return tuple(name for name, is_asked in asked.items() if is_asked)


def unforeseen(verify: Verify) -> tuple[str, ...]:
    """Return the checks of a rule that outcomes can't tell of."""
    asked = {
        "not_truncated": verify.not_truncated,
        "tool_calls_valid": verify.tool_calls_valid,
        "logprob": verify.logprob_gte is not None,
        "python": verify.own is not None,
        "judge": verify.judge is not None,
    }
    return tuple(name for name, is_asked in asked.items() if is_asked)
