"""How long a reading of the difficulty takes and, given labelled pairs, how good the score is on what it never saw.

    python -m bench.difficulty
    python -m bench.difficulty OUTCOMES.csv.gz PROMPTS.jsonl.gz

The second leaves out one benchmark at a time, trains on the others, and measures on the one left out.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from router.difficulty.cues import Shape
from router.difficulty.gauge import Gauge
from router.difficulty.look import Look
from router.difficulty.measure import Curve, Prompt
from router.difficulty.scorer import Label, Scorer
from router.difficulty.train import Example, read_examples, train

SENTENCE = "Suppose that a train leaves at 9:40 and must compare {} routes, then explain which of them costs least. "
FIXED_TOKENS = (20, 300, 1_200)
"""What a call costs beside its prompt, in input tokens' worth: a letter, a paragraph, a chain of thought."""
SMALLEST_GAP = 0.08
FEWEST = 100
LABELS = 500
WHOLE = "mmlupro"
"""A source whose tasks are one benchmark."""


def median_ms(tokens: int, readings: int = 300) -> float:
    """Return the median time of one reading and its counting, of prompts of about so many tokens, all different."""
    gauge = Gauge()
    times = []
    for number in range(readings):
        text = (SENTENCE.format(number) * (tokens // 24 + 1))[: tokens * 4]
        began = time.perf_counter()
        reading = gauge.read("bench", text, Shape(), key="bench")
        gauge.seen("bench", reading)
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1_000


@dataclass(frozen=True, slots=True)
class Bench:
    """One benchmark and one pair of models."""

    name: str
    pairs: list[tuple[Look, float]]


def benches(examples: Iterable[Example]) -> list[Bench]:
    """Return the benchmarks by pair that are large enough, and whose premium model is clearly the better."""
    found: dict[str, list[tuple[Look, float]]] = defaultdict(list)
    for example in examples:
        for group, gain in example.gains:
            _, _, pair = group.split("/", 2)
            found[f"{_bench(example)} {pair}"].append((example.look, gain))
    return [
        Bench(name, pairs)
        for name, pairs in sorted(found.items())
        if len(pairs) >= FEWEST and statistics.fmean(gain for _, gain in pairs) >= SMALLEST_GAP
    ]


def _bench(example: Example) -> str:
    source, task, _ = example.gains[0][0].split("/", 2)
    return source if source == WHOLE else task


def area(scorer: Scorer | None, pairs: list[tuple[Look, float]], fixed: float, *, longest: bool = False) -> float:
    """Return the APGR by dollars of a scorer's order; of the longest first, or of the oracle, where there is none."""

    def score(look: Look, gain: float) -> float:
        if scorer:
            return scorer.score(look).value
        return look.tokens if longest else gain / (look.tokens + fixed)

    prompts = [Prompt(score(look, gain), 0.0, gain, 0.0, look.tokens + fixed) for look, gain in pairs]
    return Curve(prompts).apgr(by_usd=True) or 0.0


def left_out(files: list[Path]) -> Table:
    """Train without each benchmark and measure on it: cold, and after labels of its own."""
    examples = read_examples(files)
    by_bench: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        by_bench[_bench(example)].append(example)
    table = Table("benchmark, pair", "prompts", *(f"{name} {fixed}" for name in WAYS for fixed in FIXED_TOKENS))
    totals: list[list[float]] = []
    for name, own in sorted(by_bench.items()):
        weights = train([example for example in examples if _bench(example) != name])
        for bench in benches(own):
            pairs = bench.pairs[:]
            random.Random(1).shuffle(pairs)
            labels = min(LABELS, len(pairs) // 2)
            figures = []
            for way in WAYS:
                for fixed in FIXED_TOKENS:
                    scorer = Scorer(weights)
                    if way == "learned":
                        scorer.learn_all([Label(look, gain, look.tokens + fixed) for look, gain in pairs[:labels]])
                    known = scorer if way in ("cold", "learned") else None
                    figures.append(area(known, pairs[labels:], fixed, longest=way == "longest"))
            totals.append(figures)
            table.add_row(bench.name[:50], str(len(pairs)), *(f"{figure:.3f}" for figure in figures))
    table.add_row("mean", "", *(f"{statistics.fmean(column):.3f}" for column in zip(*totals, strict=True)))
    return table


WAYS = ("cold", "learned", "longest", "oracle")


def main() -> None:
    out = Console(width=200)
    for tokens in (50, 1_000, 5_000_000):
        out.print(f"{tokens:>9,} tokens: {median_ms(tokens, 20 if tokens > 10_000 else 300):.3f} ms")
    files = [Path(name) for name in sys.argv[1:]]
    if files:
        out.print(left_out(files))


if __name__ == "__main__":
    main()
