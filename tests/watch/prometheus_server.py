"""A real Prometheus on a free loopback port, from Debian's package, which is unpacked into `.cache` and not installed.

Its scrapes and its rules run every second, so that a test sees in seconds what takes minutes elsewhere.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from cache import CACHE, alone_in
from proxy import eventually

FOLDER = CACHE / "prometheus"
DOWNLOAD_S = 240
START_S = 60.0


@cache
def programs() -> Path | str:
    """Return the folder of `prometheus` and `promtool`, or one line that says why they can't be had."""
    found = [shutil.which(name) for name in ("prometheus", "promtool")]
    if found[0] and found[1]:
        return Path(found[0]).parent
    folder = FOLDER / "root" / "usr" / "bin"
    with alone_in(FOLDER):
        if (folder / "promtool").exists():
            return folder
        if not shutil.which("apt-get"):
            return "Prometheus is not here, nor apt-get to get it: install its programs prometheus and promtool."
        try:
            return _unpacked(folder)
        except (subprocess.SubprocessError, OSError) as error:
            told = getattr(error, "stderr", None) or str(error)
            return f"Prometheus could not be had by apt-get: {' '.join(str(told).split())[-200:]}"


def _unpacked(folder: Path) -> Path:
    """Download the package and unpack it; an unpacking that was broken off is not taken for one."""
    if _apt("download", "prometheus").returncode:
        _apt("update", "-qq").check_returncode()
        _apt("download", "prometheus").check_returncode()
    package = max(FOLDER.glob("prometheus_*.deb"))
    unpacking = FOLDER / f"unpacking-{time.time_ns()}"
    subprocess.run(["dpkg-deb", "-x", package, unpacking], check=True, capture_output=True, text=True, timeout=60)
    unpacking.rename(FOLDER / "root")
    return folder


def _apt(*words: str) -> subprocess.CompletedProcess[str]:
    # Left alone, apt would fetch as a user who can't write here, and say so.
    command = ["apt-get", "-o", "APT::Sandbox::User=root", *words]
    return subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=DOWNLOAD_S, check=False)


def need_prometheus() -> None:
    """Skip the tests where Prometheus can't be had, and say why; in CI it can be, and nothing is skipped."""
    if isinstance(why := programs(), str):
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)


def promtool(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    found = programs()
    assert isinstance(found, Path), found
    command = [found / "promtool", *map(str, words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running server, asked over its HTTP API."""

    http: httpx.Client

    def query(self, expr: str) -> list[Any]:
        """Return the vector, or matrix, that an expression gives now.

        Raises:
            AssertionError: Prometheus refused it.
        """
        return list(self._get("query", query=expr)["result"])

    def over_time(self, expr: str, since_s: float) -> list[Any]:
        """Return what a panel draws: the expression at every second."""
        end_s = time.time()
        return list(self._get("query_range", query=expr, start=since_s, end=end_s, step=1)["result"])

    def rules(self) -> list[dict[str, Any]]:
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def exemplars(self, expr: str, since_s: float) -> list[Any]:
        return list(self._get("query_exemplars", query=expr, start=since_s, end=time.time() + 1))

    def _get(self, path: str, **params: Any) -> Any:
        answer = self.http.get(f"/api/v1/{path}", params=params)
        assert answer.status_code == 200, f"{params.get('query')}: {answer.text}"
        told = answer.json()
        assert not told.get("warnings"), told
        return told["data"]


@contextmanager
def running_prometheus(
    folder: Path, targets: Mapping[str, Iterable[str]], rules: Iterable[Path] = (), history: str = ""
) -> Iterator[Prometheus]:
    """Scrape these targets, by job, every second until the context is left.

    `history` is what it has of the time before, in OpenMetrics' format with timestamps.
    """
    found = programs()
    assert isinstance(found, Path), found
    files = []
    for path in rules:
        loaded = yaml.safe_load(path.read_text())
        files.append(str(folder / path.name))
        (folder / path.name).write_text(yaml.safe_dump(loaded))
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": files,
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": list(addresses)}]} for job, addresses in targets.items()
        ],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    if history:
        (folder / "history").write_text(history)
        imported = promtool("tsdb", "create-blocks-from", "openmetrics", folder / "history", folder / "data")
        assert imported.returncode == 0, imported.stderr
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        *[
            found / "prometheus",
            f"--config.file={folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={folder / 'data'}",
        ],
        *[f"--web.listen-address={address}", "--enable-feature=exemplar-storage", "--log.level=warn"],
    ]
    with (folder / "prometheus.log").open("wb") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://{address}", trust_env=False, timeout=30) as http:

            def is_ready() -> bool:
                assert child.poll() is None, (folder / "prometheus.log").read_text()
                try:
                    return http.get("/-/ready").status_code == 200
                except httpx.TransportError:
                    return False

            eventually(is_ready, "Prometheus", START_S)
            yield Prometheus(http)
    finally:
        child.terminate()
        child.wait(START_S)
