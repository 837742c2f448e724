"""The files that a command writes: none of those that it reads, and no two the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import typer


def spare(written: Mapping[str, Path | None], read: Iterable[Path]) -> None:
    """Refuse to write over what is read, or twice into one file. `written` is by option; nothing was touched by then.

    Raises:
        BadParameter: says which option, and what it would have overwritten.
    """
    taken = {_real(file): f"{file} is read here" for file in read}
    for option, file in written.items():
        if file is None:
            continue
        if said := taken.get(_real(file)):
            raise typer.BadParameter(f"{said}, and would be overwritten; name another file.", param_hint=option)
        taken[_real(file)] = f"{file} is what {option} writes"


def _real(file: Path) -> tuple[int, int] | Path:
    """Return what two names of one file have in common, whether it is there already or not."""
    try:
        there = file.stat()
    except OSError:
        return file.resolve()
    return there.st_dev, there.st_ino
