"""Policies of the tests of experiments, whose models simulated providers serve."""

from __future__ import annotations

from router.providers.simulated import SimulatedProvider

MODELS = """
models:
  plain: {{target: openai/gpt-4o-mini, base_url: {url}, retries: 0}}
  trial: {{target: openai/gpt-4.1-mini, base_url: {url}, retries: 0}}
  spare: {{target: openai/gpt-4.1-nano, base_url: {url}, retries: 0}}
  dear: {{target: openai/gpt-4o, base_url: {url}, retries: 0}}
"""
PLAIN, TRIAL, DEAR = "gpt-4o-mini", "gpt-4.1-mini", "gpt-4o"
"""As the provider hears them."""


def files_for(provider: SimulatedProvider, experiment: str, *, rule: str = "") -> dict[str, str]:
    """Return policies with one experiment, written in YAML's flow style, on the rule `all` of the task `default`."""
    task = f"task: default\nroute:\n  - name: all\n    use: plain\n    experiment: {experiment}\n{rule}"
    return {"models": MODELS.format(url=provider.base_url), "default": task}
