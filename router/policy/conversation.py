"""What tells conversations apart without keeping their text: a digest of how each begins."""

from __future__ import annotations

import hashlib

import msgspec

from router.chat import Chat

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
