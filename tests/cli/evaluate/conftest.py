"""Fixtures of the tests of `farthing evaluate`: a folder of policies, and a labelled set."""

from __future__ import annotations

from pathlib import Path

import pytest
from difficulty.labelled_sets import lines, write

from cli.evaluate.sets import ALL_CHEAP, CHECKED, MODELS, TASK


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "policies"
    folder.mkdir()
    for name, text in (("models", MODELS), ("support", TASK), ("cheapest", ALL_CHEAP), ("checked", CHECKED)):
        (folder / f"{name}.yaml").write_text(text)
    return folder


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    return write(tmp_path / "labelled.jsonl", lines(600))
