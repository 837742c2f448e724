"""What a store of results promises, whichever it is.

A place (an account's key) is claimed by one request at a time. The claim ends in a result, which is kept for a day or
until it has to make room, or in nothing: then the next request may claim the place.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

import msgspec

KEPT_FOR_S = 24 * 3600.0
MOST_RESULTS = 10_000
MOST_BYTES = 64 * 1024 * 1024
"""Of all results together. The oldest make room."""
MOST_RESULT_BYTES = 1024 * 1024
"""A larger result is not kept, so that the same request sent again runs anew."""


class Result(msgspec.Struct, frozen=True):
    """A response of status 200 as it went out; `body` is the whole of it, streamed or not."""

    headers: list[tuple[bytes, bytes]]
    body: bytes

    @property
    def size_bytes(self) -> int:
        return len(self.body) + sum(len(name) + len(value) for name, value in self.headers)


class Standing(StrEnum):
    """How a place stands for who asks, where there is no result."""

    CLAIMED = "claimed"
    """It is theirs: they answer the request, then `keep` or `release`."""
    UNDER_WAY = "under_way"
    """Another request with the same body has it."""
    OTHER_BODY = "other_body"
    """It belongs to another body."""


class Results(Protocol):
    """A store of results."""

    async def claim(self, place: str, digest: bytes, claim_id: str) -> Result | Standing:
        """Claim a place for the body of this digest, or say what is there; one atomic step.

        Who has claimed a place and asks again by the same `claim_id` still has it.

        Raises:
            StoreUnavailable: the store did not answer in time; nothing may be taken for claimed.
        """
        ...

    async def keep(self, place: str, claim_id: str, result: Result) -> None:
        """Put a result where it was claimed. Does nothing where the claim has ended.

        Raises:
            StoreUnavailable: the store did not answer in time; the claim may stay until it expires.
        """
        ...

    async def release(self, place: str, claim_id: str) -> None:
        """Give a claim up; others who wait may take the place. Does nothing where the claim has ended.

        Raises:
            StoreUnavailable: as `keep`.
        """
        ...

    async def changed(self, place: str) -> None:
        """Wait until a place that is under way is not so any more; whoever asks bounds the time.

        Raises:
            StoreUnavailable: as `claim`.
        """
        ...

    async def renew(self) -> None:
        """Keep the claims of this process from expiring, until cancelled; at once done where they do not expire."""
        ...

    async def aclose(self) -> None: ...
