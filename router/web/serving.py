"""A proxy from settings to shutdown: the socket, what runs beside it, one process or several, and what it prints."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from router.errors import FarthingError
from router.providers.lanes import key_variable
from router.providers.local import LocalModel
from router.providers.openai import BASE_URLS
from router.providers.simulated.beside import SimulatedProcess
from router.providers.simulated.question import Pace, Simulation
from router.settings import Settings
from router.web.workers import Workers

PACE = Pace(first_token_s=0.15, tokens_per_s=80.0)
"""Of the simulated providers beside a proxy: quick, and still visible to the eye."""
LOCAL_URL = "FARTHING_LOCAL_URL"
"""The environment variable in which policies find the model on this machine."""


class AddressInUse(FarthingError):
    """Nothing can listen there."""

    code = "address_in_use"


def run(settings: Settings) -> None:
    """Serve until told to stop.

    Raises:
        AddressInUse: the address can't be listened on.
        NotInstalled: the local model is asked for, and its packages are not there.
        SystemExit: the start-up failed; why has been printed.
    """
    with ExitStack() as beside:
        listening = beside.enter_context(_listen(settings))
        simulated_url = None
        if _simulates(settings, os.environ):
            process = beside.enter_context(SimulatedProcess(Simulation(pace=PACE)))
            simulated_url = process.base_url.removesuffix("/v1")
        local = beside.enter_context(LocalModel(partial(print, flush=True))) if settings.local else None
        if local:
            os.environ[LOCAL_URL] = local.base_url
        host, port = listening.getsockname()[:2]

        def ready() -> None:
            _say(settings, f"http://{host}:{port}", simulated_url)
            if local:
                # Not before: loading it takes a core that the proxy's own start needs.
                local.start()

        if settings.workers > 1:
            folder = Path(beside.enter_context(TemporaryDirectory(prefix="farthing-metrics-")))
            served = asyncio.run(Workers(settings, listening, folder, simulated_url, ready).run())
        else:
            served = _serve(settings, listening, simulated_url, ready)
        if not served:
            sys.exit(1)


def _serve(settings: Settings, listening: socket.socket, simulated_url: str | None, ready: Callable[[], None]) -> bool:
    """Serve in this process; False where the start-up failed, which has been printed."""
    from router.web.app import App  # noqa: PLC0415  most of the start, and who supervises workers needs none of it
    from router.web.server import serve, server_of, set_objects_aside  # noqa: PLC0415

    app = App(settings, simulated_url=simulated_url)

    def begun() -> None:
        set_objects_aside()
        ready()

    app.on_ready = begun
    return serve(server_of(app), listening)


def _listen(settings: Settings) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        # Python adds the address to the reason, which says it twice.
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise AddressInUse(
            f"Can't listen on {settings.host}:{settings.port}: {reason}. Choose another --port (or FARTHING_PORT)."
        ) from error


def _simulates(settings: Settings, environ: Mapping[str, str]) -> bool:
    """Say whether simulated providers stand in for the real ones."""
    if settings.simulate == "auto":
        known = (*BASE_URLS, "anthropic", "gemini", "azure", "cohere")
        return not any(environ.get(key_variable(provider)) for provider in known)
    return settings.simulate == "always"


def _say(settings: Settings, url: str, simulated_url: str | None) -> None:
    """Print where the proxy is and what a newcomer needs to know."""
    print(f"Farthing serves {settings.policies}/ on {url} (OpenAI base URL: {url}/v1)", flush=True)
    if settings.admin_key:
        print(f"The console, for who has the admin key: {url}/console", flush=True)
    if simulated_url:
        print(
            ("No provider key is set, so answers" if settings.simulate == "auto" else "Answers")
            + " are simulated: real tokens, real prices, no real model.",
            flush=True,
        )
