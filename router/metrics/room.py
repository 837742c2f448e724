"""What bounds a scrape: how many names there are, and how many bytes the series of one metric may take.

What was admitted once stays admitted; first come, first served. What is not admitted is counted as `_other`.
"""

from __future__ import annotations

from router.metrics.families import Family
from router.metrics.words import OTHER

USUAL_NAME_BYTES = 40


class Names:
    """Admits the first `most` names of tasks, or of models; fewer where they are very long."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._left_bytes = most * USUAL_NAME_BYTES
        self._seen: set[str] = set()

    def __call__(self, name: str) -> str:
        """Return the name, or `_other` where there is no room for it."""
        if name in self._seen:
            return name
        size = len(name.encode())
        if len(self._seen) == self._most or size > self._left_bytes:
            return OTHER
        self._seen.add(name)
        self._left_bytes -= size
        return name


class Room:
    """Admits sets of label values of a metric while their lines fit into its bytes."""

    def __init__(self, family: Family, most_bytes: int | None = None) -> None:
        self._family = family
        self._most_bytes = family.most_bytes if most_bytes is None else most_bytes
        self._taken_bytes = 0
        self._seen: set[tuple[str, ...]] = set()

    def admits(self, *values: str, share: float = 1.0) -> bool:
        """Say whether these values may be labels; new ones only while no more than `share` of the bytes is taken."""
        if values in self._seen:
            return True
        size = self._family.bytes_of(values)
        if self._taken_bytes + size > self._most_bytes * share:
            return False
        self._seen.add(values)
        self._taken_bytes += size
        return True
