"""The calls into litellm: the one module, beside `litellm_errors`, that imports it. It is imported lazily.

Nothing of litellm's leaves here: no type, no private field. A caller's body can't give litellm orders.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

import anyio
import httpx
import litellm
import msgspec
from litellm import constants
from litellm._internal_context import is_internal_call
from litellm.caching.llm_caching_handler import LLMClientCache
from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

from router.errors import AnswerBroken, ProviderError, ProviderTimedOut, ProviderUnreachable
from router.policy.target import Target
from router.providers.contract import Answer, AnswerEmpty, Call, Chunk
from router.providers.litellm_errors import provider_error
from router.providers.litellm_exchange import Exchange, Transport
from router.providers.litellm_shapes import Reply, answer_body, chunk_event, usage_event, usage_of

PASSED = frozenset(
    {
        *("messages", "functions", "function_call", "tools", "tool_choice", "parallel_tool_calls", "user"),
        *("temperature", "top_p", "top_k", "n", "seed", "stop", "presence_penalty", "frequency_penalty"),
        *("logit_bias", "logprobs", "top_logprobs", "response_format", "modalities", "audio", "prediction"),
        *("reasoning_effort", "thinking", "verbosity", "web_search_options"),
        *("safety_identifier", "service_tier", "prompt_cache_key"),
    }
)
"""The members of a body that litellm is given, beside the output limit; all others are left out.

litellm takes its own orders by the same door (`api_base`, `fallbacks`, `mock_response`, `extra_headers`,
cloud credentials), so a caller's body may name only what a model reads.
"""

OPENAI_SDK = frozenset(
    {
        "openai",
        "azure",
        "custom_openai",
        "text-completion-openai",
        "azure_text",
        *constants.openai_compatible_providers,
    }
)
"""Providers that litellm calls through the OpenAI SDK, which takes another kind of client."""

LIMITS = ("max_tokens", "max_completion_tokens")


class Parts(Protocol):
    """What we rely on of litellm's stream."""

    chunks: list[Any]

    async def __anext__(self) -> Any: ...

    async def aclose(self) -> None: ...


class Clients(LLMClientCache):
    """Where litellm looks for an HTTP client to call a provider with: it always finds ours."""

    def __init__(self, ours: AsyncHTTPHandler) -> None:
        super().__init__()
        self._ours = ours

    def get_cache(self, key: str, **options: object) -> object:
        if key.startswith("async_httpx_client"):
            return self._ours
        return super().get_cache(key, **options)  # type: ignore[no-untyped-call]


class Sdk:
    """litellm, made quiet, with one pool of connections for all calls."""

    def __init__(self) -> None:
        self._client = AsyncHTTPHandler(transport=Transport(), follow_redirects=False)
        _prepare(self._client)
        self._pool = httpx.AsyncHTTPTransport(
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=15.0)
        )

    async def whole(self, call: Call, ends_at: float) -> Answer:
        exchange = Exchange(self._pool, call.deadlines, call.target.name, call.trace)
        try:
            async with asyncio.timeout_at(ends_at):
                with exchange.carrying():
                    given = arguments(call.body)
                    response = await self._called(call, given, stream=False)
            return _answer(call, exchange, _reply(response), _search_context(given))
        except Exception as error:
            # Broad, because litellm raises whatever it likes, a KeyError too, and a lane ProviderErrors only.
            raise _ours(error, call, exchange) from None
        finally:
            with anyio.CancelScope(shield=True):
                await exchange.hang_up()

    async def stream(self, call: Call, ends_at: float) -> SdkStream:
        exchange = Exchange(self._pool, call.deadlines, call.target.name, call.trace)
        given = arguments(call.body)
        stream = SdkStream(call, exchange, ends_at, _search_context(given))
        try:
            async with asyncio.timeout_at(ends_at):
                with exchange.carrying():
                    parts = await self._called(call, given, stream=True)
                await stream.open(parts)
        except BaseException as error:
            await stream.aclose()
            if isinstance(error, Exception):
                raise _ours(error, call, exchange) from None
            raise
        return stream

    async def aclose(self) -> None:
        await self._pool.aclose()

    async def _called(self, call: Call, given: Mapping[str, Any], *, stream: bool) -> Any:
        target = call.target
        client = None if target.provider in OPENAI_SDK else self._client
        # litellm neither logs nor prices a call that is marked so, nor hands it to callbacks.
        marked = is_internal_call.set(True)
        try:
            return await litellm.acompletion(
                model=target.name,
                api_key=target.api_key,
                api_base=api_base(target),
                client=client,
                timeout=call.deadlines.total_s,
                num_retries=0,
                max_retries=0,
                drop_params=True,
                _skip_mcp_handler=True,
                stream=stream,
                stream_options={"include_usage": True} if stream else None,
                **given,
            )
        finally:
            is_internal_call.reset(marked)


class SdkStream:
    """An answer as it comes through litellm: an `AnswerStream`."""

    def __init__(self, call: Call, exchange: Exchange, ends_at: float, search_context: str) -> None:
        self.first_byte_s = 0.0
        self._call = call
        self._exchange = exchange
        self._ends_at = ends_at
        self._search_context = search_context
        self._parts: Parts | None = None
        self._first: Chunk | None = None

    async def open(self, parts: Parts) -> None:
        """Wait for the first chunk."""
        self._parts = parts
        self._first = await self._next()
        self.first_byte_s = self._exchange.elapsed_s

    def __aiter__(self) -> SdkStream:
        return self

    async def __anext__(self) -> Chunk:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        try:
            async with asyncio.timeout_at(self._ends_at):
                return await self._next()
        except StopAsyncIteration:
            await self.aclose()
            raise
        except BaseException as error:
            await self.aclose()
            if isinstance(error, Exception):
                raise _ours(error, self._call, self._exchange) from None
            raise

    async def aclose(self) -> None:
        parts, self._parts, self._first = self._parts, None, None
        with anyio.CancelScope(shield=True):
            await self._exchange.hang_up()
            if parts is not None:
                await parts.aclose()

    async def _next(self) -> Chunk:
        if self._parts is None:
            raise StopAsyncIteration
        # Some requests are sent only when the first part is asked for.
        with self._exchange.carrying():
            reply = _reply(await anext(self._parts))
        if reply.usage is not None:
            return self._last(reply)
        if reply.finish_reason and not self._parts.chunks:
            raise AnswerBroken(f"{self._call.target.name} sent no answer.", status=self._exchange.status)
        return Chunk(
            raw=chunk_event(reply),
            texts=reply.texts(),
            reported_model=self._exchange.watch.model,
            finish_reason=reply.finish_reason,
            id=reply.id,
            created=reply.created,
        )

    def _last(self, reply: Reply) -> Chunk:
        """Return the chunk that has the usage, and read no further: litellm would then log the answer."""
        usage = usage_of(reply, self._exchange.watch, self._search_context)
        self._parts = None
        return Chunk(
            raw=b"",
            usage=usage,
            usage_event=usage_event(reply, usage) if usage else b"",
            reported_model=self._exchange.watch.model,
            id=reply.id,
            created=reply.created,
        )


def arguments(body: bytes) -> dict[str, Any]:
    """Return what of a chat body is given to litellm.

    The output limit goes by one name, the older, which the translation to every provider knows: of two names,
    the one that litellm happens to read last would win.
    """
    members: dict[str, Any] = msgspec.json.decode(body)
    given = {name: value for name, value in members.items() if name in PASSED and value is not None}
    limits = [limit for name in LIMITS if (limit := members.get(name)) is not None]
    return {**given, "max_tokens": min(limits)} if limits else given


def api_base(target: Target) -> str | None:
    """Return the base URL as litellm wants it: Anthropic's without `/v1`, Gemini's with its version."""
    if not target.base_url:
        return None
    url = target.base_url.rstrip("/")
    if target.provider == "anthropic":
        return url.removesuffix("/v1")
    if target.provider == "gemini" and not urlsplit(url).path:
        return f"{url}/v1beta"
    return url


def _answer(call: Call, exchange: Exchange, reply: Reply, search_context: str) -> Answer:
    usage = usage_of(reply, exchange.watch, search_context)
    answer = Answer(
        body=answer_body(reply, usage),
        usage=usage,
        reported_model=exchange.watch.model or reply.model,
        texts=tuple(reply.texts().values()),
        finish_reason=reply.finish_reason,
        first_byte_s=exchange.first_byte_s or exchange.elapsed_s,
    )
    if not reply.choices:
        raise AnswerEmpty(f"{call.target.name} gave an answer without a choice.", answer, status=exchange.status)
    return answer


def _reply(response: Any) -> Reply:
    return msgspec.convert(response.model_dump(), Reply)


def _ours(error: Exception, call: Call, exchange: Exchange) -> ProviderError:
    if not isinstance(error, TimeoutError):
        return provider_error(error, exchange, call.target)
    name, total_s = call.target.name, call.deadlines.total_s
    if exchange.sent:
        return ProviderTimedOut(f"{name} did not finish within {total_s:g} s.")
    return ProviderUnreachable(f"{name} was not called: the request was not ready within {total_s:g} s.")


def _search_context(given: Mapping[str, Any]) -> str:
    options = given.get("web_search_options")
    size = options.get("search_context_size") if isinstance(options, dict) else None
    return size if size in ("low", "medium", "high") else "medium"


def _prepare(client: AsyncHTTPHandler) -> None:
    """Make litellm quiet, give it no client but ours, and load now what it would load at the first call."""
    litellm.in_memory_llm_clients_cache = Clients(client)
    litellm.aclient_session = client.client
    litellm.disable_hf_tokenizer_download = True
    for name in ("acompletion", "encoding"):
        getattr(litellm, name)
    litellm.telemetry = False
    litellm.suppress_debug_info = True
    litellm.turn_off_message_logging = True
    litellm.disable_streaming_logging = True
    # Where a message is marked for caching, litellm would make a cache at Google, which costs money.
    litellm.disable_anthropic_gemini_context_caching_transform = True
    # Its access lines hold whole URLs, and in these a key.
    logging.getLogger("httpx").setLevel(logging.WARNING)
