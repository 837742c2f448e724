"""Faults that would only show when a request comes: rules no model can serve, money that buys no answer.

What can never work is an error. What money can't buy is one that stops nobody: prices move with the catalogue, and a
new price must not keep a proxy from starting; a request that meets it is refused with its reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from router.policy.fault import Report
from router.policy.policy import Policy, Rule
from router.policy.reading.document import Node, Table, at, entries_at, items_at, key_place, place_of, text_at, texts_at
from router.policy.reading.logic import Demand, demands, each_word
from router.policy.target import Model
from router.pricing import Ask
from router.values import nusd_limit, usd_text

LIMITS = ("per_request", "per_hour", "per_day", "per_month")


@dataclass(frozen=True, slots=True)
class Foresight:
    """Looks ahead for one task's policy; what it finds goes into the report of its file."""

    root: Table
    policy: Policy
    models: Mapping[str, Model]
    report: Report

    def look(self) -> None:
        """Report every rule that can't be served and every limit that buys nothing or is never reached."""
        check_order(self.root, ("budget",), self.report)
        nodes = items_at(self.root, "route")
        served = [self._can_be_served(rule, node) for rule, node in zip(self.policy.rules, nodes, strict=True)]
        if self._long_enough() and self._limits_buy_an_answer():
            for rule, node, able in zip(self.policy.rules, nodes, served, strict=True):
                if able:
                    self._check_prices(rule, node)

    def _can_be_served(self, rule: Rule, node: Node) -> bool:
        cases = demands(rule.when)
        models = [self.models[name] for name in rule.use]
        place = key_place(node, ("use",))
        if all(not model.lacks.isdisjoint(case.has) for case in cases for model in models):
            wanted = ", ".join(sorted(cases[0].has))
            self.report.error(place, f"no model here can take {wanted}, which this rule asks for")
            return False
        for words in each_word(rule.when):
            if all(words <= model.lacks for model in models):
                self.report.error(
                    place, f"no model here can take {' or '.join(sorted(words))}, which this rule asks for"
                )
                return False
        if all(_too_long(case, model) for case in cases for model in models):
            widest = max(models, key=lambda model: model.context_tokens or 0)
            said = f"no model here has room for the {_least_input(cases):,} input tokens that this rule asks for"
            self.report.error(place, f'{said}; the widest, "{widest.name}", has {widest.context_tokens:,}')
            return False
        return True

    def _long_enough(self) -> bool:
        """Report a `min_output_tokens` that no model can give; say whether there was none."""
        longest = max((self.models[name] for name in self.policy.models), key=lambda model: model.max_output_tokens)
        if self.policy.min_output_tokens <= longest.max_output_tokens:
            return True
        said = f'no model of these rules writes that long: "{longest.name}", the longest, writes up to '
        place = place_of(self.root, ("min_output_tokens",))
        self.report.error(place, f"{said}{longest.max_output_tokens:,} tokens", fatal=False)
        return False

    def _limits_buy_an_answer(self) -> bool:
        """Report each limit that is below the cheapest answer of any model; say whether there was none."""
        cheapest = min((self.models[name] for name in self.policy.models), key=lambda model: self._floor_nusd(model, 1))
        floor_nusd = self._floor_nusd(cheapest, 1)
        bought = True
        for limit in LIMITS:
            nusd = getattr(self.policy.budget, f"{limit}_nusd")
            if nusd is not None and nusd < floor_nusd:
                bought = False
                place = place_of(self.root, ("budget", f"{limit}_usd"))
                self.report.error(
                    place,
                    f'this pays for no answer: "{cheapest.name}", the cheapest, {self._needs(cheapest, floor_nusd)}',
                    fatal=False,
                )
        return bought

    def _check_prices(self, rule: Rule, node: Node) -> None:
        """Report the models of a rule that its requests can never pay for."""
        cap_nusd = self.policy.budget.per_request_nusd
        if cap_nusd is None:
            return
        tokens = max(1, _least_input(demands(rule.when)))
        floors = {name: self._floor_nusd(self.models[name], tokens) for name in rule.use}
        if min(floors.values()) > cap_nusd:
            cheapest = min(floors, key=lambda name: floors[name])
            said = f'no model here is ever within per_request_usd: "{cheapest}", the cheapest, '
            said += self._needs(self.models[cheapest], floors[cheapest], tokens)
            self.report.error(key_place(node, ("use",)), said, fatal=False)
            return
        for name, place in texts_at(node, "use"):
            if floors[name] > cap_nusd:
                needs = self._needs(self.models[name], floors[name], tokens)
                self.report.error(place, f'"{name}" is never within per_request_usd: it {needs}', fatal=False)
        # What the first answer held beyond its price is there again once it has ended, and that may be one token long.
        first_nusd = min(floor_nusd(self.models[name], 1, tokens) for name in rule.use)
        for name, place in texts_at(node, "verify", "escalate_to"):
            both_nusd = first_nusd + self._floor_nusd(self.models[name], tokens)
            if both_nusd > cap_nusd:
                said = f'never within per_request_usd: an answer and one more of "{name}" '
                self.report.error(
                    place, said + self._needs(self.models[name], both_nusd, tokens, verb="need"), fatal=False
                )

    def _floor_nusd(self, model: Model, input_tokens: int) -> int:
        """Price the least that `decide` takes for an answer: `min_output_tokens`, at its dearest target."""
        return floor_nusd(model, self.policy.min_output_tokens, input_tokens)

    def _needs(self, model: Model, nusd: int, input_tokens: int = 1, verb: str = "needs") -> str:
        asked = f"{input_tokens:,} input tokens and " if input_tokens > 1 else ""
        return f"{verb} ${usd_text(nusd)} for {asked}{_least_said(model, self.policy.min_output_tokens)}"


def floor_nusd(model: Model, min_output_tokens: int, input_tokens: int = 1) -> int:
    """Price the shortest answer that is taken, at the model's dearest target."""
    output = min(min_output_tokens, model.max_output_tokens)
    return max(price.ceiling_nusd(Ask(input_tokens=input_tokens), output) for price in model.prices)


def _least_said(model: Model, min_output_tokens: int) -> str:
    """Name the shortest answer that is taken of a model."""
    if min_output_tokens > model.max_output_tokens:
        return f"{model.max_output_tokens:,} output tokens, the most it writes"
    return f"{min_output_tokens:,} output tokens (`min_output_tokens`)"


def check_shared_limits(root: Table, policies: Sequence[Policy], models: Mapping[str, Model], report: Report) -> None:
    """Report each limit of accounts.yaml that buys nothing or is never reached.

    It buys nothing where it is below the cheapest answer of any model, as callers may name any.
    """
    least = min(policy.min_output_tokens for policy in policies)
    cheapest = min(models.values(), key=lambda model: floor_nusd(model, least))
    needs_nusd = floor_nusd(cheapest, least)
    for path in (("budget",), *(("accounts", name, "budget") for name in entries_at(root, "accounts"))):
        check_order(root, path, report)
        for limit in LIMITS:
            usd = _usd_at(root, (*path, f"{limit}_usd"))
            if usd is not None and nusd_limit(usd) < needs_nusd:
                said = f'this pays for no answer: "{cheapest.name}", the cheapest, '
                said += f"needs ${usd_text(needs_nusd)} for {min(least, cheapest.max_output_tokens):,} output tokens"
                report.error(place_of(root, (*path, f"{limit}_usd")), said, fatal=False)


def check_order(root: Table, path: tuple[str, ...], report: Report) -> None:
    """Warn of each limit of a budget that is above one for a longer time, so that this one ends it first."""
    if text_at(root, *path, "on_exceeded") == "warn":
        return  # a budget that only warns ends nothing
    limits = [(key, usd) for limit in LIMITS if (usd := _usd_at(root, (*path, key := f"{limit}_usd"))) is not None]
    for index, (key, usd) in enumerate(limits):
        least, least_usd = min(limits[index:], key=lambda limit: limit[1])
        if least_usd < usd:
            said = f"`{key}` is never reached: `{least}` ends it at ${least_usd:f}"
            report.warning(place_of(root, (*path, key)), f"{said}; set this one to that or less, or leave it out")


def _usd_at(root: Table, path: tuple[str, ...]) -> Decimal | None:
    usd = node.plain() if (node := at(root, *path)) else None
    return Decimal(usd) if isinstance(usd, int | Decimal) else None


def _too_long(case: Demand, model: Model) -> bool:
    return model.context_tokens is not None and case.input_tokens >= model.context_tokens


def _least_input(cases: tuple[Demand, ...]) -> int:
    return min(case.input_tokens for case in cases)
