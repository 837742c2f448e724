"""What a run of the command gives, a proxy in a process of its own, and a small policy."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy import Proxy, running_provider, running_proxy

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ran:
    """What a command printed and how it ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ran]

DEFAULT = """version: 1
task: default
baseline: premium
budget: {per_request_usd: 0.01}
route:
  - name: long
    when: {input_tokens: {gt: 1000}}
    use: premium
  - use: cheap
tests:
  - name: a greeting is cheap
    request: {messages: [{role: user, content: Hello}]}
    expect: {rule: otherwise, use: cheap, cost_usd: {lte: 0.001}}
"""


@contextmanager
def served(*options: str, environ: Mapping[str, str]) -> Iterator[str]:
    """Run a proxy on a free port, and give its URL once it says that it serves."""
    command = [sys.executable, "-m", "router", "serve", "--port", "0", *options]
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environ}, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            said = child.stdout.readline()
            found = re.search(r"http://[0-9.:]+", said)
            assert found, f"the proxy said {said!r}"
            yield found[0]
        finally:
            child.terminate()
            child.communicate(timeout=60)


@contextmanager
def shipped(folder: Path) -> Iterator[Proxy]:
    """Serve the shipped policies in this process, by simulated providers that take no time to think."""
    shutil.copytree(ROOT / "policies", folder / "policies")
    with running_provider() as provider, running_proxy(folder, {}, simulated_url=provider.root_url) as proxy:
        yield proxy


def on_terminal(*arguments: object, columns: int = 80, **environ: str) -> str:
    """Run the command on a terminal of its own, and return all that it wrote there, without colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    env |= {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **environ}
    command = [sys.executable, "-m", "router", *map(str, arguments)]
    with subprocess.Popen(command, cwd=ROOT, env=env, stdin=theirs, stdout=theirs, stderr=theirs):
        os.close(theirs)
        written = b""
        # Linux tells the end of a terminal as an error.
        with suppress(OSError):
            while part := os.read(ours, 65_536):
                written += part
        os.close(ours)
    return plain(written.decode()).replace("\r\n", "\n")


def plain(text: str) -> str:
    """Return what a terminal was sent without colours and movements."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


def replayed(farthing: Run, ledger: str, *options: object) -> Any:
    """Return the report of a replay of this ledger."""
    ran = farthing("replay", "--ledger-url", ledger, "--json", *options)
    assert ran.status == 0, ran.err
    return ran.json
