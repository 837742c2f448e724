"""POST /v1/feedback: an application's rating of an answer, from 0 to 1."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import msgspec
from msgspec import Struct

from router.chat import not_read
from router.errors import InvalidRequest, LedgerUnavailable, StoreUnavailable
from router.ledger.writer import LONGEST_RETRY_S
from router.lifecycle.ratings import Rated, Ratings
from router.pipeline.rates import draw_rating
from router.policy.policy import Account, PolicySet
from router.web.asgi import JSON, Receive, Scope, Send, id_headers, read_body, respond
from router.web.auth import account_of
from router.web.books import Books

WRITTEN_WITHIN_S = 2.0
AGAIN_IN_S = LONGEST_RETRY_S
"""When to tell a rating again that the ledger could not take: it is looked for as often at least."""
_ASKED = 'A rating is {"request_id": text, "score": a number from 0 (bad) to 1 (good)}.'


class _Rating(Struct, forbid_unknown_fields=True):
    request_id: str
    score: float


class FeedbackEndpoint:
    """Takes ratings; an account rates its own requests."""

    def __init__(
        self,
        ratings: Ratings,
        books: Books,
        policies: Callable[[], PolicySet],
        largest_body_bytes: int,
        body_within_s: float,
    ) -> None:
        self._ratings = ratings
        self._books = books
        self._policies = policies
        self._largest_body_bytes = largest_body_bytes
        self._body_within_s = body_within_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one rating.

        Raises:
            FarthingError: nothing has been sent yet; the caller of this writes the error.
        """
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        account = account_of(self._policies(), headers)
        rating = _rating(await read_body(scope, receive, self._largest_body_bytes, self._body_within_s))
        try:
            await draw_rating(self._books.budgets, account, f"{scope['farthing_id']}/rating")
            rated = await self._rated(account, rating)
        except StoreUnavailable as error:
            error.retry_after_s = AGAIN_IN_S
            raise
        answer = {
            "object": "feedback",
            "request_id": rated.request_id,
            "score": rated.score,
            "task": rated.task,
            "learned": rated.because is None,
            "because": rated.because,
        }
        await respond(send, 200, msgspec.json.encode(answer), [JSON, *id_headers(scope["farthing_id"])])

    async def _rated(self, account: Account | None, rating: _Rating) -> Rated:
        # Whoever has the whole answer may rate it, though its row may still be on its way.
        ledger = self._books.ledger
        try:
            async with asyncio.timeout(WRITTEN_WITHIN_S):
                await ledger.flush()
        except TimeoutError:
            why = ledger.not_ready or ledger.degraded or "it is slow"
            raise LedgerUnavailable(f"The ledger took no rows for {WRITTEN_WITHIN_S:g} s: {why}") from None
        return await self._ratings.rate(account, rating.request_id, rating.score)


def _rating(raw: bytes) -> _Rating:
    """Read a rating.

    Raises:
        InvalidRequest: it is no JSON object of a request_id and a score from 0 to 1.
    """
    try:
        if not raw.isascii():
            raw.decode()
        rating = msgspec.json.decode(raw, type=_Rating)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        fault = not_read(error, raw)
        raise InvalidRequest(f"{fault.message} {_ASKED}", param=fault.param) from None
    if not (math.isfinite(rating.score) and 0 <= rating.score <= 1):
        written = repr(rating.score).removesuffix(".0")
        raise InvalidRequest(f"`score` must be from 0 (bad) to 1 (good), not {written}.", param="score")
    return rating
