"""`farthing serve`: runs the proxy."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from router.cli.folder import DEFAULT_FOLDER, FolderOption
from router.cli.ledger import DEFAULT_LEDGER
from router.settings import Settings

PREFIX = "FARTHING_"
NEAR = 0.7
"""How alike names are, from 0 to 1, for one to be taken for the other: "PROT" and "PORT" are by 0.75."""

log = logging.getLogger("farthing.settings")


class SimulateMode(StrEnum):
    auto = "auto"
    always = "always"
    never = "never"


class OutageMode(StrEnum):
    closed = "closed"
    local = "local"


class LedgerOutageMode(StrEnum):
    auto = "auto"
    spool = "spool"
    closed = "closed"


class Switch(StrEnum):
    on = "on"
    off = "off"


class LogLevel(StrEnum):
    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


def serve(
    context: typer.Context,
    policies: FolderOption = DEFAULT_FOLDER,
    host: Annotated[str, typer.Option(envvar="FARTHING_HOST", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(envvar="FARTHING_PORT", min=0, max=65535, help="The port; 0 takes a free one.")
    ] = 4100,
    workers: Annotated[int, typer.Option(envvar="FARTHING_WORKERS", min=1, help="Processes that share the port.")] = 1,
    budgets_url: Annotated[
        str,
        typer.Option(
            envvar="FARTHING_BUDGETS_URL",
            help="Where budgets are kept: memory://, redis://HOST:PORT, rediss://, redis+sentinel://, redis+cluster://.",
        ),
    ] = "memory://",
    budgets_on_outage: Annotated[
        OutageMode,
        typer.Option(
            envvar="FARTHING_BUDGETS_ON_OUTAGE",
            help="While Redis is away: closed refuses with 503, local spends a share of what was left.",
        ),
    ] = OutageMode.closed,
    replicas: Annotated[
        int, typer.Option(envvar="FARTHING_REPLICAS", min=1, help="Proxies that share it, for `local`.")
    ] = 1,
    ledger_url: Annotated[
        str,
        typer.Option(
            envvar="FARTHING_LEDGER_URL", help="Where the ledger is: sqlite:///FILE, postgresql://USER@HOST/DATABASE."
        ),
    ] = DEFAULT_LEDGER,
    ledger_on_outage: Annotated[
        LedgerOutageMode,
        typer.Option(
            envvar="FARTHING_LEDGER_ON_OUTAGE",
            help="While it is away: spool keeps rows on disk, closed refuses with 503; auto: spool for PostgreSQL.",
        ),
    ] = LedgerOutageMode.auto,
    ledger_queue_rows: Annotated[
        int,
        typer.Option(
            envvar="FARTHING_LEDGER_QUEUE_ROWS",
            min=1,
            help="So many rows may wait in memory to be written; with more, new requests get a 503.",
        ),
    ] = 20_000,
    breaker_failures: Annotated[
        int,
        typer.Option(
            envvar="FARTHING_BREAKER_FAILURES",
            min=0,
            help="After so many failures of a target in a row, others are tried before it for a while; 0: never.",
        ),
    ] = 10,
    spool: Annotated[
        Path, typer.Option(envvar="FARTHING_SPOOL", help="The folder for rows that wait for the ledger.")
    ] = Path("farthing-spool"),
    admin_key: Annotated[
        str | None, typer.Option(envvar="FARTHING_ADMIN_KEY", help="Opens /admin; without it /admin is shut.")
    ] = None,
    metrics_account_label: Annotated[
        bool,
        typer.Option(
            "--metrics-account-label",
            envvar="FARTHING_METRICS_ACCOUNT_LABEL",
            help="Tell cost and requests by account too in /metrics.",
        ),
    ] = False,
    largest_body_bytes: Annotated[
        int, typer.Option(envvar="FARTHING_LARGEST_BODY_BYTES", min=1024, help="A larger request is a 413.")
    ] = 20_000_000,
    idempotency: Annotated[
        Switch,
        typer.Option(
            envvar="FARTHING_IDEMPOTENCY",
            help="Answers to requests with an Idempotency-Key are kept for 24 h; off: not.",
        ),
    ] = Switch.on,
    simulate: Annotated[
        SimulateMode,
        typer.Option(
            envvar="FARTHING_SIMULATE",
            help="Simulated providers instead of real ones; auto: where no provider key is set at all.",
        ),
    ] = SimulateMode.never,
    local: Annotated[
        bool, typer.Option("--local", envvar="FARTHING_LOCAL", help="Serve a small real model too (the extra `local`).")
    ] = False,
    log_level: Annotated[
        LogLevel, typer.Option(envvar="FARTHING_LOG_LEVEL", help="Outcomes are info.")
    ] = LogLevel.warning,
) -> None:
    """Run the proxy.

    Example: farthing serve --policies policies --port 4100
    """
    from router.budgets.open import MEMORY_URL, REDIS_SCHEMES
    from router.web.log import configure
    from router.web.serving import run

    if budgets_url != MEMORY_URL and budgets_url.partition("://")[0] not in REDIS_SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in ("memory", *REDIS_SCHEMES))
        raise typer.BadParameter(f"no such store; there is {known}", param_hint="--budgets-url")
    if workers > 1 and budgets_url == MEMORY_URL:
        raise typer.BadParameter(
            f"{workers} workers can't share budgets in memory; keep them in Redis (--budgets-url redis://HOST:PORT), "
            "or use one worker",
            param_hint="--workers",
        )
    configure(log_level.value)
    _warn_of_misspelt([option.envvar for option in context.command.params if isinstance(option.envvar, str)])
    run(
        Settings(
            policies=policies,
            host=host,
            port=port,
            workers=workers,
            budgets_url=budgets_url,
            budgets_on_outage=budgets_on_outage.value,
            replicas=replicas,
            ledger_url=ledger_url,
            ledger_on_outage=ledger_on_outage.value,
            ledger_queue_rows=ledger_queue_rows,
            breaker_failures=breaker_failures,
            spool=spool,
            admin_key=admin_key,
            metrics_account_label=metrics_account_label,
            largest_body_bytes=largest_body_bytes,
            idempotency=idempotency.value,
            simulate=simulate.value,
            local=local,
        )
    )


def _warn_of_misspelt(known: Sequence[str]) -> None:
    """Log each variable of the environment that is almost the name of a setting, without what it holds.

    Names that resemble none are left alone: other programs set such, as Kubernetes does for a service named farthing.
    """
    settings = [name.removeprefix(PREFIX) for name in known]
    for name in sorted(os.environ):
        own = name.removeprefix(PREFIX)
        if own != name and own not in settings and (near := get_close_matches(own, settings, n=1, cutoff=NEAR)):
            log.warning("%s is no setting, so it is not heeded; did you mean %s%s?", name, PREFIX, near[0])
