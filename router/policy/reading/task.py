"""One task's file → its policy. Its `tests:` are read beside it, in `tests`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType

from router.policy.claim import AUTO
from router.policy.condition import ALWAYS, Always, Condition
from router.policy.decide import PINNED
from router.policy.expectation import PolicyTest
from router.policy.fault import Report
from router.policy.learn import LEARNING
from router.policy.policy import Match, Policy, Rule
from router.policy.reading.accounts import budget_of
from router.policy.reading.document import (
    Node,
    Table,
    at,
    entries_at,
    items_at,
    key_place,
    place_of,
    text_at,
    texts_at,
)
from router.policy.reading.environment import report_strays
from router.policy.reading.experiment import check_experiment, experiment_of
from router.policy.reading.learn import check_learn, learn_of
from router.policy.reading.logic import contradiction, follows, is_certain, parts_of
from router.policy.reading.money import check_money
from router.policy.reading.names import Names, check_name, check_version
from router.policy.reading.shape import read_shape, strange_keys
from router.policy.reading.sharing import Scope
from router.policy.reading.tests import check_tests, read_tests
from router.policy.reading.verify import check_streams, check_verify, verify_of
from router.policy.reading.when import WhenCompiler
from router.policy.schema.task import MatchShape, RuleShape, TaskFile

OTHERWISE = "otherwise"
"""The name of a last rule that has none."""
MOST_COMPARED = 60
"""Of earlier rules, with each one, so that a file of ten thousand rules is still read in seconds."""
RESERVED = {
    PINNED: "that is what a pinned model's requests bear",
    LEARNING: "that is what second answers bear in the ledger",
}


@dataclass(frozen=True, slots=True)
class Task:
    """What one task's file holds."""

    policy: Policy
    tests: tuple[PolicyTest, ...]


def read_task(root: Table, names: Names, scope: Scope, report: Report) -> Task | None:
    """Return the policy with its tests, or None with every fault in `report`; `scope` is what its rules can name."""
    check_version(root, report)
    shape = read_shape(root, TaskFile, report)
    report_strays(root, report)
    if text_at(root, "task") == AUTO:
        report.error(place_of(root, ("task",)), f'a task can\'t be named "{AUTO}": callers name that to choose none')
    _check_references(root, names, report)
    _check_match(root, names, report)
    rules = items_at(root, "route")
    rule_names = _rule_names(rules)
    conditions = _conditions(rules, names, scope, report)
    _check_uses(scope, report)
    for rule, condition in zip(rules, conditions, strict=True):
        if condition is not None:
            check_streams(rule, condition, report)
    _check_rules(rules, rule_names, conditions, report)
    check_tests(root, frozenset((*rule_names, PINNED)), names, report)
    if shape is None or None in conditions or report.stops:
        return None
    prompts = {model: system for model, (system, _) in scope.prompts.items()}
    policy = _policy(shape, rule_names, conditions, prompts, report.file)
    _check_prompts(root, policy, report)
    return Task(policy, read_tests(root, shape, report.file))


def _check_references(root: Table, names: Names, report: Report) -> None:
    for model, place in texts_at(root, "baseline"):
        check_name(model, names.models, "model", place, report)
    for model, entry in entries_at(root, "prompts").items():
        check_name(model, names.models, "model", entry.place, report)
    for rule in items_at(root, "route"):
        seen: set[str] = set()
        for model, place in texts_at(rule, "use"):
            check_name(model, names.models, "model", place, report)
            if model in seen:
                report.error(place, f'"{model[:60]}" is named twice in this `use`')
            seen.add(model)
        check_verify(rule, names, report)
        check_money(root, rule, report)
        check_experiment(rule, names, report)
    check_learn(root, names, report)


def _check_match(root: Table, names: Names, report: Report) -> None:
    match = at(root, "match")
    if not isinstance(match, Table):
        return
    claims = any(entries_at(match, key) or [*texts_at(match, key)] for key in ("models", "accounts", "headers"))
    if not claims and not strange_keys(match, MatchShape):
        report.error(key_place(root, ("match",)), "`match` claims nothing; give it models, accounts or headers")
    for model, place in texts_at(match, "models"):
        if names.models and model in names.models:
            report.warning(
                place,
                f'"{model}" is in models.yaml, so a request for it gets that model, whatever the rules say',
            )
    for account, place in texts_at(match, "accounts"):
        check_name(account, names.accounts, "account", place, report)


def _rule_names(rules: tuple[Node, ...]) -> tuple[str, ...]:
    last = len(rules) - 1
    return tuple(
        text_at(rule, "name") or (OTHERWISE if index == last else f"rule-{index + 1}")
        for index, rule in enumerate(rules)
    )


def _conditions(rules: tuple[Node, ...], names: Names, scope: Scope, report: Report) -> tuple[Condition | None, ...]:
    """Return each rule's condition, None for one with a fault."""
    compiler = WhenCompiler(report, names.accounts, scope)
    conditions: list[Condition | None] = []
    for rule in rules:
        when = at(rule, "when")
        if when is None:
            # A strange key may be the `when`, so that nothing is said of what such a rule leaves to others.
            conditions.append(None if strange_keys(rule, RuleShape) else Always())
        elif when.plain() is None:
            conditions.append(None)
        else:
            conditions.append(compiler.compile(when, key_place(rule, ("when",))))
    return tuple(conditions)


def _check_uses(scope: Scope, report: Report) -> None:
    for definition in scope.own():
        if not definition.used and not report.knows(definition.place):
            report.warning(definition.place, f'no rule names the condition "{definition.name[:60]}"')


def _check_prompts(root: Table, policy: Policy, report: Report) -> None:
    """Warn of a prompt for a model that the task never asks of itself."""
    asked = {*policy.counted_models, *policy.trial_models, policy.baseline}
    for model, entry in entries_at(root, "prompts").items():
        if model not in asked:
            said = f'no answer here is of "{model[:60]}", so that only a caller who names it gets this prompt'
            report.warning(entry.place, said)


def _check_rules(
    rules: tuple[Node, ...],
    rule_names: tuple[str, ...],
    conditions: tuple[Condition | None, ...],
    report: Report,
) -> None:
    """Report rules that can never be reached, a missing catch-all, and names given twice."""
    always: str | None = None
    before: dict[str, Condition] = {}
    named: dict[str, int] = {}
    for rule, name, condition in zip(rules, rule_names, conditions, strict=True):
        own_place = place_of(rule, ("name",))
        if name in RESERVED:
            report.error(own_place, f'a rule can\'t be named "{name}": {RESERVED[name]}')
        if name in named:
            report.error(own_place, f'two rules are named "{name[:60]}"; the other is on line {named[name]}')
        named.setdefault(name, own_place.line)
        if always is not None:
            report.error(rule.place, f'never reached: the rule "{always}" before it always holds')
        elif isinstance(condition, Always):
            always = name
        elif condition is not None and (reason := contradiction(condition)):
            report.error(key_place(rule, ("when",)), f"never holds: {reason}")
        elif condition is not None:
            certain = is_certain(condition)
            if certain:
                report.warning(key_place(rule, ("when",)), "this holds for every request; leave `when` out")
            _check_order(rule, condition, before, report)
            before.setdefault(name, ALWAYS if certain else condition)
    if rules and at(rules[-1], "when") is not None and always is None:
        report.error(
            key_place(rules[-1], ("when",)),
            "the last rule has a `when`; end with one that has none, for all the rest",
        )


def _check_order(rule: Node, condition: Condition, before: dict[str, Condition], report: Report) -> None:
    """Report a rule that an earlier one always comes before; where that one's models don't fit, it is looked at."""
    for name, earlier in islice(before.items(), MOST_COMPARED):
        if set(parts_of(condition)) == set(parts_of(earlier)):
            report.error(rule.place, f'never reached: the rule "{name}" before it has the same `when`')
            return
        if follows(condition, earlier):
            report.warning(
                rule.place,
                f'only a fallback: the rule "{name}" before it holds wherever this does; put the narrower rule first',
            )
            return


def _policy(
    shape: TaskFile,
    rule_names: tuple[str, ...],
    conditions: tuple[Condition | None, ...],
    prompts: Mapping[str, str],
    file: str,
) -> Policy:
    rules = tuple(
        _rule(shape, rule, name, condition)
        for rule, name, condition in zip(shape.route, rule_names, conditions, strict=True)
        if condition is not None
    )
    return Policy(
        task=shape.task,
        rules=rules,
        match=_match(shape.match),
        baseline=shape.baseline,
        budget=budget_of(shape.budget),
        min_output_tokens=shape.min_output_tokens,
        expected_output_tokens=shape.expected_output_tokens,
        unsure=shape.unsure,
        prompts=MappingProxyType(dict(prompts)),
        learn=learn_of(shape.learn),
        needs=frozenset({"difficulty"} if shape.learn else ()).union(*(rule.needs() for rule in rules)),
        file=file,
    )


def _rule(task: TaskFile, shape: RuleShape, name: str, condition: Condition) -> Rule:
    return Rule(
        name=name,
        use=tuple(shape.use),
        when=condition,
        prefer=shape.prefer,
        premium_share=None if shape.premium_share is None else float(shape.premium_share),
        verify=verify_of(shape.verify),
        experiment=experiment_of(shape, task.task, name),
        sticks=(shape.stick or task.stick) == "conversation",
    )


def _match(shape: MatchShape | None) -> Match:
    if shape is None:
        return Match()
    headers: Mapping[str, str] = {name.lower(): value for name, value in (shape.headers or {}).items()}
    return Match(frozenset(shape.models or ()), frozenset(shape.accounts or ()), MappingProxyType(headers))
