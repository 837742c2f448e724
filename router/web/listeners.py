"""Who is told of what became of a request, in which order; none of them waits."""

from __future__ import annotations

from dataclasses import dataclass

from router.budgets.lengths import Lengths
from router.lifecycle.gauges import ExperimentGauges
from router.lifecycle.grading import Grader
from router.lifecycle.learning import Learning
from router.lifecycle.rollout import Rollouts
from router.lifecycle.shadow import Mirror
from router.lifecycle.warmth import Warmth
from router.metrics import Metrics
from router.pipeline import Answered
from router.values import Ending, Outcome
from router.web.log import log_outcome
from router.web.traces import Traces


@dataclass(frozen=True, slots=True)
class OutcomeListeners:
    """Told of every outcome, once."""

    metrics: Metrics
    gauges: ExperimentGauges
    rollouts: Rollouts
    traces: Traces | None
    lengths: Lengths

    def tell(self, outcome: Outcome) -> None:
        self.metrics.record(outcome)
        self.gauges.record(outcome)
        self.rollouts.note(outcome)
        log_outcome(outcome)
        if self.traces:
            self.traces.record(outcome)
        if outcome.ending is Ending.ANSWERED and outcome.usage and outcome.routed_model:
            self.lengths.add(outcome.task, outcome.routed_model, outcome.usage.output_tokens)


@dataclass(frozen=True, slots=True)
class AnswerListeners:
    """Told of every answer that is complete, with its texts."""

    warmth: Warmth
    mirror: Mirror
    learning: Learning
    grader: Grader

    def tell(self, answered: Answered) -> None:
        self.warmth.note(answered)
        self.mirror.offer(answered)
        if answered.plan.policy.learn:
            self.learning.note(answered)
            self.grader.offer(answered)
