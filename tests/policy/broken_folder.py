"""The broken policy files: each is dropped into a folder that is whole, and says at its end what is wrong.

A name that begins with `models.` or `accounts.` stands in for that file; any other is one more task's file.
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


def name_in_folder(broken: Path) -> str:
    """Return the name that the broken file takes among the others."""
    kind = broken.name.split(".")[0]
    return f"{kind}.yaml" if kind in ("models", "accounts") else "broken.yaml"


def folder_with(broken: Path) -> dict[str, bytes]:
    return {**WHOLE, name_in_folder(broken): broken.read_bytes()}


def stated(broken: Path) -> list[str]:
    """Return the faults that the file says it has, in their order."""
    text = broken.read_text("utf-8")
    return [line.removeprefix(MARK) for line in text.splitlines() if line.startswith(MARK)]
