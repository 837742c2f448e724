"""A body that is fine as it is, and what a documented refusal looks like."""

from __future__ import annotations

import json
from typing import Any

import httpx

HELLO = [{"role": "user", "content": "Hello"}]


def error_of(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Return an error that is documented, of this status and code."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json"), answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code, error
    assert "Traceback" not in error["message"]
    assert len(error["message"]) < 3_000
    assert answer.headers["x-should-retry"] == "false"
    assert answer.headers["x-request-id"] == answer.headers["x-farthing-request-id"]
    return error


def body(**members: Any) -> bytes:
    return json.dumps({"model": "auto", "messages": HELLO, **members}).encode()
