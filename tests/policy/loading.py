"""Folders of policies as tests load them: what differs from a whole one, and the faults as lines."""

from __future__ import annotations

from pathlib import Path

from policy.broken_folder import WHOLE
from router.policy.reading.load import Loaded, load_files
from router.pricing import Catalogue

SHIPPED = Path(__file__).parents[2] / "policies"
HERE = Path()


def load(catalogue: Catalogue, files: dict[str, str | bytes], environ: dict[str, str] | None = None) -> Loaded:
    whole = {
        **WHOLE,
        **{name: text.encode() if isinstance(text, str) else text for name, text in files.items()},
    }
    return load_files(whole, catalogue, environ or {}, HERE)


def task(body: str = "route:\n  - use: cheap\n", name: str = "support") -> str:
    return f"version: 1\ntask: {name}\n{body}"


def lines(loaded: Loaded) -> list[str]:
    return [str(fault) for fault in loaded.faults]
