"""A stand-in for an OpenTelemetry collector: takes OTLP over HTTP on a loopback socket, and decodes it."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass
class Receiver:
    """What came so far, in the order of arrival."""

    url: str
    spans: list[Span] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)

    def take(self, body: bytes) -> None:
        self.raw.append(body)
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append(attributes(group.resource.attributes))
            for scope in group.scope_spans:
                self.spans.extend(scope.spans)

    def of(self, trace_id: str) -> tuple[Span, list[Span]] | None:
        """Return a trace's request and its attempts in their order; None while it has not come."""
        found = [span for span in self.spans if span.trace_id.hex() == trace_id]
        request = next((span for span in found if span.kind == Span.SPAN_KIND_SERVER), None)
        children = [span for span in found if span.kind == Span.SPAN_KIND_CLIENT]
        return (request, sorted(children, key=lambda span: span.start_time_unix_nano)) if request else None


def attributes(given: Any) -> dict[str, Any]:
    """Return attributes as plain values."""

    def plain(pair: KeyValue) -> Any:
        return getattr(pair.value, pair.value.WhichOneof("value"))

    return {pair.key: plain(pair) for pair in given}


@contextmanager
def running_receiver() -> Iterator[Receiver]:
    """Serve POST /v1/traces on a free port."""

    class Endpoint(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            known = self.path == "/v1/traces" and self.headers["content-type"] == "application/x-protobuf"
            if known:
                receiver.take(body)
            self.send_response(200 if known else 404)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *told: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as server:
        receiver = Receiver(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()
