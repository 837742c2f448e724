"""A request that bears a key: answered, or replayed, or waited for.

What is kept is what went out whole and well. A refusal, a failure, a stream that broke off or a caller who hung up
leave nothing behind, so that the same request sent again runs anew.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio

from router.errors import IdempotencyMismatch, IdempotencyUnderWay, InvalidRequest, StoreUnavailable
from router.pipeline import Arrival
from router.pipeline.relay import DONE
from router.web.asgi import EVENTS, Headers, Message, Send
from router.web.idempotency.contract import MOST_RESULT_BYTES, Result, Results, Standing

HEADER = "idempotency-key"
REPLAY = (b"x-farthing-idempotent-replay", b"true")
LONGEST_KEY = 255
WAIT_WITHIN_S = 60.0
"""How long the same request sent again waits for the first; then it is a 409, and may come back."""
AGAIN_AFTER_S = 1.0
KEEP_WITHIN_S = 2.0

log = logging.getLogger("farthing.idempotency")


@dataclass(frozen=True, slots=True)
class Asked:
    """What makes two requests the same: the account and the key; and what must then be equal: body and task."""

    place: str
    digest: bytes
    claim_id: str

    @staticmethod
    def of(key: str, arrival: Arrival, body: bytes) -> Asked:
        """Hash what was asked, for a key may hold anything.

        Raises:
            InvalidRequest: the key is empty, too long, or not of printable ASCII.
        """
        if not (0 < len(key) <= LONGEST_KEY and key.isascii() and key.isprintable()):
            raise InvalidRequest(
                f"The header Idempotency-Key must be 1 to {LONGEST_KEY} printable ASCII characters.", param=HEADER
            )
        account = f"account {arrival.account.name}" if arrival.account else "open"
        place = hashlib.sha256(f"{account}\0{key}".encode()).hexdigest()
        task = (arrival.task or "").encode()
        return Asked(place, hashlib.sha256(len(task).to_bytes(8) + task + body).digest(), arrival.id)


class Once:
    """Answers what bears a key at most once at a time, and from its result thereafter."""

    def __init__(self, results: Results, *, wait_within_s: float = WAIT_WITHIN_S) -> None:
        self._results = results
        self._wait_within_s = wait_within_s

    async def reply(self, asked: Asked, send: Send, answer: Callable[[Send], Awaitable[None]]) -> None:
        """Send the first result where there is one; else have `answer` send its own, and keep that.

        Raises:
            IdempotencyMismatch: the key belongs to another body.
            IdempotencyUnderWay: the first request is still not answered.
            StoreUnavailable: it can't be known whether the request is the first; nothing was called.
        """
        result = await self._first_result(asked)
        if result is not None:
            headers = [*result.headers, REPLAY]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": result.body})
            return
        recording = Recording(send, lambda result: self._results.keep(asked.place, asked.claim_id, result))
        try:
            await answer(recording)
        finally:
            if not recording.kept:
                with anyio.move_on_after(KEEP_WITHIN_S, shield=True):
                    await self._ended(asked, recording)

    async def _first_result(self, asked: Asked) -> Result | None:
        """Return what the first request got; None where this one is the first, and has claimed its place."""
        try:
            async with asyncio.timeout(self._wait_within_s):
                while True:
                    match await self._results.claim(asked.place, asked.digest, asked.claim_id):
                        case Standing.CLAIMED:
                            return None
                        case Standing.OTHER_BODY:
                            raise IdempotencyMismatch(
                                "This Idempotency-Key was used with another body; use a new key for a new request.",
                                param=HEADER,
                            )
                        case Standing.UNDER_WAY:
                            await self._results.changed(asked.place)
                        case result:
                            return result
        except TimeoutError:
            raise IdempotencyUnderWay(
                "The first request with this Idempotency-Key is still under way; try again.",
                retry_after_s=AGAIN_AFTER_S,
            ) from None

    async def _ended(self, asked: Asked, recording: Recording) -> None:
        """Keep a result whose caller was gone when it was there, or give the place up."""
        try:
            if result := recording.result():
                await self._results.keep(asked.place, asked.claim_id, result)
            else:
                await self._results.release(asked.place, asked.claim_id)
        except StoreUnavailable as error:
            log.warning("The result of %s could not be kept: %s", asked.claim_id, error.message)


class Recording:
    """Passes a response on and has a copy of it kept, just before the caller gets the end of it."""

    def __init__(self, send: Send, keep: Callable[[Result], Awaitable[None]]) -> None:
        self._send = send
        self._keep = keep
        self._headers: Headers = []
        self._pieces: list[bytes] = []
        self._size = 0
        self._whole = False
        self.kept = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._headers = list(message["headers"])
        else:
            self._note(message["body"], ended=not message.get("more_body", False))
            if not self.kept and (result := self.result()):
                try:
                    await self._keep(result)
                    self.kept = True
                except StoreUnavailable as error:
                    log.warning("A result could not be kept: %s", error.message)
        await self._send(message)

    def result(self) -> Result | None:
        """Return the response where all of it was there, and well, and not too large."""
        if not self._whole or self._size > MOST_RESULT_BYTES:
            return None
        return Result(self._headers, b"".join(self._pieces))

    def _note(self, piece: bytes, *, ended: bool) -> None:
        self._size += len(piece)
        if self._size <= MOST_RESULT_BYTES:
            self._pieces.append(piece)
        else:
            self._pieces.clear()
        # A stream that broke off has an event that says so in place of [DONE].
        self._whole = self._whole or (piece.endswith(DONE) if EVENTS in self._headers else ended)
