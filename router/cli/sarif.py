"""Faults as SARIF 2.1.0, which code review tools show beside the lines; paths are relative to the project."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

from router.policy.fault import Fault

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
RULES = {
    "policy-error": "The folder of policies can't be used before this is mended.",
    "policy-warning": "The folder of policies can be used; this is likely not what was meant.",
}
_IDS = [*RULES]


def sarif(faults: Iterable[Fault], folder: Path) -> dict[str, object]:
    """Return one run of `farthing check`.

    Paths are relative to the working directory, which such tools take for the project's root; those of a folder
    elsewhere are relative to that folder.
    """
    root, base = Path.cwd(), "%SRCROOT%"
    if not folder.resolve().is_relative_to(root):
        root, base = folder.resolve(), "POLICIES"
    driver = {
        "name": "farthing",
        "semanticVersion": version("farthing"),
        "rules": [{"id": rule, "shortDescription": {"text": about}} for rule, about in RULES.items()],
    }
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                "columnKind": "unicodeCodePoints",
                "originalUriBaseIds": {base: {"uri": f"{root.as_uri()}/"}},
                "results": [_result(fault, _path(fault, folder), root, base) for fault in faults],
            }
        ],
    }


def _path(fault: Fault, folder: Path) -> Path:
    """Return where a file is in the folder; what it is a link to may be anywhere."""
    return folder.resolve() / Path(fault.file).relative_to(folder)


def _result(fault: Fault, path: Path, root: Path, base: str) -> dict[str, object]:
    where: dict[str, object] = {"artifactLocation": {"uri": _uri(path, root), "uriBaseId": base}}
    if not path.is_dir():
        where["region"] = {"startLine": fault.line, "startColumn": fault.column}
    rule = f"policy-{fault.level}"
    return {
        "ruleId": rule,
        "ruleIndex": _IDS.index(rule),
        "level": fault.level,
        "message": {"text": fault.message},
        "locations": [{"physicalLocation": where}],
    }


def _uri(path: Path, root: Path) -> str:
    return quote(path.relative_to(root).as_posix()) + ("/" if path.is_dir() and path != root else "")
