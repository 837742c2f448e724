"""The policies that sets are evaluated under, and an evaluation as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cli.running import Run

MODELS = """version: 1
models:
  cheap: {target: openai/cheap, price: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}, base_url: http://127.0.0.1:9/v1}
  premium: {target: openai/dear, price: {input_usd_per_mtok: 10, output_usd_per_mtok: 20}, base_url: http://127.0.0.1:9/v1}
"""
TASK = """version: 1
task: support
baseline: premium
expected_output_tokens: 100
route:
  - name: hard
    when: {difficulty: {gte: 0.7}}
    use: premium
  - use: cheap
"""
ALL_CHEAP = "version: 1\ntask: cheapest\nroute: [{use: cheap}]\n"
CHECKED = "version: 1\ntask: checked\nroute: [{use: cheap, verify: {json: true, escalate_to: premium}}]\n"

DIFFERENT = (
    "Which gas do plants take in by day?",
    "Who was the first to sail round the world?",
    "A train leaves at noon. How far is it by three?",
    "Summarise what the court held in 1803, and why.",
    "Sort a list of names by their last letters.",
)


def evaluated(farthing: Run, file: Path, folder: Path, *more: object, task: str = "support") -> Any:
    ran = farthing("evaluate", file, "--policies", folder, "--task", task, "--json", *more)
    assert ran.status == 0, ran.err
    return ran.json
