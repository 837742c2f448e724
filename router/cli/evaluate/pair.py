"""Which two models of a labelled set are compared, what each answer cost, and which of them a policy's model is."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Iterable, Mapping
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
"""The share of the lines that must have an outcome of one of the policy's models, for it to count as labelled."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The two models that are compared, as the labelled set names them."""

    cheap: str
    premium: str


@dataclass(frozen=True, slots=True)
class Lack:
    """What keeps one line from being judged: it has no outcome of a model that is needed there."""

    line: int
    model: str


class Costs:
    """What each labelled answer cost: as the set says, else by the policies' prices, in dollars.

    `rows` tell which of the models `named` is the best and which the dearest, each by the lines that have it; those of
    no other line do.
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
        self.by_cost = sorted(
            self.named, key=lambda name: _mean(self.usd(row, name) for row in rows if name in row.outcomes)
        )

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

    def lack(self, row: Labelled, model: str, pair: Pair) -> Lack | None:
        """Return what is lacking where a line has no outcome of what stands for a model of the policy."""
        name = self.answers_as(model, pair)
        return None if name in row.outcomes else Lack(row.line, name)

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
        quality = {
            name: _mean(row.outcomes[name].quality for row in rows if name in row.outcomes) for name in self.named
        }
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


def named_in_most(rows: list[Labelled], policy: Policy) -> list[str]:
    """Return the models that count as labelled, by name; two at least.

    Those that every line has, and the policy's own that nearly all have: one failed call among thousands must not put
    another model in the place of its own. Where that is fewer than two, the two that most lines have, if nearly all do.

    Raises:
        UnusableFile: fewer than two; says which line lacks which.
    """
    having = Counts(name for row in rows for name in row.outcomes)
    usual = [name for name, times in having.most_common() if times >= NEARLY_ALL * len(rows)]
    agreeing = [rule.verify.agree.model for rule in policy.rules if rule.verify and rule.verify.agree]
    named = {name for name in usual if having[name] == len(rows)}
    named.update(name for name in (*models_of(policy), *agreeing) if name in usual)
    if len(named) < 2:
        named.update(usual[:2])
    if len(named) < 2:
        raise UnusableFile(_lacking(rows))
    return sorted(named)


@dataclass(frozen=True, slots=True)
class TooFew:
    """What is made of a model of the policy that some lines have an outcome of, and too few to judge it by."""

    lines: int
    """So many have one."""
    of: int
    """So many there are, be they judged, learned or left out."""
    taken_for: str
    """The model of the set whose outcomes are counted in its place."""


def on_too_few_lines(rows: list[Labelled], costs: Costs, policy: Policy, pair: Pair) -> dict[str, TooFew]:
    """Return the models of the policy that another stands in for, though the set names them; may be empty."""
    having = Counts(name for row in rows for name in row.outcomes)
    return {
        name: TooFew(having[name], len(rows), costs.answers_as(name, pair))
        for name in models_of(policy)
        if having[name] and name not in costs.named
    }


def compared(rows: list[Labelled], pair: Pair) -> tuple[list[Labelled], list[Lack]]:
    """Return the lines that have both models, without which no way to spend can be told, and what the others lack."""
    lacks = [
        Lack(row.line, name)
        for row in rows
        if (name := next((name for name in (pair.cheap, pair.premium) if name not in row.outcomes), None))
    ]
    lacking = {lack.line for lack in lacks}
    return [row for row in rows if row.line not in lacking], lacks


def _lacking(rows: list[Labelled]) -> str:
    """Say which line lacks which model, of the two that most lines have."""
    wrong = "Two models at least must have an outcome on every line"
    having = Counts(name for row in rows for name in row.outcomes)
    wanted = [name for name, _ in having.most_common(2)]
    if len(wanted) < 2:
        return f"{wrong}; there is '{wanted[0][:80]}' alone."
    row, name = next((row, name) for row in rows for name in wanted if name not in row.outcomes)
    return f"{wrong}; line {row.line} has none of '{name[:80]}', which {having[name]:,} of {len(rows):,} have."


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return fsum(found) / len(found)
