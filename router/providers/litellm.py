"""The litellm lane: calls providers that do not speak OpenAI's format, through litellm's SDK.

litellm takes seconds and 160 MB to import, so importing this module must never import it: `warm`, or else the
first call, does that in a thread. All that touches litellm is in `litellm_sdk`.
"""

from __future__ import annotations

import asyncio
import importlib
import os
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from router.errors import ProviderUnreachable
from router.providers.contract import Answer, AnswerStream, Call

if TYPE_CHECKING:
    from router.providers.litellm_sdk import Sdk

FORCED = MappingProxyType(
    {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
        "LITELLM_LOCAL_BLOG_POSTS": "True",
        "LITELLM_MODE": "PRODUCTION",
        "REPEATED_STREAMING_CHUNK_LIMIT": "1000000000",
    }
)
"""What litellm reads while it is imported. The first three keep it from fetching files; PRODUCTION keeps it
from loading a `.env` file; the last keeps it from failing an answer that repeats itself a hundred times."""

DEFAULTS = MappingProxyType({"LITELLM_LOG": "CRITICAL", "MAX_IMAGE_URL_DOWNLOAD_SIZE_MB": "0"})
"""What an operator may set otherwise: litellm's logs can hold prompts; and where a provider takes no image by
its URL, litellm would fetch whatever address a caller names, from inside our network."""


class LitellmLane:
    """Calls providers through litellm.

    Parameters that a provider doesn't know are dropped, not refused, and so is every member of a body that is
    not one of `litellm_sdk.PASSED`.
    """

    def __init__(self) -> None:
        self._sdk: Sdk | None = None
        self._loading = asyncio.Lock()

    async def warm(self) -> None:
        """Import litellm, in a thread: 2 to 4 s of work. Another call costs nothing."""
        await self._loaded()

    async def whole(self, call: Call) -> Answer:
        ends_at = _now() + call.deadlines.total_s
        sdk = await self._loaded_for(call)
        return await sdk.whole(call, ends_at)

    async def stream(self, call: Call) -> AnswerStream:
        ends_at = _now() + call.deadlines.total_s
        sdk = await self._loaded_for(call)
        return await sdk.stream(call, ends_at)

    async def aclose(self) -> None:
        if self._sdk is not None:
            await self._sdk.aclose()

    async def _loaded(self) -> Sdk:
        async with self._loading:
            if self._sdk is None:
                self._sdk = await asyncio.to_thread(_load)
            return self._sdk

    async def _loaded_for(self, call: Call) -> Sdk:
        if self._sdk is not None:
            return self._sdk
        patience_s = min(call.deadlines.first_byte_s, call.deadlines.total_s)
        try:
            async with asyncio.timeout(patience_s):
                return await self._loaded()
        except TimeoutError:
            raise ProviderUnreachable(
                f"{call.target.name} was not called: litellm was still loading after {patience_s:g} s."
            ) from None


def _load() -> Sdk:
    os.environ.update(FORCED)
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    module = importlib.import_module("router.providers.litellm_sdk")
    return cast("Sdk", module.Sdk())


def _now() -> float:
    return asyncio.get_running_loop().time()
