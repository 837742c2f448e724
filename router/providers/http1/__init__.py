"""A lean HTTP/1.1 client for one verb: post a body over kept-alive connections, and read what comes as it comes.

Redirects, cookies, compression and proxies from the environment are not done. Deadlines are the caller's, save the
one for connecting. A cancelled wait closes its connection at once.
"""

from router.providers.http1.client import HttpClient
from router.providers.http1.connection import Response
from router.providers.http1.endpoint import Endpoint, InvalidEndpoint
from router.providers.http1.errors import AnswerTooLarge, Broken, Dropped, HttpError, Malformed, NotConnected

__all__ = [
    "AnswerTooLarge",
    "Broken",
    "Dropped",
    "Endpoint",
    "HttpClient",
    "HttpError",
    "InvalidEndpoint",
    "Malformed",
    "NotConnected",
    "Response",
]
