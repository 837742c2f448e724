"""Which endpoint answers at which path."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from router.errors import NoSuchEndpoint
from router.settings import Settings
from router.web.answering import Answering
from router.web.asgi import Receive, Scope, Send
from router.web.books import Books
from router.web.chat import ChatEndpoint
from router.web.console import PATH as CONSOLE_PATH
from router.web.console import Console
from router.web.feedback import FeedbackEndpoint
from router.web.idempotency.contract import Results
from router.web.idempotency.once import Once
from router.web.ops import Ops
from router.web.reload import PolicyFolder

Endpoint = Callable[[Scope, Receive, Send], Awaitable[None]]


class Routes:
    """`hot` by method and path, to be tried first; /admin and the console's files by their prefixes."""

    def __init__(
        self, hot: Mapping[tuple[str, str], Endpoint], console: Endpoint, make_admin: Callable[[], Endpoint]
    ) -> None:
        """`make_admin` is called in a thread when /admin is first asked for."""
        self.hot = hot
        self._console = console
        self._make_admin = make_admin
        self._admin: Endpoint | None = None

    def knows(self, path: str) -> bool:
        """Say whether a path is one of the hot ones."""
        return any(path == known for _, known in self.hot)

    async def other(self, method: str, path: str) -> Endpoint:
        """Return the endpoint of a path that is not hot.

        Raises:
            NoSuchEndpoint: there is nothing at that path, or not for that method.
        """
        if path.startswith("/admin/"):
            if self._admin is None:
                # FastAPI takes 0.3 s to import, which a start-up need not wait for.
                self._admin = await asyncio.to_thread(self._make_admin)
            return self._admin
        if path.startswith(f"{CONSOLE_PATH}/"):
            return self._console
        if method == "HEAD" and (endpoint := self.hot.get(("GET", path))):
            return endpoint
        allowed = [verb for verb, known in self.hot if known == path]
        if allowed:
            raise NoSuchEndpoint(f"{path} takes {' and '.join(allowed)}, not {method}.")
        paths = ", ".join(sorted({known for _, known in self.hot}))
        raise NoSuchEndpoint(f"There is nothing at {path[:200]}. There is: {paths}.")


def open_routes(
    settings: Settings,
    answering: Answering,
    books: Books,
    folder: PolicyFolder,
    ops: Ops,
    results: Results,
    clock: Callable[[], float],
) -> Routes:
    """Make every endpoint of a proxy."""
    once = Once(results) if settings.idempotency == "on" else None
    console = Console(open_to_admin=bool(settings.admin_key))
    policies, bounds = answering.policies, (settings.largest_body_bytes, settings.body_within_s)
    hot: dict[tuple[str, str], Endpoint] = {
        ("POST", "/v1/chat/completions"): ChatEndpoint(
            answering.pipeline, policies, clock, *bounds, once, answering.traces
        ),
        ("POST", "/v1/feedback"): FeedbackEndpoint(answering.ratings, books, policies, *bounds),
        ("GET", "/v1/models"): ops.models,
        ("GET", "/health/live"): ops.live,
        ("GET", "/health/ready"): ops.ready,
        ("GET", "/metrics"): ops.metrics,
        ("GET", CONSOLE_PATH): console,
    }
    return Routes(hot, console, partial(_admin, settings, answering, folder, books, clock))


def _admin(
    settings: Settings, answering: Answering, folder: PolicyFolder, books: Books, clock: Callable[[], float]
) -> Endpoint:
    from router.web.admin import admin_app  # noqa: PLC0415  imported at first use, in a thread; see `Routes`

    return admin_app(settings, answering.pipeline, folder, answering.rollouts, books, clock)
