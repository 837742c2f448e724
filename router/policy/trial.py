"""Which side of an experiment a request is on.

A side depends on the experiment and on the caller's conversation, account or header alone, so that every replica puts
the same conversation on the same side, today and tomorrow, and raising a share moves nobody back.
"""

from __future__ import annotations

from router.policy.experiment import ACCOUNT, HEADER, Experiment, Side, Trial, point_of
from router.policy.facts import Facts


def trial_of(experiment: Experiment, facts: Facts) -> Trial:
    """Return a request's part in an experiment; control where it has no canary, or the conversation is not known.

    A request that is decided again is on the side that it was on, and at the point where it was, whatever the share.
    """
    canary, drawn = experiment.canary, facts.experiment
    if drawn is not None and drawn.version == experiment.version:
        return Trial(experiment, drawn.side, drawn.point)
    if canary is None:
        return Trial(experiment, Side.CONTROL)
    if drawn is not None and (drawn.name, drawn.model) == (experiment.name, canary.model):
        point = drawn.point
    else:
        # The model's name is in it: the next canary of a rule meets other conversations first.
        value = _stuck_to(canary.sticky_by, facts)
        point = point_of(f"{experiment.name}:{canary.model}", value) if value else None
    is_canary = point is not None and point < canary.share
    return Trial(experiment, Side.CANARY if is_canary else Side.CONTROL, point)


def _stuck_to(sticky_by: str, facts: Facts) -> str:
    """Return what a request's side hangs on; its conversation where it has no account or no such header."""
    value = None
    if sticky_by == ACCOUNT:
        value = facts.account
    elif sticky_by.startswith(HEADER):
        value = facts.headers.get(sticky_by.removeprefix(HEADER))
    return value or facts.conversation
