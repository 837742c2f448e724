"""Fixtures that every test may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from router.providers.simulated import SimulatedProvider

# Hundreds of processes start in the tests, and each would compile all of our modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def shared_provider() -> Iterator[SimulatedProvider]:
    # Who tests a rule or a price alone need not wait for the whole proxy's imports.
    from proxy import running_provider

    with running_provider() as provider:
        yield provider


@pytest.fixture
def provider(shared_provider: SimulatedProvider) -> SimulatedProvider:
    """The simulated providers, without faults and without calls so far."""
    from router.providers.simulated import Faults

    shared_provider.faults = Faults()
    shared_provider.calls.clear()
    return shared_provider
