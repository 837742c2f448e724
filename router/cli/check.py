"""`farthing check`: are the policies valid?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from router.cli.folder import DEFAULT_FOLDER, FolderArgument, JsonOption, read_folder
from router.cli.table import plural, print_json

if TYPE_CHECKING:
    from router.policy.reading.load import Loaded


def check(
    folder: FolderArgument = DEFAULT_FOLDER,
    as_json: JsonOption = False,
    as_sarif: Annotated[bool, typer.Option("--sarif", help="Print SARIF 2.1.0, for code review tools.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="End with status 1 where there is a warning, too.")] = False,
) -> None:
    """Check the policies: every fault as file:line:column: level: message, all in one run.

    Ends with status 1 where there is an error; a warning alone is no error, unless --strict is given.

    Example: farthing check policies
    """
    if as_json and as_sarif:
        raise typer.BadParameter("give --json or --sarif, not both.")
    loaded = read_folder(folder)
    if as_sarif:
        from router.cli.sarif import sarif

        print_json(sarif(loaded.faults, folder))
    elif as_json:
        print_json(_as_json(loaded))
    else:
        for fault in loaded.faults:
            print(fault)
        print(_summary(folder, loaded))
    if (strict and loaded.faults) or any(fault.level == "error" for fault in loaded.faults):
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
