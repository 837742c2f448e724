"""Results that replicas share, in Redis: one script a verb, and leases for the claims of a process that dies.

Every key has one hash tag, so that all are in one slot of a cluster and a script may make room among them.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal, get_args

import msgspec
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError

from router.budgets.wire import connect
from router.errors import StoreUnavailable
from router.web.idempotency.contract import KEPT_FOR_S, MOST_BYTES, MOST_RESULTS, Result, Standing

PREFIX = "{farthing-idempotency}:"
INDEX, BYTES = PREFIX + "index", PREFIX + "bytes"
LEASE_S = 15.0
"""A claim whose process has died is free again after this."""
RENEWALS = 4
"""How often a claim is renewed within its lease."""
ANSWER_WITHIN_S = 1.0
FIRST_LOOK_S, LONGEST_LOOK_S = 0.02, 0.25
"""How soon it is looked whether a claim has ended, at first and in the end."""

Verb = Literal["claim", "keep", "release", "renew"]


@dataclass(frozen=True, slots=True)
class _Script:
    text: str
    sha: str


def _script(verb: Verb) -> _Script:
    text = (resources.files(__package__) / f"{verb}.lua").read_text()
    return _Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


_SCRIPTS: dict[Verb, _Script] = {verb: _script(verb) for verb in get_args(Verb)}
_decode = msgspec.msgpack.Decoder(Result).decode
_encode = msgspec.msgpack.Encoder().encode


class RedisResults:
    """Keeps results in the Redis at `url`. `renew` must run beside it."""

    def __init__(
        self, url: str, *, most_results: int = MOST_RESULTS, most_bytes: int = MOST_BYTES, lease_s: float = LEASE_S
    ) -> None:
        self._client = connect(url)
        self._most_results = most_results
        self._most_bytes = most_bytes
        self._lease_s = lease_s
        self._claims: dict[str, str] = {}
        """This process's, by their places."""

    async def claim(self, place: str, digest: bytes, claim_id: str) -> Result | Standing:
        async with _in_time():
            answer = await self._run("claim", [PREFIX + place], [digest, claim_id, _ms(self._lease_s)])
        if answer[0] == b"kept":
            return _decode(answer[1])
        standing = Standing(answer[0].decode())
        if standing is Standing.CLAIMED:
            self._claims[place] = claim_id
        return standing

    async def keep(self, place: str, claim_id: str, result: Result) -> None:
        # Its lease is long enough for this; a claim whose end can't be told must not be renewed for good.
        self._claims.pop(place, None)
        async with _in_time():
            await self._run(
                "keep",
                [PREFIX + place, INDEX, BYTES],
                [claim_id, _encode(result), _ms(KEPT_FOR_S), self._most_results, self._most_bytes],
            )

    async def release(self, place: str, claim_id: str) -> None:
        self._claims.pop(place, None)
        async with _in_time():
            await self._run("release", [PREFIX + place], [claim_id])

    async def changed(self, place: str) -> None:
        pause_s = FIRST_LOOK_S
        while True:
            await asyncio.sleep(pause_s)
            async with _in_time():
                if not await self._client.hexists(PREFIX + place, "claim"):
                    return
            pause_s = min(pause_s * 1.5, LONGEST_LOOK_S)

    async def renew(self) -> None:
        while True:
            await asyncio.sleep(self._lease_s / RENEWALS)
            for place, claim_id in list(self._claims.items()):
                async with _in_time():
                    await self._run("renew", [PREFIX + place], [claim_id, _ms(self._lease_s)])

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _run(self, verb: Verb, keys: list[str], args: list[str | bytes | int]) -> Any:
        """Run a script. Each may run twice, so that it is tried again where an idle connection had died."""
        script = _SCRIPTS[verb]
        try:
            return await self._client.evalsha(script.sha, len(keys), *keys, *args)
        except (NoScriptError, RedisConnectionError):
            return await self._client.eval(script.text, len(keys), *keys, *args)


@asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    """Turn what can go wrong between us and Redis into one error.

    Raises:
        StoreUnavailable: it did not answer in time, or not as it should.
    """
    began = time.perf_counter()
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            yield
    except (RedisError, OSError, TimeoutError) as error:
        took_s = time.perf_counter() - began
        raise StoreUnavailable(
            f"Redis can't say whether this request was answered before ({type(error).__name__} after {took_s:.2f} s)."
        ) from error


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
