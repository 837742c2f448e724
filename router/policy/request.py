"""A request as people write it down, in a file or on a line: a body, its list of messages, or plain text."""

from __future__ import annotations

import re

import msgspec

from router.chat import ChatBody
from router.errors import InvalidRequest
from router.policy.claim import AUTO

_JSON = re.compile(rb"\s*(?:\{|\[\s*\{)")
"""How a request or a list of messages begins; all else is plain text."""


def request_body(data: bytes, model: str | None = None) -> ChatBody:
    """Read a request, a list of messages or plain text; `model` replaces the request's own, which is `auto` if none.

    Raises:
        InvalidRequest: it is empty, begins like JSON and is not the JSON of a request, or is not UTF-8.
    """
    if not data.strip():
        raise InvalidRequest("The request is empty; give a chat-completions body, its messages or plain text.")
    try:
        if not _JSON.match(data):
            members: dict[str, object] = {"messages": [{"role": "user", "content": data.decode().rstrip("\r\n")}]}
        elif data.lstrip().startswith(b"["):
            members = {"messages": msgspec.json.decode(data, type=list[msgspec.Raw])}
        else:
            members = dict(msgspec.json.decode(data, type=dict[str, msgspec.Raw]))
    except UnicodeDecodeError:
        raise InvalidRequest("The request is neither JSON nor text in UTF-8.") from None
    except RecursionError:
        raise InvalidRequest("The request is nested too deeply to be read; flatten it.") from None
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"The request begins like JSON and is not valid: {error}.") from None
    if model is not None:
        members["model"] = model
    members.setdefault("model", AUTO)
    return ChatBody(msgspec.json.encode(members))
