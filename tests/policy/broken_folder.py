"""The broken policy files: each is dropped into a folder that is whole, and says at its end what is wrong.

A name that begins with `models.` or `accounts.` stands in for that file; any other is one more task's file. A
folder brings several files, each with its own faults.
"""

from __future__ import annotations

from pathlib import Path

BROKEN = Path(__file__).parent / "broken"
MARK = "# fault "

WHOLE = {
    "models.yaml": b"""version: 1
models:
  cheap: {target: openai/gpt-4.1-nano}
  standard: {target: openai/gpt-4.1-mini}
  premium: {target: openai/gpt-4.1, kind: premium}
  tuned: {target: openai/x, price: free}
""",
    "accounts.yaml": b"""version: 1
accounts:
  search-team: {keys: ["sha256:0000000000000000000000000000000000000000000000000000000000000000"]}
""",
    "a-first.yaml": b"""version: 1
task: default
match: {models: [gpt-4o]}
route:
  - use: cheap
""",
}


def cases() -> list[Path]:
    return sorted(path for path in BROKEN.iterdir() if path.is_dir() or path.suffix == ".yaml")


def name_in_folder(broken: Path) -> str:
    """Return the name that the broken file takes among the others."""
    kind = broken.name.split(".")[0]
    return f"{kind}.yaml" if kind in ("models", "accounts") else "broken.yaml"


def own_files(broken: Path) -> dict[str, Path]:
    """Return the files that are broken by the names they take."""
    if broken.is_dir():
        return {path.relative_to(broken).as_posix(): path for path in sorted(broken.rglob("*.yaml"))}
    return {name_in_folder(broken): broken}


def folder_with(broken: Path) -> dict[str, bytes]:
    return {**WHOLE, **{name: path.read_bytes() for name, path in own_files(broken).items()}}


def stated(broken: Path) -> list[str]:
    """Return the faults that the files say they have, in their order; each of its own file unless it names another."""
    found = [
        line.removeprefix(MARK) if ".yaml:" in line[: len(MARK) + 40] else f"{name}:{line.removeprefix(MARK)}"
        for name, path in own_files(broken).items()
        for line in path.read_text("utf-8").splitlines()
        if line.startswith(MARK)
    ]
    return sorted(found, key=_place)


def _place(fault: str) -> tuple[str, int, int]:
    file, line, column, _ = fault.split(":", 3)
    return file, int(line), int(column)
