"""Sends errands to a running proxy by plain HTTP and notes what each answer says of itself: model, cost, baseline."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

import aiohttp

from router.cli.demo.traffic import Errand
from router.errors import FarthingError, InvalidApiKey
from router.policy.claim import TASK_PREFIX
from router.values import nusd_cost

TOTAL_S = 300.0
CONNECT_S = 5.0
ASK_S = 10.0
"""For the list of models, which a proxy has at hand."""
_COMMENT = re.compile(r"(\w+)=(\S+)")

Ending = Literal["answered", "refused", "failed"]


class NoProxy(FarthingError):
    """Nothing that the demo can talk to is there."""

    code = "no_proxy"


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one errand. `cost_nusd` None where the proxy did not tell it."""

    task: str
    ending: Ending
    model: str | None = None
    cost_nusd: int | None = None
    baseline_nusd: int | None = None
    code: str | None = None
    """Of the error, where it was refused or failed."""
    streamed: bool = False


@dataclass(frozen=True, slots=True)
class Offer:
    """What a proxy has: its tasks in order, and every name it takes as a model."""

    tasks: tuple[str, ...]
    names: tuple[str, ...]


class Customer:
    """Callers of one proxy; `async with` it."""

    def __init__(self, url: str, key: str | None) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        self._key = key

    async def __aenter__(self) -> Customer:
        headers = {"authorization": f"Bearer {self._key}"} if self._key else {}
        timeout = aiohttp.ClientTimeout(total=TOTAL_S, sock_connect=CONNECT_S)
        # A tool result or a picture is one line of a stream, and may be long.
        self._session = aiohttp.ClientSession(headers=headers, timeout=timeout, read_bufsize=2**20)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def offer(self) -> Offer:
        """Ask what the proxy has.

        Raises:
            NoProxy: nothing answers there, or it is no Farthing; says what to start.
            InvalidApiKey: it wants a key, or another one.
        """
        start = "Start one in another terminal with `make run` or `farthing serve --simulate auto`."
        try:
            timeout = aiohttp.ClientTimeout(total=ASK_S)
            async with self._session.get(f"{self.url}/v1/models", timeout=timeout) as response:
                if response.status in (401, 403):
                    raise InvalidApiKey(f"The proxy at {self.url} wants a key: give it with --key.")
                listed: Any = await response.json(content_type=None) if response.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            if isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError):
                raise NoProxy(f"{self.url} is not the URL of a proxy; write http://HOST:PORT.") from None
            raise NoProxy(f"No proxy answers at {self.url}. {start} Elsewhere: --port or --url.") from None
        names = _names(listed)
        tasks = tuple(name.removeprefix(TASK_PREFIX) for name in names if name.startswith(TASK_PREFIX))
        if not tasks:
            raise NoProxy(f"What runs at {self.url} is no Farthing proxy. {start}")
        return Offer(tasks, names)

    async def send(self, errands: Sequence[Errand], concurrency: int, done: Callable[[Result], None]) -> list[Result]:
        """Send all errands, at most `concurrency` at once; `done` hears of each as it ends. In the errands' order."""
        gate = asyncio.Semaphore(concurrency)

        async def one(errand: Errand) -> Result:
            async with gate:
                result = await self._sent(errand)
            done(result)
            return result

        async with asyncio.TaskGroup() as tasks:
            sent = [tasks.create_task(one(errand)) for errand in errands]
        return [task.result() for task in sent]

    async def _sent(self, errand: Errand) -> Result:
        try:
            headers = {"content-type": "application/json", **errand.headers}
            async with self._session.post(
                f"{self.url}/v1/chat/completions", data=errand.body, headers=headers
            ) as response:
                if response.status != 200:
                    return _refused(errand, response.status, await response.read())
                if errand.streamed:
                    return await _streamed(errand, response)
                await response.read()
                return _answered(errand, response.headers)
        except TimeoutError:
            return Result(errand.task, "failed", code="timeout")
        except aiohttp.ClientError:
            return Result(errand.task, "failed", code="connection_lost")


def _answered(errand: Errand, headers: Mapping[str, str]) -> Result:
    return Result(
        headers.get("x-farthing-task", errand.task),
        "answered",
        headers.get("x-farthing-model"),
        _nusd(headers.get("x-farthing-cost-usd")),
        _nusd(headers.get("x-farthing-baseline-usd")),
    )


async def _streamed(errand: Errand, response: aiohttp.ClientResponse) -> Result:
    """Read a stream to its end; it failed where an error event came, or no [DONE]."""
    said: dict[str, str] = {}
    code, done = None, False
    async for line in response.content:
        if line.startswith(b": farthing "):
            said = dict(_COMMENT.findall(line.decode()))
        elif line.startswith(b'data: {"error"'):
            code = _code(line.removeprefix(b"data: "))
        elif line.startswith(b"data: [DONE]"):
            done = True
    task = response.headers.get("x-farthing-task", errand.task)
    if not done:
        return Result(task, "failed", code=code or "stream_broken", streamed=True)
    return Result(
        task,
        "answered",
        said.get("model") or response.headers.get("x-farthing-model"),
        _nusd(said.get("cost_usd")),
        _nusd(said.get("baseline_usd")),
        streamed=True,
    )


def _refused(errand: Errand, status: int, body: bytes) -> Result:
    return Result(errand.task, "refused" if status == 402 else "failed", code=_code(body) or f"status_{status}")


def _code(body: bytes) -> str | None:
    import json

    try:
        match json.loads(body):
            case {"error": {"code": str(code)}}:
                return code
    except ValueError:
        pass
    return None


def _names(listed: object) -> tuple[str, ...]:
    match listed:
        case {"data": list(entries)}:
            return tuple(name for entry in entries if isinstance(entry, dict) and (name := str(entry.get("id"))))
    return ()


def _nusd(text: str | None) -> int | None:
    try:
        return None if text is None else nusd_cost(Decimal(text))
    except InvalidOperation:
        return None
