"""An upstream that answers with exactly the bytes it was given, right or wrong as HTTP, and keeps what it received."""

from __future__ import annotations

import json
import socketserver
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

JSON_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n"
EVENTS_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


class Upstream:
    """Gives the next of `answers` to each connection, then closes it; without one, it closes at once."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answers: deque[bytes] = deque()
        self.bodies: deque[bytes] = deque()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def whole(self, body: bytes) -> None:
        """Answer the next request with this body."""
        self.answers.append(JSON_HEAD + b"content-length: %d\r\n\r\n" % len(body) + body)

    def stream(self, *events: bytes) -> None:
        """Answer the next request with these bytes as a stream, ended by the end of the connection."""
        self.answers.append(EVENTS_HEAD + b"".join(events))


@contextmanager
def running_upstream() -> Iterator[Upstream]:
    """Serve on a free port of this machine."""

    class Connection(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            length = 0
            while (line := self.rfile.readline().strip()) != b"":
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            upstream.bodies.append(self.rfile.read(length))
            if upstream.answers:
                self.wfile.write(upstream.answers.popleft())

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Connection) as server:
        upstream = Upstream(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield upstream
        finally:
            server.shutdown()
            thread.join()


def completion(content: str = "Yes.", usage: dict[str, object] | None = None) -> bytes:
    """Return a whole answer as OpenAI writes it, with white space and a member that nobody knows."""
    answer = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}],
        "unknown": {"z": 123456789012345678901234567890, "a": 1.50},
    }
    return json.dumps(answer | ({"usage": usage} if usage else {}), indent=2).encode()


def chunk(delta: str = "{}", *, finish: str = "null", more: str = "") -> bytes:
    """Return one event of a stream; `delta` and `finish` are JSON, `more` further members."""
    return (
        f'data: {{"id": "chatcmpl-1","object":"chat.completion.chunk", "created":1700000000,"model":"gpt-4o-mini",'
        f'"choices":[{{"index":0,"delta":{delta},"finish_reason":{finish}}}]{more}}}\n\n'
    ).encode()


def usage_event(input_tokens: int, output_tokens: int) -> bytes:
    return (
        f'data: {{"id":"chatcmpl-1","model":"gpt-4o-mini","choices":[],"usage":{{"prompt_tokens":{input_tokens},'
        f'"completion_tokens":{output_tokens},"total_tokens":{input_tokens + output_tokens}}}}}\n\n'
    ).encode()


DONE = b"data: [DONE]\n\n"
