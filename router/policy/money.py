"""Rules by money: which of a rule's models comes first where it asks for value, or for a share. Pure.

What steers them comes in as facts: the gain that is expected, the pace of the day's spending, and the request's rank
among those that reach the rule.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from router.difficulty.scorer import MEAN_GAIN
from router.policy.facts import Facts
from router.policy.policy import Policy, Rule
from router.policy.target import Model
from router.pricing import Ask
from router.values import NUSD_PER_USD

USUAL_INPUT_TOKENS = 500
"""Of the request that is just worth the dearest model at a pace of 1, if its gain is a usual one."""
CONCAVE = 0.25
"""Between the cheapest model and the dearest, quality is taken to grow with this power of the price, as it does on
public leaderboards: ten times the price buys about as much wherever one stands."""


class ByValue(Struct, frozen=True):
    """How `prefer: value` weighed the models of a rule."""

    gain: float
    """What the dearest of them is expected to add to the cheapest, in quality from 0 to 1."""
    pace: float
    usd_per_gain: float
    """What a whole unit of gain may cost now: what it may at a pace of 1, times the pace."""
    net_usd: Mapping[str, float]
    """Model → what its gain is worth, less what it costs more than the cheapest."""

    def order(self, name: str) -> float:
        return -self.net_usd[name]

    def told(self) -> dict[str, object]:
        return {
            "by": "value",
            "gain": round(self.gain, 4),
            "pace": round(self.pace, 4),
            "usd_per_gain": self.usd_per_gain,
            "net_usd": dict(self.net_usd),
        }

    def __str__(self) -> str:
        best = max(self.net_usd, key=lambda name: self.net_usd[name])
        return (
            f"'{best}' is worth the most: a gain of {self.gain:.2f} is expected of the dearest model, and a whole one "
            f"may cost ${self.usd_per_gain:.6f} at a pace of {self.pace:.2f}"
        )


class ByShare(Struct, frozen=True):
    """How `premium_share` took a request: the hardest go to the dearest model."""

    premium: str
    share: float
    rank: float | None
    """The share of what reaches the rule that is easier; None where it is not known."""

    @property
    def threshold(self) -> float:
        return round(1 - self.share, 6)

    @property
    def is_hard(self) -> bool:
        if self.share in (0, 1):
            return self.share == 1  # whatever the rank, which may itself be 1, or unknown
        return self.rank is not None and self.rank >= self.threshold

    def order(self, name: str) -> float:
        return 0.0 if (name == self.premium) == self.is_hard else 1.0

    def told(self) -> dict[str, object]:
        return {"by": "share", "rank": self.rank, "threshold": self.threshold, "premium": self.premium}

    def __str__(self) -> str:
        if self.share in (0, 1):
            return f"`premium_share: {self.share:g}` sends {'all' if self.share else 'none'} to '{self.premium}'"
        if self.rank is None:
            return f"how hard it is beside the others is not known, so it is not for '{self.premium}'"
        among = f"harder than {self.rank:.1%} of what reaches the rule"
        said = "at least" if self.is_hard else "less than"
        return f"{among}, {said} the {self.threshold:.1%} from which '{self.premium}' is asked"


Weighed = ByValue | ByShare


def weighed(
    rule: Rule, policy: Policy, models: Mapping[str, Model], facts: Facts, costs_nusd: Mapping[str, int]
) -> Weighed:
    """Weigh the models of a rule by money; `costs_nusd` is what the request would cost at each, whatever it may."""
    if rule.premium_share is not None:
        premium = max(costs_nusd, key=lambda name: costs_nusd[name])
        return ByShare(premium, rule.premium_share, _rank(rule, facts))
    return _by_value(rule, policy, models, facts, costs_nusd)


def _by_value(
    rule: Rule, policy: Policy, models: Mapping[str, Model], facts: Facts, costs_nusd: Mapping[str, int]
) -> ByValue:
    cheapest_nusd, dearest_nusd = min(costs_nusd.values()), max(costs_nusd.values())
    steps = dearest_nusd**CONCAVE - cheapest_nusd**CONCAVE
    gain = gain_of(facts)
    usd_per_gain = facts.pace * _usd_per_gain_at_first(rule, policy, models)
    net_usd = {}
    for name, nusd in costs_nusd.items():
        part = (nusd**CONCAVE - cheapest_nusd**CONCAVE) / steps if steps else 0.0
        net_usd[name] = gain * part * usd_per_gain - (nusd - cheapest_nusd) / NUSD_PER_USD
    return ByValue(gain, facts.pace, usd_per_gain, net_usd)


def _rank(rule: Rule, facts: Facts) -> float | None:
    """Return a request's place among those that reach a rule; one that was drawn is drawn for every rule."""
    return facts.difficulty if facts.explored_from is not None else facts.ranks.get(rule.name, facts.difficulty)


def gain_of(facts: Facts) -> float:
    """Return the gain that is expected; where only a difficulty is known, one that has the usual gain for its mean.

    It is not known where the difficulty was drawn at random: such a request is to be taken for what it is not.
    """
    if facts.gain is not None and facts.explored_from is None:
        return facts.gain
    return MEAN_GAIN if facts.difficulty is None else 2 * MEAN_GAIN * facts.difficulty


def _usd_per_gain_at_first(rule: Rule, policy: Policy, models: Mapping[str, Model]) -> float:
    """Return what a gain may cost at a pace of 1: so much that a usual one on a usual request is just worth it."""
    ask, output_tokens = Ask(USUAL_INPUT_TOKENS), policy.expected_output_tokens
    usual_nusd = [max([price.estimate_nusd(ask, output_tokens) for price in models[name].prices]) for name in rule.use]
    return (max(usual_nusd) - min(usual_nusd)) / NUSD_PER_USD / MEAN_GAIN
