"""`farthing serve`: runs the proxy."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from router.settings import Settings


class SimulateMode(StrEnum):
    auto = "auto"
    always = "always"
    never = "never"


class LogLevel(StrEnum):
    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


def serve(
    policies: Annotated[Path, typer.Option(envvar="FARTHING_POLICIES", help="The folder of policies.")] = Path(
        "policies"
    ),
    host: Annotated[str, typer.Option(envvar="FARTHING_HOST", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(envvar="FARTHING_PORT", min=0, max=65535, help="The port; 0 takes a free one.")
    ] = 4100,
    workers: Annotated[
        int, typer.Option(envvar="FARTHING_WORKERS", min=1, max=1, help="Processes that share the port.")
    ] = 1,
    budgets_url: Annotated[
        str, typer.Option(envvar="FARTHING_BUDGETS_URL", help="Where budgets are kept: memory://.")
    ] = "memory://",
    ledger_url: Annotated[
        str, typer.Option(envvar="FARTHING_LEDGER_URL", help="Where the ledger is: sqlite:///FILE.")
    ] = "sqlite:///farthing.db",
    admin_key: Annotated[
        str | None, typer.Option(envvar="FARTHING_ADMIN_KEY", help="Opens /admin; without it /admin is shut.")
    ] = None,
    largest_body_bytes: Annotated[
        int, typer.Option(envvar="FARTHING_LARGEST_BODY_BYTES", min=1024, help="A larger request is a 413.")
    ] = 20_000_000,
    simulate: Annotated[
        SimulateMode,
        typer.Option(
            envvar="FARTHING_SIMULATE",
            help="Simulated providers instead of real ones; auto: where no provider key is set at all.",
        ),
    ] = SimulateMode.never,
    local: Annotated[
        bool, typer.Option("--local", envvar="FARTHING_LOCAL", help="Serve a small real model too (farthing[local]).")
    ] = False,
    log_level: Annotated[
        LogLevel, typer.Option(envvar="FARTHING_LOG_LEVEL", help="Outcomes are info.")
    ] = LogLevel.warning,
) -> None:
    """Run the proxy.

    Example: farthing serve --policies policies --port 4100
    """
    from router.web.log import configure
    from router.web.serving import run

    if budgets_url != "memory://":
        raise typer.BadParameter("only memory:// is known", param_hint="--budgets-url")
    configure(log_level.value)
    run(
        Settings(
            policies=policies,
            host=host,
            port=port,
            workers=workers,
            budgets_url=budgets_url,
            ledger_url=ledger_url,
            admin_key=admin_key,
            largest_body_bytes=largest_body_bytes,
            simulate=simulate.value,
            local=local,
        )
    )
