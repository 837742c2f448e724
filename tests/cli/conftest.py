"""The command as a user runs it, and a proxy that runs beside it."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from proxy import Proxy

from cli.running import DEFAULT, ROOT, Ran, Run, shipped
from router.cli import main


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("FARTHING_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def farthing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command in this process, by its own entry point: quick, and else as `process` does."""

    def run(*arguments: object, stdin: str = "", cwd: Path = ROOT, **environ: str) -> Ran:
        capsys.readouterr()
        with monkeypatch.context() as shell:
            shell.setattr(sys, "argv", ["farthing", *map(str, arguments)])
            shell.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()), "utf-8"))
            shell.chdir(cwd)
            for name, value in environ.items():
                shell.setenv(name, value)
            try:
                main()
                status = 0
            except SystemExit as ended:
                status = ended.code if isinstance(ended.code, int) else 0
        captured = capsys.readouterr()
        return Ran(status, captured.out, captured.err)

    return run


@pytest.fixture
def process() -> Run:
    """Run the command in a process of its own, with `stdin` and some environment, as a shell does."""

    def run(*arguments: object, stdin: str = "", cwd: Path = ROOT, **environ: str) -> Ran:
        done = subprocess.run(
            [sys.executable, "-m", "router", *map(str, arguments)],
            input=stdin.encode(),
            capture_output=True,
            timeout=120,
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
            check=False,
        )
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy with the shipped policies."""
    with shipped(tmp_path_factory.mktemp("shipped")) as running:
        yield running


@pytest.fixture(scope="session")
def day(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a ledger of the demo's traffic through the shipped policies."""
    with shipped(tmp_path_factory.mktemp("day")) as running:
        command = [sys.executable, "-m", "router", "demo", "--url", running.url]
        command += ["--requests", "96", "--concurrency", "48"]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
        running.rows()
        return f"sqlite:///{running.ledger}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small folder of policies, one test in it."""
    (tmp_path / "models.yaml").write_text(
        "version: 1\nmodels:\n  cheap: {target: openai/gpt-4.1-nano}\n"
        "  premium: {target: openai/gpt-4.1, kind: premium}\n"
    )
    (tmp_path / "default.yaml").write_text(DEFAULT)
    return tmp_path


@pytest.fixture
def edited(tmp_path: Path) -> Path:
    """A copy of the shipped policies, to be edited."""
    return shutil.copytree(ROOT / "policies", tmp_path / "edited")
