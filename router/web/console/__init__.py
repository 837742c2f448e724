"""GET /console: a page that shows an operator the money, from this process alone.

The files are public and hold nothing; what they show comes from /admin, which asks for the admin key. The page's policy
(CSP) allows no other host, no inline script and no inline style.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from importlib.resources import files

import anyio.to_thread

from router.errors import InvalidRequest
from router.web.asgi import Headers, Receive, Scope, Send, respond

PATH = "/console"
CHART = "chart.js"
"""Chart.js as the package chartkick ships it (MIT, 0.2 MB to install); without it the page has its bars and tables."""
CONTENT_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
PAGE = "console.html"
NAMES = (PAGE, "console.css", "console.js", "charts.js", "icon.svg", CHART)
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
GUARDS: Headers = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-cache"),
]


@dataclass(frozen=True, slots=True)
class Asset:
    """One file, ready to be sent."""

    body: bytes
    packed: bytes
    content_type: bytes
    tag: bytes


class Console:
    """Serves the page and its files; each is read when it is first asked for."""

    def __init__(self, *, open_to_admin: bool) -> None:
        """`open_to_admin`: whether there is an admin key; without one the page says how to set it."""
        self._open_to_admin = open_to_admin
        self._assets: dict[str, Asset] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a GET below /console.

        Raises:
            InvalidRequest: there is no such file, or it is not a GET.
        """
        if scope["method"] not in ("GET", "HEAD"):
            raise InvalidRequest(f"{PATH} takes GET, not {scope['method']}.")
        name = scope["path"].removeprefix(PATH).strip("/") or PAGE
        if name not in NAMES:
            raise NoSuchFile(f"There is no {PATH}/{name[:100]}; the page is at {PATH}.")
        asset = self._assets.get(name)
        if asset is None:
            asset = self._assets[name] = await anyio.to_thread.run_sync(self._read, name)
        await _send(asset, dict(scope["headers"]), send)

    def _read(self, name: str) -> Asset:
        """Read a file of the page; blocks."""
        body = _chart_library() if name == CHART else files(__package__).joinpath(name).read_bytes()
        if name == PAGE and not self._open_to_admin:
            body = body.replace(b"<html ", b"<html data-shut ", 1)
        tag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
        content_type = CONTENT_TYPES[name.rpartition(".")[2]]
        return Asset(body, gzip.compress(body, mtime=0), content_type.encode(), tag.encode())


class NoSuchFile(InvalidRequest):
    """A file that the page does not have."""

    code = "not_found"


def _chart_library() -> bytes:
    """Return the library, or a script that does nothing where its package is not installed."""
    try:
        return files("chartkick").joinpath("django/static/chartkick/Chart.bundle.js").read_bytes()
    except (ModuleNotFoundError, FileNotFoundError):
        return b"// The package chartkick is not installed: the page shows bars and tables instead of charts.\n"


async def _send(asset: Asset, headers: dict[bytes, bytes], send: Send) -> None:
    """Send a file, packed where the browser can unpack it; nothing where it has it already."""
    sent = [*GUARDS, (b"content-type", asset.content_type), (b"etag", asset.tag), (b"vary", b"accept-encoding")]
    if headers.get(b"if-none-match") == asset.tag:
        await send({"type": "http.response.start", "status": 304, "headers": sent})
        await send({"type": "http.response.body", "body": b""})
        return
    body = asset.body
    if b"gzip" in headers.get(b"accept-encoding", b""):
        body = asset.packed
        sent.append((b"content-encoding", b"gzip"))
    await respond(send, 200, body, sent)
