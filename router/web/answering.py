"""What answers requests and what follows an answer: the pipeline with its parts, and who is told of what it did.

Nothing here has begun when it is opened: its works are started, and its ends closed, by the composition root.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

from router.difficulty.gauge import Gauge
from router.difficulty.pacing import Pacing
from router.lifecycle.gauges import ExperimentGauges
from router.lifecycle.grading import Grader
from router.lifecycle.learning import Learning
from router.lifecycle.ratings import Ratings
from router.lifecycle.rollout import Rollouts
from router.lifecycle.shadow import Mirror
from router.lifecycle.warmth import Warmth
from router.metrics import Metrics
from router.pipeline import Parts, Pipeline
from router.pipeline.own_checks import OwnChecks
from router.policy.policy import PolicySet
from router.providers.breaker import Breakers
from router.providers.lanes import Lanes
from router.settings import Settings
from router.tokens import Counter
from router.web.books import Books, lengths_in
from router.web.listeners import AnswerListeners, OutcomeListeners
from router.web.traces import Traces, open_traces


@dataclass(frozen=True, slots=True)
class Answering:
    """How one proxy answers, with the policies in force."""

    pipeline: Pipeline
    policies: Callable[[], PolicySet]
    """As experiments have them; what the files say is the folder's."""
    lanes: Lanes
    breakers: Breakers
    gauge: Gauge
    traces: Traces | None
    rollouts: Rollouts
    mirror: Mirror
    learning: Learning
    ratings: Ratings
    grader: Grader

    def use(self, policies: PolicySet) -> None:
        """Take on policies that have come into force; what asks for them at each request does so by itself."""
        self.gauge.use(policies.weights)
        self.breakers.keep_only(policies)


async def open_answering(
    settings: Settings,
    policies: Callable[[], PolicySet],
    counter: Counter,
    books: Books,
    metrics: Metrics,
    gauges: ExperimentGauges,
    clock: Callable[[], float],
) -> Answering:
    """Put the parts together, and ask the ledger where experiments stand.

    `policies` gives those that the files say, and has some already.
    """
    lengths = lengths_in(books.store)
    lanes = Lanes()
    breakers = Breakers(settings.breaker_failures, metrics.breaker)
    rollouts = Rollouts(policies, books.store, books.ledger, clock, gauges.states)
    await rollouts.restore()
    gauge = Gauge(policies().weights)
    traces = open_traces(os.environ)
    parts = Parts(
        policies=rollouts.policies,
        counter=counter,
        budgets=books.budgets,
        ledger=books.ledger,
        lane=lanes,
        breakers=breakers,
        observe=OutcomeListeners(metrics, gauges, rollouts, traces, lengths).tell,
        escalated=metrics.escalated,
        clock=clock,
        usual_output_tokens=lengths.usual,
        own_checks=OwnChecks(metrics.own_check_hung),
        gauge=gauge,
        pacing=Pacing(),
        traced=traces is not None,
    )
    warmth = Warmth(clock)
    mirror = Mirror(parts, gauges.dropped)
    learning = Learning(policies, books.store, gauge, clock, metrics.labelled)
    grader = Grader(parts, learning.graded, gauges.dropped)
    answers = AnswerListeners(warmth, mirror, learning, grader)
    return Answering(
        pipeline=Pipeline(replace(parts, warm_at=warmth.at, answered=answers.tell)),
        policies=rollouts.policies,
        lanes=lanes,
        breakers=breakers,
        gauge=gauge,
        traces=traces,
        rollouts=rollouts,
        mirror=mirror,
        learning=learning,
        ratings=Ratings(policies, books.store, clock, learning, books.ledger.any_spooled),
        grader=grader,
    )
