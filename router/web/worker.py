"""One of several workers: `python -m router.web.worker FD`, where FD is its end of the supervisor's socket.

That socket brings a `Start` as one line, takes `READY` once requests are answered, and `SHUT` once policies that have
accounts are in force. It closes when the supervisor ends, however that was: then the worker stops as if it had been
told to, and none is left behind.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import socket
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from router.settings import Settings

if TYPE_CHECKING:
    from uvicorn import Server

READY = b"r"
SHUT = b"s"


class Start(msgspec.Struct, frozen=True):
    """What a worker needs to know. It comes by a socket, for others can read a command line or an environment."""

    settings: Settings
    slot: int
    """Which of the workers it is. One that takes a dead one's place has its number, and goes on with its counters."""
    listening_fd: int
    metrics_folder: str
    simulated_url: str | None
    stays_shut: bool
    """Whether a worker had accounts, so that a folder without them must not open this one."""
    log_level: str

    def line(self) -> bytes:
        return msgspec.json.encode(self, enc_hook=str) + b"\n"


def main(control_fd: int) -> None:
    """Serve until told to stop, or until the supervisor is gone."""
    # A terminal's ^C reaches every process of the group; until the server minds it, the supervisor does.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=control_fd) as control:
        control.set_inheritable(False)
        with control.makefile("rb") as incoming:
            line = incoming.readline()
        if not line:
            return
        start = msgspec.json.decode(line, type=Start, dec_hook=lambda kind, value: kind(value))
        listening = socket.socket(fileno=start.listening_fd)
        listening.set_inheritable(False)
        _share_metrics(start)
        _serve(start, control, listening)


def _share_metrics(start: Start) -> None:
    """Keep this process's metrics in files that bear its slot. Must come before any metric is made."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = start.metrics_folder
    from prometheus_client import values  # noqa: PLC0415  it reads the variable when it is imported

    values.ValueClass = values.MultiProcessValue(lambda: start.slot)  # type: ignore[no-untyped-call]


def _serve(start: Start, control: socket.socket, listening: socket.socket) -> None:
    from router.web.app import App  # noqa: PLC0415  imports prometheus_client; see `_share_metrics`
    from router.web.log import configure  # noqa: PLC0415
    from router.web.server import serve, server_of, set_objects_aside  # noqa: PLC0415

    configure(start.log_level)
    folder = Path(start.metrics_folder)
    app = App(start.settings, simulated_url=start.simulated_url, metrics_folder=folder, stays_shut=start.stays_shut)
    server = server_of(app)

    def ready() -> None:
        set_objects_aside()
        control.sendall(READY)
        asyncio.get_running_loop().add_reader(control, orphaned)

    @cache  # it is said once
    def shut() -> None:
        with suppress(ConnectionError):
            control.sendall(SHUT)

    def orphaned() -> None:
        asyncio.get_running_loop().remove_reader(control)
        logging.getLogger("farthing").error("The supervisor is gone, so this worker stops.")
        _stop(server)
        # The supervisor would have done it, and without it nobody asks any more.
        shutil.rmtree(folder, ignore_errors=True)

    app.on_ready = ready
    app.on_accounts = shut
    if not serve(server, listening):
        sys.exit(1)


def _stop(server: Server) -> None:
    server.should_exit = True


if __name__ == "__main__":
    main(int(sys.argv[1]))
