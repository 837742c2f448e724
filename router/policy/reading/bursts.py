"""Budgets so small that requests at once keep each other out, though little of what they hold is ever spent.

A request without `max_tokens` holds the longest answer that its own limit buys, until it ends. A budget that has room
for few of these refuses bursts, and nothing in the file shows it. Whatever is told here only warns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from router.policy.beside import may_use, request_cap_nusd
from router.policy.fault import Report
from router.policy.policy import Account, Budget, Policy, Rule
from router.policy.reading.accounts import Accounts
from router.policy.reading.document import Table, place_of
from router.policy.reading.foresight import floor_nusd
from router.policy.reading.logic import demands
from router.policy.target import Model
from router.pricing import Ask
from router.values import usd_text

FEWEST_AT_ONCE = 10
"""Requests that a budget should have room for: as many as one page or one batch may send at once."""


@dataclass(frozen=True, slots=True)
class Bursts:
    """Looks at every budget of an hour, a day or a month in a folder."""

    policies: Sequence[Policy]
    accounts: Accounts
    models: Mapping[str, Model]

    def check_task(self, root: Table, policy: Policy, report: Report) -> None:
        """Warn where a task's budget has room for few of its requests."""
        accounts = [*self.accounts.by_name.values()]
        if _is_bound(policy.budget):
            held_nusd = self._held_nusd(policy, accounts)
            self._check(root, ("budget",), policy.budget, held_nusd, report)

    def check_accounts(self, root: Table, report: Report) -> None:
        """Warn where a budget of accounts.yaml has room for few requests, whichever of the tasks they are of."""
        everybody, accounts = self.accounts.budget, [*self.accounts.by_name.values()]
        if _is_bound(everybody):
            least_nusd = min(self._held_nusd(policy, accounts) for policy in self.policies)
            self._check(root, ("budget",), everybody, least_nusd, report)
        for name, account in self.accounts.by_name.items():
            used = [policy for policy in self.policies if may_use(account, policy)] if _is_bound(account.budget) else []
            if used:
                least_nusd = min(self._held_nusd(policy, [account]) for policy in used)
                self._check(root, ("accounts", name, "budget"), account.budget, least_nusd, report)

    def _check(self, root: Table, path: tuple[str, ...], budget: Budget, held_nusd: int, report: Report) -> None:
        window, limit_nusd = min(budget.windows(), key=lambda each: each[1])
        place = place_of(root, (*path, f"per_{window}_usd"))
        if limit_nusd >= FEWEST_AT_ONCE * held_nusd or report.knows(place):
            return
        at_once = math.ceil(limit_nusd / held_nusd)
        said = f"a request without `max_tokens` holds up to ${usd_text(held_nusd)} of this until it ends, so that more "
        said += f"than {at_once} at once are refused; set "
        share_nusd = limit_nusd // FEWEST_AT_ONCE
        if share_nusd >= self._cheapest_nusd():
            said += f"`per_request_usd` to ${usd_text(share_nusd)} or less, or "
        report.warning(place, f"{said}this to ${usd_text(FEWEST_AT_ONCE * held_nusd)} or more")

    def _cheapest_nusd(self) -> int:
        """Price the cheapest answer of any task."""
        return min(
            floor_nusd(self.models[name], policy.min_output_tokens)
            for policy in self.policies
            for name in policy.models
        )

    def _held_nusd(self, policy: Policy, accounts: Sequence[Account]) -> int:
        """Return the most that a request of a task holds, whichever of `accounts` asks.

        It is 0 where its answers' usual cost is held, and where a model that costs nothing stands behind the others, as
        nobody is refused then.
        """
        if policy.budget.hold == "expected":
            return 0
        if policy.budget.on_exceeded != "reject" and self._any_free(policy.models):
            return 0
        # A rule that looks at the caller's limit is one for requests that have it.
        rules = [rule for rule in policy.rules if "max_output_tokens" not in rule.when.needs()]
        cap_nusd = request_cap_nusd(policy, self.accounts.budget, accounts)
        most_nusd = max(map(self._longest_nusd, rules))
        return most_nusd if cap_nusd is None else min(most_nusd, cap_nusd)

    def _longest_nusd(self, rule: Rule) -> int:
        """Price the longest answer of the models that a rule may ask first; 0 where one costs nothing."""
        if self._any_free(rule.use):
            return 0
        ask = Ask(input_tokens=max(1, min(case.input_tokens for case in demands(rule.when))))
        first = rule.use[:1] if rule.prefer == "order" and rule.premium_share is None else rule.use
        asked = [self.models[name] for name in first]
        longest = [max(price.ceiling_nusd(ask, model.max_output_tokens) for price in model.prices) for model in asked]
        return min(longest) if rule.prefer == "cheapest" else max(longest)

    def _any_free(self, names: Sequence[str]) -> bool:
        return any(floor_nusd(self.models[name], 1) == 0 for name in names)


def _is_bound(budget: Budget) -> bool:
    """Say whether a budget has a window that may refuse a request."""
    return bool(budget.windows()) and budget.on_exceeded != "warn"
