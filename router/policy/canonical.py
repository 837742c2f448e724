"""JSON values as bytes that are the same where the values are: 1.0 is 1, and an object's members have no order."""

from __future__ import annotations

import msgspec


def canonical(value: object) -> bytes:
    """Return the one way to write a decoded JSON value.

    Raises:
        RecursionError: it is nested too deeply.
    """
    return msgspec.json.encode(_numbers_alike(value), order="sorted")


def _numbers_alike(value: object) -> object:
    match value:
        case dict():
            return {key: _numbers_alike(below) for key, below in value.items()}
        case list():
            return [_numbers_alike(below) for below in value]
        case float() if value.is_integer() and abs(value) < 2**53:
            return int(value)
    return value
