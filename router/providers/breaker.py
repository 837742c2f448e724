"""Which targets have failed so often of late that others are tried before them.

A breaker only orders: where nothing else is left its target is tried all the same, so it never refuses a request.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from msgspec import structs

from router.errors import ProviderError, ProviderRefused
from router.policy.decide import Route
from router.policy.policy import PolicySet
from router.policy.target import Model, Target

OPENS_AFTER_S = 5.0
"""How long a target must have failed for, so that one bad moment of a busy proxy opens nothing."""
FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 60.0
TRIAL_S = 10.0
"""How long one request may take to find out whether a target is well again, before the next one tries."""

Key = tuple[str, str, str | None]


@dataclass(slots=True)
class _Breaker:
    since: float
    """When the first of its failures in a row was."""
    failures: int = 0
    pause_s: float = 0.0
    passed_over_until: float = 0.0
    trying: bool = False
    """Whether one request is finding out whether the target is well again."""

    @property
    def is_open(self) -> bool:
        return self.pause_s > 0


class Breakers:
    """The breakers of one process, by model and target. A target without a failure has none.

    One opens after `most_failures` in a row (0: never). `changed` is told of a model, a target and whether it is open
    now, at each change.
    """

    def __init__(
        self,
        most_failures: int,
        changed: Callable[[str, str, bool], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most_failures = most_failures
        self._changed = changed
        self._monotonic = monotonic
        self._breakers: dict[Key, _Breaker] = {}

    def passes_over(self, model: Model, target: Target) -> bool:
        """Say whether others should be tried before this target."""
        breaker = self._breakers.get(_key(model, target))
        return breaker is not None and breaker.is_open and self._monotonic() < breaker.passed_over_until

    def well_first(self, route: Route) -> Route:
        """Put the candidates last whose every target is passed over."""
        if not self._breakers:
            return route
        ordered = sorted(route.candidates, key=lambda candidate: self._passes_over_all(candidate.model))
        return structs.replace(route, candidates=tuple(ordered))

    def in_order(self, model: Model, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        """Put the targets that are passed over last."""
        if not self._breakers:
            return targets
        return tuple(sorted(targets, key=lambda target: self.passes_over(model, target)))

    def tries(self, model: Model, target: Target) -> None:
        """Note that a target is being tried: while an open one is, nobody else finds out the same."""
        breaker = self._breakers.get(_key(model, target))
        if breaker is not None and breaker.is_open and self._monotonic() >= breaker.passed_over_until:
            breaker.trying = True
            breaker.passed_over_until = self._monotonic() + TRIAL_S

    def answered(self, model: Model, target: Target) -> None:
        """Note that a target gave an answer; it is as good as new."""
        breaker = self._breakers.pop(_key(model, target), None) if self._breakers else None
        if breaker is not None and breaker.is_open:
            self._changed(model.name, target.name, False)

    def failed(self, model: Model, target: Target, error: ProviderError) -> None:
        """Note that a target failed; to refuse a request for what it is, is no failure."""
        if isinstance(error, ProviderRefused):
            self.answered(model, target)
            return
        if not self._most_failures:
            return
        now = self._monotonic()
        breaker = self._breakers.setdefault(_key(model, target), _Breaker(since=now))
        breaker.failures += 1
        if breaker.failures < self._most_failures or now - breaker.since < OPENS_AFTER_S:
            return
        if not breaker.is_open:
            self._changed(model.name, target.name, True)
        if now >= breaker.passed_over_until or breaker.trying:
            pause_s = min(breaker.pause_s * 2, LONGEST_PAUSE_S) or FIRST_PAUSE_S
            breaker.pause_s = max(pause_s, min(error.retry_after_s or 0.0, LONGEST_PAUSE_S))
            breaker.passed_over_until = now + breaker.pause_s
            breaker.trying = False

    def keep_only(self, policies: PolicySet) -> None:
        """Forget the targets that an edit took away."""
        kept = {_key(model, target) for model in policies.models.values() for target in model.targets}
        for key in self._breakers.keys() - kept:
            name, target, _ = key
            if self._breakers.pop(key).is_open:
                self._changed(name, target, False)

    def _passes_over_all(self, model: Model) -> bool:
        return all(self.passes_over(model, target) for target in model.targets)


def _key(model: Model, target: Target) -> Key:
    return model.name, target.name, target.base_url
