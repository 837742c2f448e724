"""Where requests go, and the bytes that are the same in each of them, made and checked once.

Nothing in an endpoint can end a header line early: what could is refused when it is built.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import NamedTuple, Self
from urllib.parse import quote, urlsplit

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"[\x21-\x7e]+(?:[\x20\t]+[\x21-\x7e]+)*")
_HOST = re.compile(r"[A-Za-z0-9._-]+")
_KEPT = "/%:@!$&'()*+,;=~-._"
_PORTS = {"http": 80, "https": 443}


class InvalidEndpoint(ValueError):
    """This URL or header can't be sent; the message quotes neither, for both may hold a secret."""


class Origin(NamedTuple):
    """What a connection leads to."""

    secure: bool
    host: str
    """Without the brackets of an IPv6 address."""
    port: int


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One URL with its constant headers; build it with `Endpoint.at`."""

    origin: Origin
    head: bytes
    """Of a POST, up to and with `Content-Length: `; holds the API key."""

    def __repr__(self) -> str:
        return f"Endpoint({self.origin})"

    @classmethod
    def at(cls, url: str, headers: Mapping[str, str]) -> Self:
        """Read a URL; its query is kept, its fragment is not.

        Raises:
            InvalidEndpoint: no http or https URL, one with a user name, or a header that can't be sent.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise InvalidEndpoint("The URL can't be read.") from error
        if parts.scheme not in _PORTS or not parts.hostname:
            raise InvalidEndpoint("The URL does not start with http://host or https://host.")
        if "@" in parts.netloc:
            raise InvalidEndpoint("The URL holds a user name or password.")
        host = _host(parts.hostname)
        usual = _PORTS[parts.scheme]
        path = quote(parts.path or "/", safe=_KEPT)
        if parts.query:
            path += "?" + quote(parts.query, safe=_KEPT + "?")
        named = f"[{host.partition('%')[0]}]" if ":" in host else host
        lines = [
            f"POST {path} HTTP/1.1",
            f"Host: {named}" if port in (None, usual) else f"Host: {named}:{port}",
            *(f"{_checked_name(name)}: {_checked_value(name, value)}" for name, value in headers.items()),
            "Content-Length: ",
        ]
        origin = Origin(parts.scheme == "https", host, usual if port is None else port)
        return cls(origin, "\r\n".join(lines).encode("ascii"))


def _host(host: str) -> str:
    if ":" in host:
        try:
            return str(IPv6Address(host))
        except ValueError as error:
            raise InvalidEndpoint("The URL's host is not an IPv6 address.") from error
    try:
        ascii_host = host.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise InvalidEndpoint("The URL's host is not a name.") from error
    if not _HOST.fullmatch(ascii_host):
        raise InvalidEndpoint("The URL's host is not a name.")
    return ascii_host


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InvalidEndpoint("A header's name holds a character that can't be sent.")
    return name


def _checked_value(name: str, value: str) -> str:
    if not _VALUE.fullmatch(value):
        raise InvalidEndpoint(
            f"The header {name} is empty, or holds a character that can't be sent (say, a line's end)."
        )
    return value
