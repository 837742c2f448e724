"""The results of a day, summed by task and over all: where it went, what it cost, what the baseline would have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from router.cli.demo.send import Result


@dataclass(slots=True)
class Tally:
    """Sums over some results, in nUSD."""

    requests: int = 0
    answered: int = 0
    refused: int = 0
    failed: int = 0
    streamed: int = 0
    cost_nusd: int = 0
    baseline_nusd: int = 0
    untold: int = 0
    """Answers whose baseline the proxy did not tell; their cost stands in for it, so that savings are not inflated."""
    models: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)

    @property
    def saved_nusd(self) -> int:
        """Negative where the routing cost more than the baseline."""
        return self.baseline_nusd - self.cost_nusd

    def add(self, result: Result) -> None:
        self.requests += 1
        self.streamed += result.streamed
        if result.code:
            self.codes[result.code] += 1
        match result.ending:
            case "refused":
                self.refused += 1
                return
            case "failed":
                self.failed += 1
                return
        self.answered += 1
        self.models[result.model or "none"] += 1
        cost_nusd = result.cost_nusd or 0
        self.cost_nusd += cost_nusd
        self.baseline_nusd += cost_nusd if result.baseline_nusd is None else result.baseline_nusd
        self.untold += result.baseline_nusd is None

    def mix(self) -> str:
        """Say which models answered, most used first: "cheap 62%, premium 38%"."""
        shares = (f"{model} {100 * count / self.answered:.0f}%" for model, count in self.models.most_common())
        return ", ".join(shares) or "none"


def tallied(results: Iterable[Result]) -> tuple[dict[str, Tally], Tally]:
    """Return the sums by task, in alphabetical order, and those over all."""
    by_task: dict[str, Tally] = {}
    total = Tally()
    for result in results:
        by_task.setdefault(result.task, Tally()).add(result)
        total.add(result)
    return dict(sorted(by_task.items())), total
