"""Models that are asked beside an answer, or on trial: whether the money can ever pay for them.

Where it can't, a check is never made, a canary or a shadow never asked, and nothing is learned, and the answers do not
show it. As with rules, none of this keeps a proxy from starting, for prices move.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from router.policy.beside import GRADES, holds_usual, longest_nusd, request_cap_nusd, second_nusd
from router.policy.decide import MOST_GRADE_TOKENS
from router.policy.fault import Place, Report
from router.policy.policy import Policy, Rule
from router.policy.reading.accounts import Accounts
from router.policy.reading.document import Node, Table, items_at, place_of, text_at
from router.policy.reading.foresight import floor_nusd
from router.policy.reading.logic import demands
from router.policy.target import Model
from router.values import usd_text

FEWEST_TOLD_TOKENS = 80
"""A judge is told no less, whatever it is asked and shown; by the tokens of other models it is a little more."""
LEARN = ("learn", "shadow")
TRIAL = ("experiment", "shadow")
PER_DAY = "budget_per_day_usd"


@dataclass(frozen=True, slots=True)
class Needs:
    """The least that something takes: of a caller who asks for one token, and of one who does not ask for few."""

    least_nusd: int
    usual_nusd: int

    def beside(self, nusd: int) -> Needs:
        """Return what it takes behind an answer of this price."""
        return Needs(nusd + self.least_nusd, nusd + self.usual_nusd)


@dataclass(frozen=True, slots=True)
class Asides:
    """Looks at one task's checks, experiments and learning; what it finds goes into the report of its file."""

    root: Table
    policy: Policy
    models: Mapping[str, Model]
    accounts: Accounts
    report: Report

    def look(self) -> None:
        """Report every model beside the answers that the money can never pay for."""
        for rule, node in zip(self.policy.rules, items_at(self.root, "route"), strict=True):
            self._check_rule(rule, node)
        self._check_learning()

    def _check_rule(self, rule: Rule, node: Node) -> None:
        tokens = max(1, min(case.input_tokens for case in demands(rule.when)))
        # What the first answer held beyond its price is there again once it has ended, and that may be one token long.
        first_nusd = min(self._answer(name, tokens).least_nusd for name in rule.use)
        verify, experiment = rule.verify, rule.experiment
        if verify and (agree := verify.agree):
            needs = self._answer(agree.model, tokens).beside(first_nusd)
            self._within_request(node, ("verify", "agree", "with"), needs, "an answer and a second one", "asked")
        if verify and (judge := verify.judge):
            least = min(self.policy.min_output_tokens, MOST_GRADE_TOKENS)
            nusd = first_nusd + floor_nusd(self.models[judge.model], least, FEWEST_TOLD_TOKENS)
            needs = Needs(nusd, nusd)
            self._within_request(node, ("verify", "judge", "model"), needs, "an answer and its grade", "asked")
        if experiment and (canary := experiment.canary):
            needs = self._answer(canary.model, tokens)
            self._within_request(node, ("experiment", "canary", "model"), needs, "its answer", "tried")
        if experiment and (shadow := experiment.shadow):
            needs = self._answer(shadow.model, tokens)
            if self._within_request(node, (*TRIAL, "model"), needs, "its answer", "tried"):
                least_nusd, longest = (
                    needs.least_nusd,
                    longest_nusd(self.models[shadow.model], self._cap_nusd(), tokens),
                )
                holds_nusd = least_nusd if holds_usual(self.policy, shadow.model) else longest
                self._within_day(
                    place_of(node, (*TRIAL, PER_DAY)), shadow.per_day_nusd, least_nusd, holds_nusd, "mirrored"
                )

    def _check_learning(self) -> None:
        shadow = self.policy.learn.shadow if self.policy.learn else None
        if shadow is None:
            return
        answer = self._answer(shadow.model, 1)
        if not self._within_request(self.root, (*LEARN, "model"), answer, "its answer", "asked"):
            return
        # It is looked for before the second answer, which is taken to be as long as such answers are.
        judge = self.models[shadow.judge] if shadow.judge else None
        grades_nusd = GRADES * floor_nusd(judge, MOST_GRADE_TOKENS, FEWEST_TOLD_TOKENS) if judge else 0
        nusd = answer.least_nusd + grades_nusd
        whole = "a second answer and both grades"
        if self._within_request(self.root, (*LEARN, "judge", "model"), Needs(nusd, nusd), whole, "asked"):
            holds_nusd = second_nusd(self.policy, self.models, self._cap_nusd()) or nusd
            place = place_of(self.root, (*LEARN, PER_DAY))
            self._within_day(place, shadow.per_day_nusd, nusd, holds_nusd, "asked twice")

    def _within_request(self, node: Node, path: tuple[str, ...], needs: Needs, what: str, verb: str) -> bool:
        """Report a model that a request's budget never reaches; warn of one that it reaches for short answers only.

        Say whether neither is so.
        """
        cap_nusd = self.policy.budget.per_request_nusd
        if cap_nusd is None or needs.usual_nusd <= cap_nusd:
            return True
        place, name = place_of(node, path), f'"{text_at(node, *path)}"'
        need = "need" if " and " in what else "needs"
        if needs.least_nusd > cap_nusd:
            said = f"{name} is never {verb}: {what} {need} ${usd_text(needs.least_nusd)} or more"
            self.report.error(place, f"{said}, and per_request_usd is ${usd_text(cap_nusd)}", fatal=False)
        else:
            few = f"{self.policy.min_output_tokens:,} tokens (`min_output_tokens`)"
            said = f"{name} is {verb} only where the caller's `max_tokens` is below {few}: else {what} {need} "
            said += f"${usd_text(needs.usual_nusd)} or more, and per_request_usd is ${usd_text(cap_nusd)}"
            self.report.warning(place, said)
        return False

    def _within_day(self, place: Place, day_nusd: int, needs_nusd: int, holds_nusd: int, done: str) -> None:
        """Report a day's budget that buys nothing; warn of one that a request without `max_tokens` has no room in."""
        if day_nusd < needs_nusd:
            said = f"this pays for nothing: one request that is {done} needs ${usd_text(needs_nusd)} or more"
            self.report.error(place, said, fatal=False)
        elif day_nusd < holds_nusd:
            said = f"a request without `max_tokens` is never {done}: that holds up to ${usd_text(holds_nusd)}"
            self.report.warning(place, f"{said} until it ends; set this to that or more, or `per_request_usd` to less")

    def _cap_nusd(self) -> int | None:
        """Return the most that a request may cost, whoever asks: a shadow's has the same limit."""
        return request_cap_nusd(self.policy, self.accounts.budget, self.accounts.by_name.values())

    def _answer(self, name: str, input_tokens: int) -> Needs:
        """Price an answer; `decide` takes one that is as short as its caller asks for."""
        model, usual = self.models[name], self.policy.min_output_tokens
        return Needs(floor_nusd(model, 1, input_tokens), floor_nusd(model, usual, input_tokens))
