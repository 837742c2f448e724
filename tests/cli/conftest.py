"""The command as a user runs it, and a proxy that runs beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.running import DEFAULT, ROOT, Ran, Run, served
from router.cli import main


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("FARTHING_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def farthing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command in this process, by its own entry point: quick."""

    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["farthing", *map(str, arguments)])
        capsys.readouterr()
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


@pytest.fixture(scope="session")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('ledger') / 'farthing.db'}"


@pytest.fixture(scope="session")
def proxy(ledger: str) -> Iterator[str]:
    """A proxy with the shipped policies and simulated providers, which records into `ledger`."""
    with served("--policies", "policies", "--simulate", "always", environ={"FARTHING_LEDGER_URL": ledger}) as url:
        yield url


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small folder of policies, one test in it."""
    (tmp_path / "models.yaml").write_text(
        "version: 1\nmodels:\n  cheap: {target: openai/gpt-4.1-nano}\n"
        "  premium: {target: openai/gpt-4.1, kind: premium}\n"
    )
    (tmp_path / "default.yaml").write_text(DEFAULT)
    return tmp_path
