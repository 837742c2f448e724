"""An evaluation as tables for people: under each figure, where it lies in 95 of 100 such sets."""

from __future__ import annotations

from math import floor, log10
from typing import Any

from router.cli.table import Column, dollars, plural, print_table, say

MANY_ALIKE = 0.3
"""The share of near duplicates from which a set is told to flatter. Of users' own words about one fifth are alike."""
FEW = 50
"""Prompts; of fewer the intervals, the bootstrap's above all, are far too narrow to go by."""
_ROWS = {
    "policy": "this policy",
    "always_cheap": "always cheap",
    "always_premium": "always premium",
    "random_same_spend": "random, same spend",
    "score_same_spend": "by score, same spend",
    "longest_same_spend": "longest, same spend",
    "task_prior_same_spend": "by task, same spend",
    "oracle": "hindsight (oracle)",
}
TOLD_BY_THE_TEXT = frozenset({"json", "json_schema", "regex", "min_chars", "not_refusal"})
"""Checks that an `answer` in the set is enough for."""
_WITHIN = "  95 %"
"""What stands before a row of intervals."""


def show(found: dict[str, Any]) -> None:
    """Print what `report` made."""
    _show_ways(found)
    _show_dollars(found)
    _show_apgr(found)
    learned = f", after {found['learned']:,} labels (to line {found['learned_to_line']:,})" if found["learned"] else ""
    policy, premium = found["policy"], found["always_premium"]
    say(
        f"{plural(found['n'], 'prompt')}{learned}, by the policy of the task '{found['task']}': {found['cheap']} or "
        f"{found['premium']}."
    )
    if premium["cost_usd"] and premium["quality"]:
        say(
            f"The policy costs {policy['cost_usd'] / premium['cost_usd']:.1%} of always premium, and keeps "
            f"{policy['quality'] / premium['quality']:.1%} of its quality."
        )
    say(
        "APGR is the share of the gap between the two that is recovered, averaged over how much is spent, in calls or "
        "in dollars; a random mix has 0.5. By task is in hindsight. Under each figure is its 95 % interval."
    )
    for line in _asides(found):
        say(line)


def _show_ways(found: dict[str, Any]) -> None:
    premium_usd, intervals = found["always_premium"]["cost_usd"], found["interval_95"]
    rows = []
    for name, said in _ROWS.items():
        row, within = found[name], intervals[name]
        share = f"{100 * row['cost_usd'] / premium_usd:.1f}%" if premium_usd else "-"
        calls = f"{100 * row['premium_share']:.1f}%"
        rows.append((said, f"{row['quality']:.4f}", dollars(row["cost_usd"]), share, calls))
        low, high = within["premium_share"]
        between = f"{100 * low:.1f} to {100 * high:.1f}%" if low < high else ""
        rows.append((_WITHIN, _between(within["quality"]), _dollars_between(within["cost_usd"]), "", between))
    print_table(
        (
            Column("way"),
            Column("quality", number=True),
            Column("cost", number=True),
            Column("of premium", number=True, spare=True),
            Column("premium calls", number=True),
        ),
        rows,
    )


def _show_dollars(found: dict[str, Any]) -> None:
    rows: list[tuple[str, ...]] = []
    for level, usd in found["usd_at_quality"].items():
        random_usd = found["random_usd_at_quality"][level]
        within = [found["interval_95"][name][level] for name in ("usd_at_quality", "random_usd_at_quality")]
        rows.append((f"{level}%", _dollars(usd), _dollars(random_usd)))
        rows.append((_WITHIN, *map(_dollars_between, within)))
    print_table(
        (Column("of premium quality"), Column("cost by score", number=True), Column("random mix", number=True)), rows
    )


def _show_apgr(found: dict[str, Any]) -> None:
    within = found["interval_95"]
    rows: list[tuple[str, ...]] = []
    for name, said in (("apgr_calls", "by calls"), ("apgr_usd", "by dollars")):
        rows.append((said, *(_number(side[name]) for side in (found, found["longest"], found["task_prior"]))))
        rows.append((_WITHIN, *(_between(side[name]) for side in (within, within["longest"], within["task_prior"]))))
    print_table(
        (
            Column("APGR"),
            Column("by score", number=True),
            Column("longest first", number=True),
            Column("by task", number=True),
        ),
        rows,
    )


def _asides(found: dict[str, Any]) -> list[str]:
    """Return what to mind about the set and the checks, a sentence or two each."""
    said = []
    if found["n"] < FEW:
        said.append(
            f"Warning: {plural(found['n'], 'prompt')} {'tells' if found['n'] == 1 else 'tell'} next to nothing, and "
            "the intervals of so few are too narrow, even where they have no width. Label some hundreds."
        )
    if lacking := found["left_out"]:
        said.append(
            f"Warning: {plural(lacking['lines'], 'line')} {'is' if lacking['lines'] == 1 else 'are'} left out for want "
            f"of an outcome: line {lacking['first']} has none of '{lacking['model'][:80]}', which most lines have."
        )
    for name, few in found["on_too_few_lines"].items():
        said.append(
            f"Warning: '{name}' has an outcome on {few['lines']:,} of {few['of']:,} lines, too few to judge it by, "
            f"and '{few['taken_for'][:80]}' stands in for it above. Label the others with it, or take "
            "them out."
        )
    if strange := found["not_in_models"]:
        said.append(
            f"models.yaml has no {' or '.join(map(repr, strange))}, as names of vendors and misspelt ones are. Of the "
            f"policy's models that the set does not name, {found['premium']} stands for the baseline and the dearest, "
            f"{found['cheap']} for the others."
        )
    if found["always_premium"]["cost_usd"] <= found["always_cheap"]["cost_usd"]:
        said.append(
            f"Warning: '{found['premium'][:80]}' costs no more here than '{found['cheap'][:80]}', so the dollars above "
            "tell of no saving. Put what each answer cost into the set (`cost_usd`), or name models of models.yaml."
        )
    if found["near_duplicates"] >= MANY_ALIKE * found["n"]:
        said.append(
            f"Warning: {found['near_duplicates']:,} of them nearly repeat a line before them, as filled-in templates "
            "do. The intervals take each for a prompt of its own, and what --learn gains is partly learned by heart: "
            "other traffic will show less. Judge by more kinds of prompts."
        )
    if checks := found["checks"]:
        line = f"{checks['n']:,} had checks: {checks['passed']:.1%} passed, {checks['escalated']:.1%} escalated."
        if checks["not_judged"]:
            line += (
                f" Taken as passed on {checks['lines_not_judged']:,} of them, for the set can't tell: "
                f"{', '.join(checks['not_judged'])}."
            )
            if by_text := [name for name in checks["not_judged"] if name in TOLD_BY_THE_TEXT]:
                line += f" With an `answer` in each outcome it can tell: {', '.join(by_text)}."
        if checks["judge_calls"]:
            line += (
                f" The cost has {plural(checks['judge_calls'], 'grade')} of a judge, {dollars(checks['judge_usd'])}."
            )
        said.append(line)
    if beyond := found["beyond_budget"]:
        said.append(
            f"Warning: {beyond:,} of them cost more in the set than a request may by its budget. A proxy cuts such an "
            "answer short: it costs less than is said here, and is worth less. Label answers that keep within it."
        )
    if found["refused"]:
        said.append(f"{found['refused']:,} of them were refused, and count as quality 0.")
    return said


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _between(pair: tuple[float, float] | None) -> str:
    return "-" if pair is None else f"{pair[0]:.3f} to {pair[1]:.3f}"


def _dollars(usd: float | None) -> str:
    return "not reached" if usd is None else dollars(usd)


def _dollars_between(pair: tuple[float, float] | None) -> str:
    """Write a range to four figures of its upper end, cents at least."""
    if pair is None:
        return "-"
    low, high = pair
    places = min(8, max(2, 3 - floor(log10(high)))) if high > 0 else 2
    return f"${low:,.{places}f} to {high:,.{places}f}"
