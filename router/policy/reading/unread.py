"""Files of a folder that look like policies and are not read, so that whoever wrote them is told.

Only what can hardly be meant is told: a name with a dot before it, or with .example, .bak or ~ behind, is set aside by
somebody who knows. Nothing here is read for what it says, and nothing is raised.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from router.policy.fault import START, Fault
from router.policy.reading.sharing import ENDINGS

MISTAKEN = (".yaml.txt", ".yml.txt", *ENDINGS, ".yalm", ".ymal")
"""Endings that an editor, a download or a hand makes of .yaml, without regard to case and blanks."""
BARE = re.compile(r"(models|accounts)(\.(txt|json|toml))?", re.IGNORECASE)
"""The two files that have fixed names, with another ending. Without accounts.yaml a proxy is open."""
HOLDS_POLICY = re.compile(rb"^\xef?\xbb?\xbf?(task|conditions|prompts|models|accounts)\s*:", re.MULTILINE)
"""What a file of a subfolder must have, for YAML is used by many."""
LOOKED_AT_BYTES = 65_536
MOST_ENTRIES = 2_000
"""Of subfolders, that are looked at; somebody may name a whole project as the folder."""


def unread(folder: Path, files: Collection[str]) -> tuple[Fault, ...]:
    """Return a warning for each file that looks like a policy and is none of `files`, by their paths in the folder."""
    told = [*_misnamed(folder), *_beneath(folder, files)]
    return tuple(Fault(str(folder / name), *START, said, "warning") for name, said in told)


def _misnamed(folder: Path) -> Iterator[tuple[str, str]]:
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
    except OSError:
        return
    for name in names:
        if name.startswith(".") or name.endswith(ENDINGS):
            continue
        plain = name.strip().lower()
        if ending := next((ending for ending in MISTAKEN if plain.endswith(ending)), None):
            yield name, _rename(name.strip()[: -len(ending)])
        elif BARE.fullmatch(name.strip()):
            yield name, _rename(plain.split(".")[0])


def _rename(stem: str) -> str:
    return f'this is not read, for its name does not end in .yaml; rename it to "{stem}.yaml"'


def _beneath(folder: Path, files: Collection[str]) -> Iterator[tuple[str, str]]:
    """Tell of YAML in subfolders that nobody includes; hidden folders, like .git, are not looked into."""
    looked_at = 0
    for path, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if Path(path) == folder:
            continue
        looked_at += len(folders) + len(names)
        if looked_at > MOST_ENTRIES:
            return
        for name in sorted(names):
            inside = posixpath.join(Path(path).relative_to(folder).as_posix(), name)
            if not name.endswith(ENDINGS) or name.startswith(".") or inside in files:
                continue
            if kind := _kind(Path(path) / name):
                yield inside, _not_included(kind)


def _kind(path: Path) -> str | None:
    """Return the first word that tells a file for a policy, or None where it has none or can't be read."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            found = HOLDS_POLICY.search(file.read(LOOKED_AT_BYTES))
    except OSError:
        return None
    return found[1].decode() if found else None


def _not_included(kind: str) -> str:
    if kind in ("conditions", "prompts"):
        return "no file includes this fragment, so it is not read"
    said = "this is in a subfolder and no file includes it, so it is not read; move it into the folder itself"
    return f"{said}, or begin its name or its folder's with a dot where it is set aside"
