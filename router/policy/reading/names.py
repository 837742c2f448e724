"""The names that the files of one folder give to models, tasks and accounts, and the check against them."""

from __future__ import annotations

from dataclasses import dataclass

from router.policy.fault import Place, Report, did_you_mean, shown
from router.policy.reading.document import Table, at, place_of

VERSION = 1


@dataclass(frozen=True, slots=True)
class Names:
    """What there is to refer to; None where the file that says so can't be read: then no name is judged."""

    models: frozenset[str] | None
    tasks: frozenset[str] | None
    accounts: frozenset[str] | None


def check_name(name: str, known: frozenset[str] | None, kind: str, place: Place, report: Report) -> None:
    """Report `name` where it is not among the known names of its kind ("model", "task", "account")."""
    if known is None or name in known or report.knows(place):
        return
    parts = [part.strip() for part in name.split(",")]
    listed = len(parts) > 1 and known.issuperset(parts)
    hint = f"; a list has brackets: [{', '.join(parts)}]" if listed else did_you_mean(name, sorted(known))
    report.error(place, f"unknown {kind} {shown(name)}{hint}")


def check_version(root: Table, report: Report) -> None:
    """Report a version that this program does not read; a missing one is the shape's affair."""
    version = at(root, "version")
    plain = version.plain() if version else None
    if isinstance(plain, int) and not isinstance(plain, bool) and plain != VERSION:
        report.error(place_of(root, ("version",)), f"version {plain} is not supported; this Farthing reads version 1")
