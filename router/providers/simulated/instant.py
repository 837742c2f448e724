"""The leanest upstream there can be, for benches that measure somebody else: fixed answers, at once.

It reads no more of a request than whether a stream and its usage are asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import cast

import httptools

from router.chat import Chat, Message
from router.providers.simulated.openai import OpenAI
from router.providers.simulated.question import Choice, Question, Reply
from router.providers.simulated.text import tokens_of
from router.values import Usage

ANSWER = "Hello! How can I help you today?"
ANSWER_TOKENS = 9
INPUT_TOKENS = 20

STREAM = (b'"stream":true', b'"stream": true')
STREAM_USAGE = (b'"include_usage":true', b'"include_usage": true')


@contextlib.asynccontextmanager
async def serve_instantly(listening: socket.socket) -> AsyncIterator[None]:
    """Serve on this socket until the context is left."""
    answers = _Answers()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Instant(answers), sock=listening, backlog=1_024)
    try:
        yield
    finally:
        server.close()


class _Answers:
    """The bytes of each answer, head and body."""

    def __init__(self) -> None:
        wire = OpenAI()
        self.whole = _with_length(wire.whole(_reply(stream_usage=True)))
        self.stream = _chunked(wire, _reply(stream_usage=False))
        self.stream_with_usage = _chunked(wire, _reply(stream_usage=True))


def _reply(*, stream_usage: bool) -> Reply:
    chat = Chat("gpt-4o-mini", [Message("user", "Hello")])
    question = Question("gpt-4o-mini", chat, stream=True, stream_usage=stream_usage)
    choice = Choice((), tokens_of(ANSWER), (), "stop", ANSWER_TOKENS)
    return Reply("instant", 1_750_000_000, question, (choice,), Usage(INPUT_TOKENS, ANSWER_TOKENS))


def _with_length(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (
        len(body),
        body,
    )


def _chunked(wire: OpenAI, reply: Reply) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    events = b"".join(b"%x\r\n%s\r\n" % (len(beat.raw), beat.raw) for beat in wire.events(reply, 1))
    return head + events + b"0\r\n\r\n"


class _Instant(asyncio.Protocol):
    """One connection, kept alive until the client closes it."""

    __slots__ = ("_answers", "_body", "_parser", "_transport")

    def __init__(self, answers: _Answers) -> None:
        self._answers = answers
        self._body = b""
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        body, self._body = self._body, b""
        answers = self._answers
        if not any(mark in body for mark in STREAM):
            self._transport.write(answers.whole)
        elif any(mark in body for mark in STREAM_USAGE):
            self._transport.write(answers.stream_with_usage)
        else:
            self._transport.write(answers.stream)
