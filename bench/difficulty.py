"""What a reading of the difficulty costs and, given labelled pairs, how good the score is on what it never saw.

    python -m bench.difficulty
    python -m bench.difficulty OUTCOMES.csv.gz PROMPTS.jsonl.gz

The second leaves out one benchmark at a time, and one source at a time, trains on the others, and measures on what
was left out.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
from rich.console import Console
from rich.table import Table

from bench.load import load
from router.difficulty.cues import Shape
from router.difficulty.gauge import Gauge
from router.difficulty.look import Look
from router.difficulty.measure import Curve, Prompt
from router.difficulty.scorer import Label, Scorer
from router.difficulty.train import Example, read_examples, train
from router.difficulty.weights import Weights

SENTENCE = "Suppose that a train leaves at 9:40 and must compare {} routes, then explain which of them costs least. "
FIXED_TOKENS = (20, 300, 1_200)
"""What a call costs beside its prompt, in input tokens' worth: a letter, a paragraph, a chain of thought."""
SMALLEST_GAP = 0.08
FEWEST = 100
LABELS = 500
TASKS = {"support": "no rule looks", "by-difficulty": "a threshold", "by-share": "premium_share"}
"""Those of `bench.proxy`, and how they use the difficulty."""
MIXED = 350
"""So many prompts of each benchmark make a mixture, as a task's traffic may be one."""
WHOLE = "mmlupro"
"""A source whose tasks are one benchmark."""


def median_ms(tokens: int, readings: int = 300) -> float:
    """Return the median time of one reading and its counting, of prompts of about so many tokens, all different."""
    gauge = Gauge()
    times = []
    for number in range(readings):
        text = text_of(tokens, number)
        began = time.perf_counter()
        reading = gauge.read("bench", text, Shape(), key="bench")
        gauge.seen("bench", reading)
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1_000


def text_of(tokens: int, number: int) -> str:
    """Return a prompt of about so many tokens; each number gives another."""
    return (SENTENCE.format(number) * (tokens // 24 + 1))[: tokens * 4]


async def added_table(url: str, key: str, scale: float, rounds: int) -> Table:
    """Measure what looking at the difficulty adds to a request through a proxy, all prompts different."""
    table = Table(title="What difficulty adds to a request, one caller, medians")
    for heading in ("prompt", "a reading alone", *TASKS.values()):
        table.add_column(heading, justify="right")
    for tokens in (50, 1_000):
        found: dict[str, list[float]] = {task: [] for task in TASKS}
        for number in range(rounds + 1):
            for task in TASKS:
                bodies = [_body(task, tokens, number * 10_000 + each) for each in range(int(500 * scale))]
                figures = await load(url + "/chat/completions", bodies, callers=1, requests=len(bodies), key=key)
                assert not figures.failed, f"{figures.failed} requests failed: {task}"
                # The first round only fills the window of recent scores.
                if number:
                    found[task].append(figures.quantile_ms(0.5))
        first, *others = (statistics.median(times) for times in found.values())
        said = [f"{first:.3f} ms", *(f"{other:.3f} ms (+{other - first:.3f})" for other in others)]
        table.add_row(f"{tokens:,} tokens", f"{median_ms(tokens):.3f} ms", *said)
    return table


def _body(task: str, tokens: int, number: int) -> bytes:
    messages = [{"role": "user", "content": text_of(tokens, number)}]
    return msgspec.json.encode({"model": f"task:{task}", "messages": messages, "max_tokens": 200})


Anchor = Literal["longest", "shortest", "oracle"]
WAYS: tuple[Literal["cold", "learned"] | Anchor, ...] = ("cold", "learned", "longest", "shortest", "oracle")


@dataclass(frozen=True, slots=True)
class Bench:
    """One benchmark and one pair of models."""

    name: str
    pairs: list[tuple[Look, float]]


def benches(examples: Iterable[Example]) -> list[Bench]:
    """Return the benchmarks by pair that are large enough, and whose premium model is clearly the better."""
    return [
        bench
        for bench in by_pair(examples, _bench)
        if len(bench.pairs) >= FEWEST and statistics.fmean(gain for _, gain in bench.pairs) >= SMALLEST_GAP
    ]


def by_pair(examples: Iterable[Example], part: Callable[[Example], str]) -> list[Bench]:
    """Return the prompts of each part of the examples with their gains, for each pair of models."""
    found: dict[str, list[tuple[Look, float]]] = defaultdict(list)
    for example in examples:
        for group, gain in example.gains:
            _, _, pair = group.split("/", 2)
            found[f"{part(example)} {pair}"].append((example.look, gain))
    return [Bench(name, pairs) for name, pairs in sorted(found.items())]


def _bench(example: Example) -> str:
    source, task, _ = example.gains[0][0].split("/", 2)
    return source if source == WHOLE else task


def area(order: Scorer | Anchor, pairs: list[tuple[Look, float]], fixed: float) -> float:
    """Return the APGR by dollars of a scorer's order, or of one to compare it with."""

    return _area([_prompt(order, look, gain, fixed) for look, gain in pairs])


def _area(prompts: list[Prompt]) -> float:
    return Curve(prompts).apgr(by_usd=True) or 0.0


def _prompt(order: Scorer | Anchor, look: Look, gain: float, fixed: float) -> Prompt:
    usd = look.tokens + fixed
    match order:
        case Scorer():
            score = order.score(look).value
        case "longest":
            score = look.tokens
        case "shortest":
            score = -look.tokens
        case "oracle":
            score = gain / usd
    return Prompt(score, 0.0, gain, 0.0, usd)


def left_out(files: list[Path]) -> Table:
    """Train without each benchmark and measure on it, cold and after labels of its own; so with each whole source."""
    examples = read_examples(files)
    table = Table("left out, pair", "prompts", *(f"{name} {fixed}" for name in WAYS for fixed in FIXED_TOKENS))
    of_pairs: list[list[float]] = []
    of_benches: list[list[float]] = []
    mixed: dict[tuple[str, int], list[Prompt]] = defaultdict(list)
    for weights, own in _each_left_out(examples, _bench):
        found = []
        for bench in benches(own):
            pairs = _shuffled(bench)
            found.append(_both_ways(weights, pairs))
            table.add_row(bench.name[:50], str(len(pairs)), *_printed(found[-1]))
            if len(found) == 1:
                _mix(mixed, weights, pairs[:MIXED])
        of_pairs += found
        if found:
            of_benches.append(_means(found))
    table.add_row("mean", "", *_printed(_means(of_pairs)))
    table.add_row("mean, each benchmark once", "", *_printed(_means(of_benches)))
    mixture = [_area(mixed[way, fixed]) if (way, fixed) in mixed else None for way in WAYS for fixed in FIXED_TOKENS]
    table.add_row(f"{MIXED} of each, mixed", "", *("" if area is None else f"{area:.3f}" for area in mixture))
    of_sources = []
    for weights, own in _each_left_out(examples, _source):
        found = []
        for whole in by_pair(own, _source):
            pairs = _shuffled(whole)
            found.append(_both_ways(weights, pairs))
            table.add_row(f"all of {whole.name}"[:50], str(len(pairs)), *_printed(found[-1]))
        of_sources.append(_means(found))
    table.add_row("mean, each source once", "", *_printed(_means(of_sources)))
    return table


def _each_left_out(examples: list[Example], part: Callable[[Example], str]) -> Iterator[tuple[Weights, list[Example]]]:
    """Yield each part of the examples with the weights that all others give."""
    for name in sorted({part(example) for example in examples}):
        yield (
            train([example for example in examples if part(example) != name]),
            [example for example in examples if part(example) == name],
        )


def _source(example: Example) -> str:
    return example.gains[0][0].split("/", 1)[0]


def _shuffled(bench: Bench) -> list[tuple[Look, float]]:
    pairs = bench.pairs[:]
    random.Random(1).shuffle(pairs)
    return pairs


def _both_ways(weights: Weights, pairs: list[tuple[Look, float]]) -> list[float]:
    """Measure twice, with the first and with the last of them as labels, for what is left of a small one is few."""
    return _means([_figures(weights, pairs), _figures(weights, pairs[::-1])])


def _mix(mixed: dict[tuple[str, int], list[Prompt]], weights: Weights, pairs: list[tuple[Look, float]]) -> None:
    """Put one benchmark's prompts among the others, each way; what labels of all would teach is not measured."""
    orders: tuple[Scorer | Anchor, ...] = (Scorer(weights), "longest", "shortest", "oracle")
    for order in orders:
        name = "cold" if isinstance(order, Scorer) else order
        for fixed in FIXED_TOKENS:
            mixed[name, fixed] += [_prompt(order, look, gain, fixed) for look, gain in pairs]


def _figures(weights: Weights, pairs: list[tuple[Look, float]]) -> list[float]:
    """Return the areas for each of WAYS and FIXED_TOKENS; the first prompts are the labels, the others judge."""
    labels = min(LABELS, len(pairs) // 2)
    figures = []
    for way in WAYS:
        for fixed in FIXED_TOKENS:
            order = Scorer(weights) if way == "cold" or way == "learned" else way  # noqa: PLR1714  mypy narrows this
            if isinstance(order, Scorer) and way == "learned":
                order.learn_all([Label(look, gain, look.tokens + fixed) for look, gain in pairs[:labels]])
            figures.append(area(order, pairs[labels:], fixed))
    return figures


def _means(rows: list[list[float]]) -> list[float]:
    return [statistics.fmean(column) for column in zip(*rows, strict=True)]


def _printed(figures: list[float]) -> list[str]:
    return [f"{figure:.3f}" for figure in figures]


def main() -> None:
    out = Console(width=200)
    for tokens in (50, 1_000, 5_000_000):
        out.print(f"{tokens:>9,} tokens: {median_ms(tokens, 20 if tokens > 10_000 else 300):.3f} ms")
    files = [Path(name) for name in sys.argv[1:]]
    if files:
        out.print(left_out(files))


if __name__ == "__main__":
    main()
