"""`farthing check`: are the policies valid?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from router.cli.folder import DEFAULT_FOLDER, FolderArgument, JsonOption, read_folder
from router.cli.table import plural, print_json

if TYPE_CHECKING:
    from router.policy.load import Loaded


def check(folder: FolderArgument = DEFAULT_FOLDER, as_json: JsonOption = False) -> None:
    """Check the policies: every fault as file:line:column: level: message, all in one run.

    Ends with status 1 where there is an error; a warning alone is no error.

    Example: farthing check policies
    """
    loaded = read_folder(folder)
    if as_json:
        print_json(_as_json(loaded))
    else:
        for fault in loaded.faults:
            print(fault)
        print(_summary(folder, loaded))
    if loaded.set is None:
        raise typer.Exit(1)


def _summary(folder: Path, loaded: Loaded) -> str:
    errors = sum(fault.level == "error" for fault in loaded.faults)
    warnings = len(loaded.faults) - errors
    found = [plural(errors, "error")] if errors else []
    found += [plural(warnings, "warning")] if warnings else []
    said = " and ".join(found) or "no fault"
    if loaded.set is None:
        return f"{folder}/: {said}"
    tasks, models = plural(len(loaded.set.policies), "task"), plural(len(loaded.set.models), "model")
    return f"{folder}/: {tasks}, {models}: {said}"


def _as_json(loaded: Loaded) -> dict[str, object]:
    return {
        "faults": [
            {
                "file": fault.file,
                "line": fault.line,
                "column": fault.column,
                "level": fault.level,
                "message": fault.message,
            }
            for fault in loaded.faults
        ],
        "tasks": [*loaded.set.policies] if loaded.set else [],
        "models": [*loaded.set.models] if loaded.set else [],
    }
