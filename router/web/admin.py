"""/admin: what an operator asks a running proxy, behind the admin key. Carried by FastAPI, off the hot path."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

from anyio import to_thread
from fastapi import FastAPI, Request, Response

from router.chat import ChatBody
from router.errors import FarthingError, InvalidRequest, NoSuchEndpoint
from router.ledger.contract import Store
from router.ledger.recent import recent
from router.ledger.report import parse_since, spend_report, task_names
from router.lifecycle.rollout import Rollouts
from router.lifecycle.scopes import windowed_scopes
from router.pipeline import Arrival, Pipeline
from router.policy.policy import PolicySet
from router.policy.purse import BUDGET_HEADER, asked_nusd
from router.settings import Settings
from router.values import Level, usd_number
from router.web.asgi import id_headers, read_body
from router.web.auth import admit_admin
from router.web.books import Books
from router.web.recent import requests_report
from router.web.refusal import error_body, error_headers, keep_for_operators, status_of
from router.web.reload import PolicyFolder

DEFAULT_REQUESTS = 50
MOST_REQUESTS = 500
T = TypeVar("T")


def admin_app(
    settings: Settings,
    pipeline: Pipeline,
    folder: PolicyFolder,
    rollouts: Rollouts,
    books: Books,
    clock: Callable[[], float],
) -> FastAPI:
    """Build the application. It serves no documentation pages, for those fetch from other hosts."""
    app = FastAPI(title="Farthing", docs_url=None, redoc_url=None, openapi_url=None)

    async def read(ask: Callable[[Store], T]) -> T:
        """Ask the ledger in a thread."""
        return await to_thread.run_sync(ask, books.store)

    @app.middleware("http")
    async def behind_the_admin_key(request: Request, call_next: Any) -> Response:
        try:
            admit_admin(settings.admin_key, dict(request.headers))
            answer: Response = await call_next(request)
        except FarthingError as error:
            answer = _refused(error, request)
        for name, value in id_headers(request.scope["farthing_id"]):
            answer.headers[name.decode()] = value.decode()
        return answer

    @app.exception_handler(FarthingError)
    async def refused(request: Request, error: FarthingError) -> Response:
        return _refused(error, request)

    @app.post("/admin/explain")
    async def explain(request: Request) -> dict[str, Any]:
        """Where would this chat request go? The body is a chat-completions body; nothing is called."""
        policies: PolicySet = folder.current()
        name = request.query_params.get("account")
        if name is not None and name not in policies.accounts:
            raise InvalidRequest(f"There is no account '{name}'.", param="account")
        raw = await read_body(request.scope, request.receive, settings.largest_body_bytes, settings.body_within_s)
        asked = request.headers.get(BUDGET_HEADER)
        arrival = Arrival(
            id=request.scope["farthing_id"],
            at_s=clock(),
            started=time.perf_counter(),
            body=ChatBody(raw),
            account=policies.accounts[name] if name else None,
            headers=dict(request.headers),
            task=request.query_params.get("task") or request.headers.get("x-farthing-task"),
            budget_nusd=asked_nusd(asked) if asked is not None else None,
            policies=policies,
        )
        return (await pipeline.plan(arrival)).explained()

    @app.get("/admin/spend")
    async def spend(by: str = "task", since: str | None = None, task: str | None = None) -> dict[str, Any]:
        """What did it cost, and what was saved?"""
        start = parse_since(since, datetime.fromtimestamp(clock(), UTC)) if since else None
        tasks = () if task is None else task_names([task])
        return await read(lambda store: spend_report(store, by, start, settings.spool, folder.current(), tasks))

    @app.get("/admin/requests")
    async def requests(limit: str = str(DEFAULT_REQUESTS), task: str | None = None) -> dict[str, Any]:
        """What were the last requests, newest first, and why did each go where it went?"""
        most = _limit(limit)
        found = await read(lambda store: recent(store, most, task=task))
        return requests_report(found, folder.rules, folder.current().revision)

    @app.get("/admin/budgets")
    async def budget_levels() -> dict[str, Any]:
        """How full is every windowed budget now, and when does it begin anew?"""
        levels = await books.budgets.levels(windowed_scopes(folder.current()))
        return {"budgets": [_told(level, clock()) for level in levels]}

    @app.get("/admin/policies")
    async def policies() -> dict[str, Any]:
        """Which policies are in force, since when, and what is wrong with the last edit?"""
        return folder.described()

    @app.get("/admin/experiments")
    async def experiments() -> dict[str, Any]:
        """Where does each experiment stand, and what did its canary's latest requests come to?"""
        return {"experiments": rollouts.described()}

    @app.api_route("/admin/{path:path}", methods=["GET", "POST", "PUT", "DELETE", "PATCH"])
    async def nothing_here(request: Request, path: str) -> None:
        raise NoSuchEndpoint(
            f"There is no {request.method} /admin/{path[:100]}. `explain` takes POST, the others GET; there is: "
            "explain, spend, requests, budgets, policies, experiments."
        )

    return app


def _refused(error: FarthingError, request: Request) -> Response:
    keep_for_operators(error, request.scope["farthing_id"])
    headers = {name.decode(): value.decode() for name, value in error_headers(error)}
    return Response(error_body(error), status_of(error), headers, media_type="application/json")


def _limit(text: str) -> int:
    if text.isascii() and text.isdigit() and 1 <= int(text[:10]) <= MOST_REQUESTS:
        return int(text)
    raise InvalidRequest(f"limit is a whole number from 1 to {MOST_REQUESTS}, not '{text[:40]}'.", param="limit")


def _told(level: Level, now_s: float) -> dict[str, Any]:
    scope = level.scope
    return {
        "scope": scope.kind,
        "name": scope.name,
        "window": scope.window,
        "on_exceeded": scope.on_exceeded,
        "limit_usd": usd_number(scope.limit_nusd),
        "spent_usd": usd_number(level.spent_nusd),
        "held_usd": usd_number(level.held_nusd),
        "remaining_usd": usd_number(level.left_nusd),
        "used_pct": round(level.used_pct, 4),
        "ends_at": datetime.fromtimestamp(scope.ends_s(now_s), UTC).isoformat(),
    }
