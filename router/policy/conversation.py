"""What tells conversations apart without keeping their text: digests of how they begin, and of every length of them."""

from __future__ import annotations

import hashlib

import msgspec

from router.chat import Chat, Message

_encode = msgspec.json.Encoder().encode
OPENING_ROLES = ("system", "developer")


def conversation_of(chat: Chat) -> str:
    """Return a digest of a conversation's opening: everything up to the first message that is not the system's."""
    digest = hashlib.blake2b(digest_size=8)
    for message in chat.messages:
        digest.update(_encode(message))
        if message.role not in OPENING_ROLES:
            break
    return digest.hexdigest()


def prefixes_of(chat: Chat, seed: str) -> list[bytes]:
    """Return a digest of the tools and the first message, of the first two messages, and so on to all of them.

    Two requests share one exactly where a provider would find the same prefix in its cache.
    """
    digest = hashlib.blake2b(seed.encode(), digest_size=16)
    digest.update(_encode([chat.tools, chat.functions, chat.response_format]))
    return [_after(digest, message) for message in chat.messages]


def _after(digest: hashlib.blake2b, message: Message) -> bytes:
    digest.update(_encode(message))
    return digest.digest()
