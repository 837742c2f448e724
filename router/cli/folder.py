"""The policy folder that a command is about: which one, and what it says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from router.policy.reading.load import Loaded

FolderArgument = Annotated[
    Path, typer.Argument(metavar="DIR", envvar="FARTHING_POLICIES", help="The folder of policies.")
]
FolderOption = Annotated[Path, typer.Option("--policies", envvar="FARTHING_POLICIES", help="The folder of policies.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
DEFAULT_FOLDER = Path("policies")


def read_folder(folder: Path) -> Loaded:
    """Read and compile the policies in `folder`, with the variables of this environment.

    Raises:
        BadParameter: there is no such folder.
    """
    from router.policy.reading.load import load_folder
    from router.pricing import Catalogue

    if not folder.is_dir():
        problem = f"{folder} is a file" if folder.exists() else f"There is no folder {folder}"
        raise typer.BadParameter(f"{problem}; name a folder of policies, or make one with `farthing init`.")
    return load_folder(folder, Catalogue(), os.environ)
