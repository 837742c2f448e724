"""What a task has learned, as an operator is told: labels, quality where it was not learned from, shares and drift."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from statistics import fmean, pstdev
from typing import Any

from router.difficulty.lessons import Quality, quality_of
from router.difficulty.scorer import Label, Scorer
from router.difficulty.weights import shipped_weights
from router.ledger.contract import SHADOW_SUFFIX, Store
from router.ledger.labels import LabelRow
from router.lifecycle.labels import lesson_of
from router.lifecycle.learning import lessons_in
from router.policy.beside import request_cap_nusd, second_nusd
from router.policy.compared import Compared, compared
from router.policy.condition import Comparison
from router.policy.learn import LEARNING
from router.policy.policy import Policy, PolicySet
from router.policy.record import leaves_of
from router.values import usd_number

RECENT = 1_000
"""Requests that the shares are counted over, and second answers."""
OWN = ("shadow", "check")
FEWEST = 20
"""Labels under which nothing is said of drift."""


@dataclass(frozen=True, slots=True)
class Share:
    """What a threshold of the policy asked for, and what it got of the latest requests."""

    threshold: float
    asked: float
    got: float
    requests: int


@dataclass(frozen=True, slots=True)
class Drift:
    """How the newer half of the labels differs from the older one."""

    gain_before: float
    gain_now: float
    score_shift: float
    """Of the mean score as it was before any label, in standard deviations."""


@dataclass(frozen=True, slots=True)
class Seconds:
    """The latest second answers that were asked for, and how many of them were graded: the others taught nothing."""

    asked: int
    graded: int
    cost_usd: float
    per_day_usd: float | None = None
    """What they may cost in a day; None where none are asked for."""
    holds_usd: float | None = None
    """What one to a short request without `max_tokens` must find free of that; None where it is not known."""

    @property
    def has_no_room(self) -> bool:
        """Whether a request without `max_tokens` never gets one."""
        return self.per_day_usd is not None and self.holds_usd is not None and self.per_day_usd < self.holds_usd


@dataclass(frozen=True, slots=True)
class Learned:
    """One task's learning."""

    task: str
    learns: bool
    """Whether its policy says so."""
    version: int
    """The number of the label that what serves was taken into service with; 0: no label taught it."""
    newest: int
    labels: Mapping[str, int]
    """How many count now, by source."""
    left_out: int
    """How many do not: they compare other models than the task has now, or are of a source that it ignores."""
    served: Quality | None
    cold: Quality | None
    """What the score would be worth without any label, on the same held-back ones."""
    shares: Sequence[Share]
    drift: Drift | None
    seconds: Seconds

    def described(self) -> dict[str, Any]:
        """Return it as JSON's values."""
        return {
            **{name: getattr(self, name) for name in ("task", "learns", "version", "newest")},
            "labels": dict(self.labels),
            "left_out": self.left_out,
            "held_back": {
                "served": asdict(self.served) if self.served else None,
                "cold": asdict(self.cold) if self.cold else None,
            },
            "shares": [asdict(share) for share in self.shares],
            "drift": asdict(self.drift) if self.drift else None,
            "second_answers": asdict(self.seconds),
        }


def learned(store: Store, policies: PolicySet, policy: Policy) -> Learned:
    """Learn a task's labels once more and say what that came to; blocks, a second or two where there are thousands.

    Raises:
        StoreUnavailable: the ledger can't be read.
    """
    own = compared(policies, policy)
    lessons = lessons_in(store, policy.task, own, policies.weights or shipped_weights())
    found = store.labels(policy.task, lessons.begin, 1_000_000)
    rows = [row for row in found if row.source != "reset" and row.place > lessons.begin]
    judging = lessons.judging()
    return Learned(
        task=policy.task,
        learns=policy.learn is not None,
        version=lessons.served.version,
        newest=lessons.seq,
        labels=dict(lessons.sources),
        left_out=len({row.place for row in rows} - lessons.places),
        served=quality_of(lessons.served, judging),
        cold=quality_of(lessons.cold, judging),
        shares=[*_shares(store, policy)],
        drift=_drift(_labels(rows, own), lessons.cold),
        seconds=_seconds(store, policies, policy),
    )


def thresholds(policy: Policy) -> list[float]:
    """Return every threshold that a policy's rules set on difficulty, ascending."""
    leaves = (leaf for rule in policy.rules for leaf in leaves_of(rule.when))
    found = {
        float(leaf.operand)
        for leaf in leaves
        if isinstance(leaf, Comparison)
        and leaf.needs() == {"difficulty"}
        and leaf.operator in ("gt", "gte", "lt", "lte")
        and isinstance(leaf.operand, int | float | Decimal)
    }
    return sorted(found)


def _shares(store: Store, policy: Policy) -> Iterable[Share]:
    rows = store.ask(
        "SELECT difficulty FROM requests WHERE task = $1 AND difficulty IS NOT NULL AND outcome <> 'held' "
        "AND id NOT LIKE $2 ORDER BY at DESC LIMIT $3",
        [policy.task, f"%{SHADOW_SUFFIX}", RECENT],
    )
    for threshold in thresholds(policy) if rows else ():
        above = sum(difficulty >= threshold for (difficulty,) in rows)
        yield Share(threshold, round(1 - threshold, 6), above / len(rows), len(rows))


def _seconds(store: Store, policies: PolicySet, policy: Policy) -> Seconds:
    rows = store.ask(
        "SELECT charged_nusd, facts LIKE $1 FROM requests WHERE task = $2 AND rule = $3 AND id LIKE $4 "
        "AND outcome <> 'held' ORDER BY at DESC LIMIT $5",
        ['%"grades":%', policy.task, LEARNING, f"%{SHADOW_SUFFIX}", RECENT],
    )
    cost_usd = usd_number(sum(nusd for nusd, _ in rows))
    shadow = policy.learn.shadow if policy.learn else None
    cap_nusd = request_cap_nusd(policy, policies.budget, policies.accounts.values())
    holds_nusd = second_nusd(policy, policies.models, cap_nusd)
    return Seconds(
        len(rows),
        sum(bool(graded) for _, graded in rows),
        cost_usd,
        usd_number(shadow.per_day_nusd) if shadow else None,
        None if holds_nusd is None else usd_number(holds_nusd),
    )


def _labels(rows: Iterable[LabelRow], own: Compared) -> list[Label]:
    """Return the labels that count and that the proxy graded itself, oldest first: the shadows where there are any."""
    lessons = [lesson for row in rows if row.source != "feedback" and (lesson := lesson_of(row, own)) is not None]
    found = {source: [each.label for each in lessons if each.label and each.source == source] for source in OWN}
    return next(filter(None, found.values()), [])


def _drift(labels: Sequence[Label], cold: Scorer) -> Drift | None:
    if len(labels) < FEWEST:
        return None
    before, now = labels[: len(labels) // 2], labels[len(labels) // 2 :]
    scores = [cold.score(label.look).value for label in labels]
    spread = pstdev(scores)
    shift = fmean(scores[len(before) :]) - fmean(scores[: len(before)])
    return Drift(
        fmean(label.gain for label in before),
        fmean(label.gain for label in now),
        shift / spread if spread else 0.0,
    )
