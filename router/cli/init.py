"""`farthing init`: a commented starter set of policies, which is the very set that the repository serves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from router.cli.folder import DEFAULT_FOLDER

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

STARTER = frozenset(
    {"accounts.yaml.example", "models.yaml", "schema.json"}
    | {f"{task}.yaml" for task in ("code", "default", "extract", "legal-drafting", "summarise", "support")}
)
"""Its files. In a checkout they lie among those that whoever runs it has added, his accounts perhaps."""


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", envvar="FARTHING_POLICIES", help="Made where it is not there.")
    ] = DEFAULT_FOLDER,
) -> None:
    """Write a commented starter set of policies, with tests, into a folder that has none.

    Nothing that is there is ever overwritten; where the folder holds a policy already, nothing is written at all,
    for a running proxy would serve the mixture.

    Example: farthing init policies
    """
    from router.policy.reading.sharing import ENDINGS

    if folder.exists() and not folder.is_dir():
        raise typer.BadParameter(f"{folder} is a file; name a folder.")
    present = sorted(path.name for path in folder.glob("*") if path.suffix in ENDINGS)
    if present:
        typer.echo(
            f"farthing: {folder}/ holds policies already ({', '.join(present)}); nothing was written. "
            "Name another folder.",
            err=True,
        )
        raise typer.Exit(1)
    for name in _write(folder):
        print(f"wrote {folder / name}")
    print(
        f"\nRead {folder / 'default.yaml'} first. Then:\n"
        f"  farthing check {folder}              are they valid?\n"
        f"  farthing test {folder}               do their tests hold?\n"
        f"  farthing serve --policies {folder}   run the proxy (add --simulate auto to try it without any key)"
    )


def _write(folder: Path) -> list[str]:
    """Write every file of the starter set that is not there yet, and return their names."""
    written: list[str] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in _starter():
            try:
                with (folder / file.name).open("xb") as out:
                    out.write(file.read_bytes())
            except FileExistsError:
                continue
            written.append(file.name)
    except OSError as error:
        raise typer.BadParameter(f"{folder} can't be written: {error.strerror}.") from None
    return written


def _starter() -> list[Traversable]:
    """Return the files of the starter set: beside the package in a wheel, beside the sources otherwise."""
    from importlib.resources import files

    package = files("router")
    shipped = package / "starter"
    folder = shipped if shipped.is_dir() else Path(str(package)).parent / "policies"
    return sorted((file for file in folder.iterdir() if file.name in STARTER), key=lambda file: file.name)
