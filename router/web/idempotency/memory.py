"""Results of one process, in memory: no `await` stands between reading and writing, so every verb is atomic."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from router.web.idempotency.contract import KEPT_FOR_S, MOST_BYTES, MOST_RESULTS, Result, Standing


@dataclass(slots=True)
class _Place:
    digest: bytes
    claim_id: str
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    result: Result | None = None
    expires_s: float = 0.0


class MemoryResults:
    """Keeps results for one process; they end with it. Its claims end with their requests and do not expire."""

    def __init__(
        self, clock: Callable[[], float], *, most_results: int = MOST_RESULTS, most_bytes: int = MOST_BYTES
    ) -> None:
        self._clock = clock
        self._most_results = most_results
        self._most_bytes = most_bytes
        self._claimed: dict[str, _Place] = {}
        self._kept: dict[str, _Place] = {}
        """Oldest first."""
        self._bytes = 0

    async def claim(self, place: str, digest: bytes, claim_id: str) -> Result | Standing:
        self._make_room()
        found = self._kept.get(place) or self._claimed.get(place)
        if found is None:
            self._claimed[place] = _Place(digest, claim_id)
            return Standing.CLAIMED
        if found.digest != digest:
            return Standing.OTHER_BODY
        if found.result is not None:
            return found.result
        return Standing.CLAIMED if found.claim_id == claim_id else Standing.UNDER_WAY

    async def keep(self, place: str, claim_id: str, result: Result) -> None:
        found = self._end(place, claim_id)
        if found is not None:
            found.result, found.expires_s = result, self._clock() + KEPT_FOR_S
            self._kept[place] = found
            self._bytes += result.size_bytes
            self._make_room()

    async def release(self, place: str, claim_id: str) -> None:
        self._end(place, claim_id)

    async def changed(self, place: str) -> None:
        if found := self._claimed.get(place):
            await found.ended.wait()

    async def renew(self) -> None:
        pass

    async def aclose(self) -> None:
        pass

    def _end(self, place: str, claim_id: str) -> _Place | None:
        """End a claim and wake who waits for it; they run when this turn of the loop is over."""
        found = self._claimed.get(place)
        if found is None or found.claim_id != claim_id:
            return None
        del self._claimed[place]
        found.ended.set()
        return found

    def _make_room(self) -> None:
        """Forget what is past its day, and the oldest of what is too much."""
        now_s = self._clock()
        while self._kept:
            place, oldest = next(iter(self._kept.items()))
            too_much = len(self._kept) > self._most_results or self._bytes > self._most_bytes
            if oldest.expires_s > now_s and not too_much:
                return
            del self._kept[place]
            assert oldest.result is not None
            self._bytes -= oldest.result.size_bytes
