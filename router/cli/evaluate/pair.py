"""Which two models of a labelled set are compared, what each answer cost, and which of them a policy's model is."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Mapping
from dataclasses import dataclass
from math import fsum

from router.difficulty.labelled import Labelled
from router.errors import UnusableFile
from router.policy.features import FACT_RULES
from router.policy.policy import Policy, PolicySet
from router.policy.target import Model
from router.pricing import Ask
from router.tokens import Counter
from router.values import usd

NEARLY_ALL = 0.9
"""The share of the lines that must have an outcome of a model, for the others to be left out."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The two models that are compared, as the labelled set names them."""

    cheap: str
    premium: str


class Costs:
    """What each labelled answer cost: as the set says, else by the policies' prices, in dollars.

    `rows` tell which of the models `named` is the best and which the dearest; those of no other line do.
    """

    def __init__(self, named: list[str], rows: list[Labelled], policies: PolicySet, policy: Policy) -> None:
        self._counter = Counter()
        self._policies = policies
        self._policy = policy
        self._input_tokens: dict[int, int] = {}
        models = [policies.models[name] for name in models_of(policy)]
        self._by_price = sorted(models, key=lambda model: self._priced(model, 1_000, policy.expected_output_tokens))
        self.named = named
        self._stand_ins = self._stood_in(rows)
        self.by_cost = sorted(self.named, key=lambda name: fsum(self.usd(row, name) for row in rows))

    def usd(self, row: Labelled, name: str) -> float:
        """Return what this model's answer cost for this prompt."""
        outcome = row.outcomes[name]
        if outcome.cost_usd is not None:
            return outcome.cost_usd
        return self._priced(self._stand_ins[name], self._input(row), self.answer_tokens(row, name))

    def answer_tokens(self, row: Labelled, name: str) -> int:
        """Return how long this model's answer was, or where it is not there is expected to be."""
        answer = row.outcomes[name].answer
        if answer is None:
            return self._policy.expected_output_tokens
        return self._counter.count_text(answer, FACT_RULES)

    def expected_usd(self, row: Labelled, model: str) -> float:
        """Return what a call of a model of the policy costs by its price, with as long an answer as is expected."""
        return self._priced(self._policies.models[model], self._input(row), self._policy.expected_output_tokens)

    def answers_as(self, name: str, pair: Pair) -> str:
        """Return which labelled model stands for a model of the policy.

        Itself where it is labelled; else the premium one for the policy's dearest model and for its baseline, and
        the cheap one for all others.
        """
        if name in self.named:
            return name
        return pair.premium if name in (self._by_price[-1].name, self._policy.baseline) else pair.cheap

    def _input(self, row: Labelled) -> int:
        if row.line not in self._input_tokens:
            self._input_tokens[row.line] = self._counter.count_input(row.chat, FACT_RULES)
        return self._input_tokens[row.line]

    def _stood_in(self, rows: list[Labelled]) -> Mapping[str, Model]:
        """Return the model of models.yaml whose prices each labelled model has where the set does not say its cost.

        One that is not in models.yaml has the policy's dearest prices where it is the best in the set, else its
        cheapest that are not free, for nothing says that it costs nothing.
        """
        expected = self._policy.expected_output_tokens
        paid = [model for model in self._by_price if self._priced(model, 1_000, expected)] or self._by_price
        quality = {name: fsum(row.outcomes[name].quality for row in rows) for name in self.named}
        best = max(self.named, key=lambda name: quality[name])
        return {
            name: self._policies.models.get(name) or (self._by_price[-1] if name == best else paid[0])
            for name in self.named
        }

    @staticmethod
    def _priced(model: Model, input_tokens: int, output_tokens: int) -> float:
        return float(max(usd(price.estimate_nusd(Ask(input_tokens), output_tokens)) for price in model.prices))


def models_of(policy: Policy) -> tuple[str, ...]:
    """Return every model that a policy may use or be compared with, its baseline last."""
    return tuple(dict.fromkeys((*policy.models, *([policy.baseline] if policy.baseline else []))))


def pair_of(costs: Costs, policy: Policy) -> Pair:
    """Return the two models to compare: the policy's own where they are labelled, else the cheapest and the dearest."""
    own = [name for name in costs.by_cost if name in models_of(policy)]
    order = own if len(own) >= 2 else costs.by_cost
    premium = policy.baseline if policy.baseline in order else order[-1]
    return Pair(cheap=next(name for name in order if name != premium), premium=premium)


@dataclass(frozen=True, slots=True)
class Lacking:
    """Lines that can't be judged, for they have no outcome of a model that most have."""

    lines: int
    first: int
    """The number of the first of them."""
    model: str
    """What that one lacks."""


def complete(rows: list[Labelled], policy: Policy) -> tuple[list[Labelled], Lacking | None]:
    """Return the lines that have all models of the policy that nearly all lines have, and what the others lack.

    One failed call among thousands must not leave its model out and put another in its place. Where fewer than two
    models would be left, the two that most lines have are wanted, if nearly all have them.
    """
    having = Counts(name for row in rows for name in row.outcomes)
    usual = [name for name, times in having.most_common() if times >= NEARLY_ALL * len(rows)]
    agreeing = [rule.verify.agree.model for rule in policy.rules if rule.verify and rule.verify.agree]
    wanted = [name for name in (*models_of(policy), *agreeing) if name in usual]
    if len({*wanted, *(name for name in usual if having[name] == len(rows))}) < 2:
        wanted = usual[:2]
    whole = [row for row in rows if row.outcomes.keys() >= set(wanted)]
    if len(whole) in (0, len(rows)):
        return rows, None
    row, model = next((row, name) for row in rows for name in wanted if name not in row.outcomes)
    return whole, Lacking(len(rows) - len(whole), row.line, model)


def named_in_all(rows: list[Labelled]) -> list[str]:
    """Return the models that every line has an outcome of, by name; two at least.

    Raises:
        UnusableFile: fewer than two; says which line lacks which.
    """
    named = set(rows[0].outcomes).intersection(*(row.outcomes for row in rows))
    if len(named) < 2:
        raise UnusableFile(_lacking(rows))
    return sorted(named)


def _lacking(rows: list[Labelled]) -> str:
    """Say which line lacks which model, of the two that most lines have."""
    wrong = "Two models at least must have an outcome on every line"
    having = Counts(name for row in rows for name in row.outcomes)
    wanted = [name for name, _ in having.most_common(2)]
    if len(wanted) < 2:
        return f"{wrong}; there is '{wanted[0][:80]}' alone."
    row, name = next((row, name) for row in rows for name in wanted if name not in row.outcomes)
    return f"{wrong}; line {row.line} has none of '{name[:80]}', which {having[name]:,} of {len(rows):,} have."
