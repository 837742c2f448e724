"""What `prefer: value` and `premium_share` of a rule need beside their shape, checked at load."""

from __future__ import annotations

from router.policy.fault import Report
from router.policy.reading.document import Node, Table, at, key_place, text_at, texts_at

VALUE = "value"


def check_money(root: Table, rule: Node, report: Report) -> None:
    """Report a choice between fewer than two models, two ways to choose at once, and a pace without a day's budget."""
    models = {model for model, _ in texts_at(rule, "use")}
    share = key_place(rule, ("premium_share",))
    prefer = key_place(rule, ("prefer",))
    if at(rule, "premium_share") is not None:
        if len(models) == 1:
            report.error(share, "`premium_share` divides requests between models; name two or more in `use`")
        if text_at(rule, "prefer") is not None and not report.knows(prefer):
            report.error(prefer, "`premium_share` orders the models of this rule; leave `prefer` out")
    elif text_at(rule, "prefer") == VALUE:
        if len(models) == 1:
            report.error(prefer, "`prefer: value` chooses between models; name two or more in `use`")
        if isinstance(root, Table) and at(root, "budget", "per_day_usd") is None:
            report.warning(
                prefer, "`prefer: value` has no day's budget to spend over the day; add `budget: {per_day_usd: …}`"
            )
