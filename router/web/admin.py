"""/admin: what an operator asks a running proxy, behind the admin key. Carried by FastAPI, off the hot path."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from anyio import to_thread
from fastapi import FastAPI, Request, Response

from router.chat import ChatBody
from router.errors import FarthingError, InvalidRequest, NotAllowed
from router.ledger.open import open_store
from router.ledger.report import parse_since, spend_report
from router.lifecycle.rollout import Rollouts
from router.pipeline import Arrival, Pipeline
from router.policy.policy import PolicySet
from router.policy.purse import BUDGET_HEADER, asked_nusd
from router.settings import Settings
from router.web.asgi import read_body
from router.web.auth import admit_admin
from router.web.refusal import error_body, error_headers, status_of
from router.web.reload import PolicyFolder


def admin_app(
    settings: Settings, pipeline: Pipeline, folder: PolicyFolder, rollouts: Rollouts, clock: Callable[[], float]
) -> FastAPI:
    """Build the application. It serves no documentation pages, for those fetch from other hosts."""
    app = FastAPI(title="Farthing", docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def behind_the_admin_key(request: Request, call_next: Any) -> Response:
        try:
            admit_admin(settings.admin_key, dict(request.headers))
            answer: Response = await call_next(request)
        except FarthingError as error:
            answer = _refused(error)
        answer.headers["x-farthing-request-id"] = request.scope["farthing_id"]
        return answer

    @app.exception_handler(FarthingError)
    async def refused(request: Request, error: FarthingError) -> Response:
        return _refused(error)

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
    async def spend(by: str = "task", since: str | None = None) -> dict[str, Any]:
        """What did it cost, and what was saved?"""
        start = parse_since(since, datetime.fromtimestamp(clock(), UTC)) if since else None

        def read() -> dict[str, Any]:
            store = open_store(settings.ledger_url, read_only=True)
            try:
                return spend_report(store, by, start, settings.spool)
            finally:
                store.close()

        return await to_thread.run_sync(read)

    @app.get("/admin/policies")
    async def policies() -> dict[str, Any]:
        """Which policies are in force, since when, and what is wrong with the last edit?"""
        return folder.described()

    @app.get("/admin/experiments")
    async def experiments() -> dict[str, Any]:
        """Where does each experiment stand, and what did its canary's latest requests come to?"""
        return {"experiments": rollouts.described()}

    @app.api_route("/admin/{path:path}", methods=["GET", "POST", "PUT", "DELETE", "PATCH"])
    async def nothing_here(path: str) -> None:
        raise NotAllowed(f"There is no /admin/{path[:100]}; there is: explain, spend, policies, experiments.")

    return app


def _refused(error: FarthingError) -> Response:
    headers = {name.decode(): value.decode() for name, value in error_headers(error)}
    return Response(error_body(error), status_of(error), headers, media_type="application/json")
