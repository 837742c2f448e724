"""Small requests, and the rules of some models."""

from __future__ import annotations

import json

from router.chat import Chat, ChatBody
from router.tokens import rules_for

GPT_4O = rules_for("openai", "gpt-4o")
GPT_4 = rules_for("openai", "gpt-4")
CLAUDE = rules_for("anthropic", "claude-sonnet-4-5")


def chat(*messages: object, **members: object) -> Chat:
    body = {"model": "gpt-4o", "messages": messages or [{"role": "user", "content": "hi"}], **members}
    return ChatBody(json.dumps(body).encode()).chat


def user(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}
