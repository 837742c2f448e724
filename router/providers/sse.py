"""Server-sent events from a provider, cut at their blank lines wherever the network cut them, kept as they came."""

from __future__ import annotations

LARGEST_EVENT_BYTES = 16 * 1024 * 1024


class EventTooLarge(Exception):
    """An event went past LARGEST_EVENT_BYTES without ending."""


class EventCutter:
    """Feed it what arrives; it gives back whole events, each with the blank line that ends it."""

    __slots__ = ("_middle", "_middle_bytes", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._middle: list[bytes] = []
        """What came after it without a line's end, put together once: an event of megabytes comes in many pieces."""
        self._middle_bytes = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Return the events that are complete now; may be empty.

        Raises:
            EventTooLarge: the unfinished event is too long to be one.
        """
        if self._rest:
            if b"\n" not in data:
                self._put_by(data)
                return []
            data = self._taken() + data
        if b"\r" not in data:
            events = data.split(b"\n\n")
            self._rest = events.pop()
            whole = [event + b"\n\n" for event in events if event]
        else:
            whole = self._with_carriage_returns(data)
        if len(self._rest) > LARGEST_EVENT_BYTES:
            raise EventTooLarge
        return whole

    def finish(self) -> bytes:
        """Return what is left when the connection ends: an event without its blank line, or nothing."""
        rest = self._taken()
        return rest if rest.strip() else b""

    def _put_by(self, data: bytes) -> None:
        self._middle.append(data)
        self._middle_bytes += len(data)
        if len(self._rest) + self._middle_bytes > LARGEST_EVENT_BYTES:
            raise EventTooLarge

    def _taken(self) -> bytes:
        """Take out what no event was made of yet."""
        rest = b"".join((self._rest, *self._middle)) if self._middle else self._rest
        self._rest = b""
        self._middle.clear()
        self._middle_bytes = 0
        return rest

    def _with_carriage_returns(self, data: bytes) -> list[bytes]:
        whole: list[bytes] = []
        start = position = 0
        while (newline := data.find(b"\n", position)) >= 0:
            line = data[position:newline]
            position = newline + 1
            if line in (b"", b"\r"):
                if data[start:position].strip():
                    whole.append(data[start:position])
                start = position
        self._rest = data[start:]
        return whole


def payload(event: bytes) -> bytes:
    """Return an event's data, its `data:` lines joined; empty for a comment or a keep-alive."""
    if event.startswith(b"data: ") and event.find(b"\n") >= len(event) - 2:
        return event[6:].strip()
    lines = (line for line in event.splitlines() if line.startswith(b"data:"))
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines)
