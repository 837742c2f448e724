"""The name of a process in the ledger, and whether the process of such a name is gone.

A name is `host/pid/start`. Only names of this host and of this namespace of processes can be judged; of any other we
say that it may be there, and the hold's expiry decides.
"""

from __future__ import annotations

import os
import socket
from functools import cache
from pathlib import Path


@cache
def own_instance() -> str:
    """Return the name of this process; the same for as long as it runs, and no other process's after it."""
    return f"{socket.gethostname()}/{os.getpid()}/{_start_of(os.getpid())}"


def is_gone(instance: str) -> bool:
    """Say whether that process surely runs no more; False where that can't be told from here."""
    host, _, rest = instance.rpartition("/")[0].rpartition("/")
    start = instance.rpartition("/")[2]
    namespace = start.partition(".")[2]
    if host != socket.gethostname() or not rest.isdecimal() or namespace != _namespace():
        return False
    try:
        os.kill(int(rest), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return _start_of(int(rest)) != start


def _start_of(pid: int) -> str:
    """Return when a process started, in ticks since the boot, and whose namespace its number is from.

    Without a /proc there is only the number to go by.
    """
    try:
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        ticks = "0"
    return f"{ticks}.{_namespace()}"


@cache
def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        return "0"
