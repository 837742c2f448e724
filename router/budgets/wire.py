"""A Redis reached by URL, the scripts that run in it, and commands that leave it together.

Every key bears the tag {farthing}, so that a cluster keeps them all in one slot: a hold draws on the budgets of a
task, of an account and of everything, and one step can only be atomic within a slot. A deployment that outgrows one
Redis node gets a Redis of its own for each group of accounts.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from dataclasses import dataclass
from importlib import resources
from typing import Any, TypeGuard, get_args
from urllib.parse import parse_qs, unquote, urlsplit

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import (
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
)

from router.budgets.contract import Timed, Verb
from router.errors import BudgetsUnavailable

KEYS = ("{farthing}:epoch", "{farthing}:holds", "{farthing}:times")
PROBE = "{farthing}:probe"
"""Never there: a write that changes nothing is refused as any other is."""
SENTINEL_PORT = 26379
TAKES_NO_WRITES = re.compile(r"\b(OOM|READONLY|MISCONF|NOREPLICAS) ")
"""How the error of a script begins, or says inside it, that the server is there and keeps nothing."""
AWAY = (RedisError, RedisClusterException, OSError)
"""What redis-py raises where it can't reach a server. A cluster's error is no RedisError."""


def _script(verb: Verb) -> str:
    folder = resources.files("router.budgets")
    return (folder / "_reclaim.lua").read_text() + (folder / f"{verb}.lua").read_text()


@dataclass(frozen=True, slots=True)
class Command:
    """One call of a script, and who waits for its reply."""

    verb: Verb
    args: tuple[str | int, ...]
    reply: asyncio.Future[Any]


class Wire:
    """A connection to Redis. Nothing is connected until the first `send`."""

    def __init__(self, url: str, within_s: float, timed: Timed) -> None:
        self._client = connect(url)
        self._where = urlsplit(url).netloc.rpartition("@")[2]
        self._within_s = within_s
        self._timed = timed
        self._scripts = {verb: _script(verb) for verb in get_args(Verb)}
        self._shas = {
            verb: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest() for verb, text in self._scripts.items()
        }

    async def send(self, commands: list[Command]) -> BudgetsUnavailable | None:
        """Run commands in one round trip, in their order, and give each its reply.

        Returns why where Redis can't be reached in time; every command that has no reply got that as its error then.
        A command may have run all the same.
        """
        away: BudgetsUnavailable | None = None
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self._within_s):
                await self._exchange(commands)
        except TimeoutError:
            away = self._late()
        except AWAY as error:
            away = _away(error)
        finally:
            taken_s = time.perf_counter() - started
            for verb in {command.verb for command in commands}:
                self._timed(verb, taken_s)
            for command in commands:
                if not command.reply.done():
                    command.reply.set_exception(
                        away or BudgetsUnavailable("The store of budgets is not asked any more.")
                    )
                    # Whoever waited for it may be gone.
                    command.reply.exception()
        return away

    async def lives(self) -> tuple[str, str]:
        """Return the name of the server's present life, another one after a restart, and the counters' epoch or "".

        Raises:
            BudgetsUnavailable: it did not answer in time.
        """
        try:
            async with asyncio.timeout(self._within_s):
                told = await self._client.execute_command("INFO", "server", **await self._there())
                epoch = await self._client.get(KEYS[0])
                # One that is full, or a replica since a failover, answers all of that and can't hold anything.
                await self._client.set(PROBE, 1, xx=True)
        except TimeoutError as error:
            raise self._late() from error
        except AWAY as error:
            raise _away(error) from error
        return str(told["run_id"]), epoch.decode() if epoch else ""

    async def aclose(self) -> None:
        await self._client.aclose()
        pool = getattr(self._client, "connection_pool", None)
        if isinstance(pool, SentinelConnectionPool):
            for sentinel in pool.sentinel_manager.sentinels:
                await sentinel.aclose()

    def _late(self) -> BudgetsUnavailable:
        return BudgetsUnavailable(
            f"The store of budgets at {self._where} did not answer within {self._within_s:g} s.",
            why="no answer in time",
        )

    async def _exchange(self, commands: list[Command]) -> None:
        try:
            replies = await self._pipelined(commands)
        except RedisConnectionError:
            # A connection may have died while nobody used it; every script may run twice.
            replies = await self._pipelined(commands)
        unknown = [command for command, reply in zip(commands, replies, strict=True) if _is_unknown(reply)]
        if unknown:
            for text in self._scripts.values():
                await self._client.script_load(text)
            again = iter(await self._pipelined(unknown))
            replies = [next(again) if _is_unknown(reply) else reply for reply in replies]
        for command, reply in zip(commands, replies, strict=True):
            if isinstance(reply, RedisConnectionError) or _takes_no_writes(reply):
                raise reply
            if command.reply.done():
                continue
            if isinstance(reply, BaseException):
                command.reply.set_exception(_failed(reply))
                command.reply.exception()
            else:
                command.reply.set_result(reply)

    async def _pipelined(self, commands: list[Command]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command("EVALSHA", self._shas[command.verb], len(KEYS), *KEYS, *command.args)
        return list(await pipeline.execute(raise_on_error=False))

    async def _there(self) -> dict[str, Any]:
        """Return what sends a command without a key to the node of a cluster that has ours."""
        if not isinstance(self._client, RedisCluster):
            return {}
        await self._client.initialize()
        return {"target_nodes": self._client.get_node_from_key(KEYS[0])}


def connect(url: str) -> Any:
    """Return a client for `redis://`, `rediss://`, `redis+sentinel://HOST,HOST/SERVICE/DB` or `redis+cluster://`.

    Its own retries are off: a hold that waits for them is of no use to anybody.
    """
    scheme, _, rest = url.partition("://")
    options: dict[str, Any] = {
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": None,
        "socket_connect_timeout": None,
        "protocol": 2,
    }
    base, _, kind = scheme.partition("+")
    if kind == "cluster":
        return RedisCluster.from_url(f"{base}://{rest}", **options)
    if kind == "sentinel":
        return _sentinel(url, options, tls=base == "rediss")
    return Redis.from_url(url, **options)


def _sentinel(url: str, options: dict[str, Any], *, tls: bool) -> Any:
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    service, _, database = parts.path.strip("/").partition("/")
    addresses = [
        (host or "localhost", int(port or SENTINEL_PORT))
        for host, _, port in (entry.rpartition(":") if ":" in entry else (entry, "", "") for entry in hosts.split(","))
    ]
    asked = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    secure: dict[str, Any] = {"ssl": True, **asked} if tls else asked
    sentinel = Sentinel(  # type: ignore[no-untyped-call]  # redis-py leaves its constructor untyped
        addresses,
        sentinel_kwargs={**options, **secure},
        **options,
        **secure,
        username=unquote(username) or None,
        password=unquote(password) or None,
        db=int(database or 0),
    )
    return sentinel.master_for(service or "mymaster")


def _is_unknown(reply: object) -> bool:
    return isinstance(reply, NoScriptError)


def _away(error: BaseException) -> BudgetsUnavailable:
    return BudgetsUnavailable(f"The store of budgets is away: {_said(error)}", why=_without_address(error))


def _failed(reply: BaseException) -> BudgetsUnavailable:
    return BudgetsUnavailable(f"The store of budgets failed: {_said(reply)}", why=_without_address(reply))


def _without_address(error: BaseException) -> str:
    if _takes_no_writes(error):
        return "it takes no writes"
    return "it answers with an error" if isinstance(error, ResponseError) else "no connection"


def _takes_no_writes(reply: object) -> TypeGuard[RedisError]:
    return isinstance(reply, OutOfMemoryError | ReadOnlyError) or (
        isinstance(reply, ResponseError) and TAKES_NO_WRITES.search(str(reply)) is not None
    )


def _said(error: BaseException) -> str:
    """Write an error without a URL's password; redis-py's name host and port alone."""
    kind = "" if isinstance(error, ResponseError) else f"{type(error).__name__}: "
    return f"{kind}{error}"[:300]
