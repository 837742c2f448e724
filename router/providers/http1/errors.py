"""How an exchange can fail, told apart by what the other side may have seen of it.

HttpError
├── NotConnected      nothing was sent: no such name, refused, no connection in time, TLS not agreed on
├── Dropped           the request was sent, in part at least; the connection ended without a byte of an answer
├── Malformed         what came is not the head of an HTTP/1.1 response
├── Broken            the answer had begun, and ended early or turned to nonsense
└── AnswerTooLarge    the answer is larger than its reader takes

Messages hold neither headers nor bodies.
"""

from __future__ import annotations


class HttpError(Exception):
    """An exchange failed. Its connection is closed by then."""


class NotConnected(HttpError):
    """Nothing was sent; the message says why, to be read after "can't be reached: "."""


class Dropped(HttpError):
    """The connection ended before the first byte of an answer."""


class Malformed(HttpError):
    """What came is not the head of an HTTP/1.1 response."""


class Broken(HttpError):
    """The answer had begun, and ended early or turned to nonsense."""


class AnswerTooLarge(HttpError):
    """The answer is larger than its reader takes."""
