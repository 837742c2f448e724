"""Where each canary stands: running, aborted or promoted, by its guards, in every replica and after every restart.

A canary's end is in the ledger, where whoever asks finds it again. Until the ledger has been asked, a guarded canary is
paused: it gets no requests. Nothing here is on a request's path but a comparison of two references.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Protocol

from router.errors import StoreUnavailable
from router.ledger.contract import Store
from router.ledger.rows import time_text
from router.lifecycle.ends import Ended, State, asked, row_of_end
from router.lifecycle.guards import MEASURED, fulfilled, measured, tripped
from router.lifecycle.sample import Sample, part_of, sample_of
from router.policy.experiment import MOST_SAMPLES, Experiment, Guards, Side
from router.policy.policy import Policy, PolicySet, Rule
from router.values import Outcome

JUDGE_EVERY_S = 0.5
READ_EVERY_S = 2.0
"""How late a replica may hear of what others saw and decided."""
LOOKED_BACK = timedelta(days=7)
"""How far back a start looks for a canary's requests."""
OVERLAP = timedelta(minutes=2)
"""Rows bear the time of arrival and come when they are settled: how far before the last look each look begins."""

log = logging.getLogger("farthing.experiments")


class Ledger(Protocol):
    """What is needed of the ledger's writer."""

    def record(self, outcome: Outcome) -> object: ...


@dataclass(slots=True)
class Watched:
    """One experiment of the policies in force, and what its canary's latest requests came to."""

    experiment: Experiment
    state: State
    because: str = ""
    since: str = ""
    """When its canary was aborted or promoted, as the ledger writes times."""
    samples: OrderedDict[str, Sample] = field(default_factory=OrderedDict)
    read_until: datetime | None = None
    """When the ledger was last asked; None before."""
    news: bool = False

    @property
    def share(self) -> float | None:
        """The canary's share as it is in force; None where there is no canary."""
        canary = self.experiment.canary
        if canary is None:
            return None
        return {State.RUNNING: canary.share, State.PROMOTED: 1.0}.get(self.state, 0.0)

    def add(self, request_id: str, sample: Sample) -> None:
        """Take one more request of the canary; one that is known already changes nothing."""
        if request_id not in self.samples:
            self.news = True
            self.samples[request_id] = sample
            if len(self.samples) > MOST_SAMPLES:
                self.samples.popitem(last=False)


class Rollouts:
    """Gives out the policies with every canary's share as its state demands. Lives on one event loop."""

    def __init__(
        self,
        current: Callable[[], PolicySet],
        store: Store,
        ledger: Ledger,
        clock: Callable[[], float],
        told: Callable[[Iterable[Watched]], None],
    ) -> None:
        """`current` gives the policies as the files say; `told` hears the states whenever one changes."""
        self._current = current
        self._store = store
        self._ledger = ledger
        self._clock = clock
        self._told = told
        self._base: PolicySet | None = None
        self._effective: PolicySet | None = None
        self._watched: dict[str, Watched] = {}
        self._wanted = asyncio.Event()
        self._away = False

    def policies(self) -> PolicySet:
        """Return the policies in force; the same value until a file or a state changes."""
        base = self._current()
        if base is not self._base or self._effective is None:
            self._follow(base)
        assert self._effective is not None
        return self._effective

    async def restore(self) -> None:
        """Ask the ledger how the canaries in force stand; where it is away, they stay paused until it is back."""
        self.policies()
        await self._read()

    def note(self, outcome: Outcome) -> None:
        """Take the outcome of any request."""
        if (part := part_of(outcome.facts)) is None or part.side is not Side.CANARY:
            return
        watched = self._watched.get(part.version)
        if watched is not None and (sample := sample_of(outcome, part)):
            watched.add(outcome.id, sample)

    async def work(self) -> None:
        """Judge canaries twice a second, and hear of other replicas every two, until cancelled."""
        due_s = 0.0
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with asyncio.timeout(JUDGE_EVERY_S):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            self._wanted.clear()
            self.policies()
            if loop.time() >= due_s or any(self._unread()):
                await self._read()
                due_s = loop.time() + READ_EVERY_S
            self._judge()

    def described(self) -> list[dict[str, Any]]:
        """Say where each experiment stands, and what its canary's latest requests came to."""
        self.policies()
        return [_described(watched) for watched in self._watched.values()]

    def _follow(self, base: PolicySet) -> None:
        """Take on the experiments of these policies, and put every canary's share in its place."""
        found = [experiment for policy in base.policies.values() for experiment in policy.experiments]
        self._watched = {
            experiment.version: self._watched.get(experiment.version)
            or Watched(experiment, State.PAUSED if experiment.is_guarded else State.RUNNING)
            for experiment in found
        }
        self._base = base
        shares = {version: share for version, w in self._watched.items() if (share := w.share) is not None}
        self._effective = with_shares(base, shares)
        if any(self._unread()):
            self._wanted.set()
        self._told(self._watched.values())

    def _unread(self) -> Iterator[Watched]:
        return (watched for watched in self._watched.values() if watched.state is State.PAUSED and not self._away)

    async def _read(self) -> None:
        """Hear what the ledger says of every guarded canary."""
        guarded = [watched for watched in self._watched.values() if watched.experiment.is_guarded]
        if not guarded:
            return
        now = datetime.fromtimestamp(self._clock(), UTC)
        try:
            for watched in guarded:
                since = watched.read_until - OVERLAP if watched.read_until else now - LOOKED_BACK
                ended, samples = await asyncio.to_thread(asked, self._store, watched.experiment, since)
                for request_id, sample in samples:
                    watched.add(request_id, sample)
                watched.read_until = now
                self._heard(watched, ended)
        except StoreUnavailable as error:
            if not self._away:
                log.warning("Experiments can't hear of other replicas; new canaries wait: %s", error)
            self._away = True
        else:
            self._away = False

    def _heard(self, watched: Watched, ended: Ended | None) -> None:
        """Take on a state that the ledger knows of."""
        if ended is None and watched.state is State.PAUSED:
            self._turn(watched, State.RUNNING)
        elif ended is not None and watched.state is not State.ABORTED and ended.state is not watched.state:
            watched.because, watched.since = ended.because, ended.at
            log.warning("The canary of %s is %s: %s.", watched.experiment.name, ended.state, ended.because)
            self._turn(watched, ended.state)

    def _judge(self) -> None:
        """Abort or promote the canaries whose guards say so."""
        for watched in self._watched.values():
            if not watched.news or watched.state not in (State.RUNNING, State.PROMOTED):
                continue
            watched.news = False
            experiment, samples = watched.experiment, watched.samples.values()
            if experiment.abort_when and (why := tripped(experiment.abort_when, samples)):
                self._end(watched, State.ABORTED, why)
            elif (
                watched.state is State.RUNNING
                and experiment.promote_when
                and (why := fulfilled(experiment.promote_when, samples))
            ):
                self._end(watched, State.PROMOTED, why)

    def _end(self, watched: Watched, state: State, because: str) -> None:
        at = datetime.fromtimestamp(self._clock(), UTC)
        watched.because, watched.since = because, time_text(at)
        log.warning("The canary of %s is %s: %s.", watched.experiment.name, state, because)
        assert self._base is not None, "an experiment is in force"
        self._ledger.record(row_of_end(watched.experiment, state, because, at, self._base.revision))
        self._turn(watched, state)

    def _turn(self, watched: Watched, state: State) -> None:
        watched.state = state
        self._effective = None
        self.policies()


def with_shares(policies: PolicySet, shares: Mapping[str, float]) -> PolicySet:
    """Return the policies with canaries' shares by version; the same value where nothing differs."""
    changed = {
        task: other
        for task, policy in policies.policies.items()
        if policy.experiments and (other := _with_shares(policy, shares)) is not policy
    }
    if not changed:
        return policies
    return replace(policies, policies=MappingProxyType({**policies.policies, **changed}))


def _with_shares(policy: Policy, shares: Mapping[str, float]) -> Policy:
    def changed(rule: Rule) -> Rule:
        experiment = rule.experiment
        if experiment is None or experiment.canary is None:
            return rule
        share = shares.get(experiment.version, experiment.canary.share)
        if share == experiment.canary.share:
            return rule
        return replace(rule, experiment=replace(experiment, canary=replace(experiment.canary, share=share)))

    rules = tuple(changed(rule) for rule in policy.rules)
    return (
        policy
        if all(one is other for one, other in zip(rules, policy.rules, strict=True))
        else replace(policy, rules=rules)
    )


def _described(watched: Watched) -> dict[str, Any]:
    experiment = watched.experiment
    canary, shadow = experiment.canary, experiment.shadow
    return {
        "task": experiment.task,
        "rule": experiment.rule,
        "version": experiment.version,
        "state": watched.state.value,
        "because": watched.because or None,
        "since": watched.since or None,
        "canary": {"model": canary.model, "share": watched.share, "sticky_by": canary.sticky_by} if canary else None,
        "shadow": {"model": shadow.model, "share": shadow.share} if shadow else None,
        "requests": len(watched.samples),
        "measures": {measure: measured(measure, watched.samples.values()) for measure in MEASURED},
        "abort_when": _guards(experiment.abort_when),
        "promote_when": _guards(experiment.promote_when),
    }


def _guards(guards: Guards | None) -> list[str]:
    return [str(bound) for bound in guards.bounds] if guards else []
