"""Fixtures of the end-to-end tests: one proxy for each file of tests, and the policies that it serves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from proxy import Proxy, running_proxy

from router.providers.simulated import SimulatedProvider

MODELS = """
models:
  cheap:
    target: openai/gpt-4o-mini
    base_url: {url}
    timeouts: {{first_byte_s: 0.3, between_bytes_s: 1, total_s: 5}}
  dear:
    target: openai/gpt-4o
    base_url: {url}
    kind: premium
    timeouts: {{first_byte_s: 0.3, between_bytes_s: 1, total_s: 5}}
  thinker:
    target: openai/o4-mini
    base_url: {url}
"""
DEFAULT = """
task: default
match: {models: [gpt-4o-mini, gpt-4o]}
baseline: dear
route:
  - use: cheap
"""
FALLBACK = """
task: fallback
baseline: dear
route:
  - name: both
    use: [cheap, dear]
"""


def files_for(provider: SimulatedProvider, **more: str) -> dict[str, str]:
    """Return a small set of policies whose models are served by `provider`."""
    return {"models": MODELS.format(url=provider.base_url), "default": DEFAULT, "fallback": FALLBACK, **more}


@pytest.fixture(scope="module")
def more_files() -> dict[str, str]:
    """Further policy files of a module, by name without .yaml."""
    return {}


@pytest.fixture(scope="module")
def proxy(
    shared_provider: SimulatedProvider, more_files: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("proxy")
    # Tests of failures follow each other here, and each one asks the model that failed in the one before.
    settings = {"breaker_failures": 0}
    with running_proxy(folder, files_for(shared_provider, **more_files), settings=settings) as running:
        yield running
