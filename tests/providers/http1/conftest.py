"""Every test of the client runs on both event loops."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from providers.http1.peer import Peer, closed, serving
from router.providers.http1 import HttpClient


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
    ],
)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with serving(Peer()) as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    client = HttpClient()
    yield client
    await closed(client)
