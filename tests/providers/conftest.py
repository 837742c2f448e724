"""Fixtures of the tests of providers: simulated ones, and a bare HTTP session to ask them by."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from router.providers.simulated import SimulatedProvider


@pytest.fixture
async def provider() -> AsyncIterator[SimulatedProvider]:
    async with SimulatedProvider() as provider:
        yield provider


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session
