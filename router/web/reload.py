"""The policies in force, read again whenever their folder changes; a broken edit leaves the last good set running."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from watchfiles import awatch

from router.errors import PolicyFaults
from router.policy.load import Loaded
from router.policy.policy import PolicySet

DEBOUNCE_MS = 200
"""A burst of changes (a checkout, an editor's temporary files) is read once, when it has been quiet for so long."""

LOOK_EVERY_MS = 2_000
"""Edits that no event tells of are found by looking: those before the watch began, and those on some file systems."""

State = tuple[tuple[str, int, int], ...]
log = logging.getLogger("farthing.policies")


class PolicyFolder:
    """Holds one PolicySet; a request takes it once and keeps it, so none ever sees two."""

    def __init__(
        self,
        path: Path,
        load: Callable[[Path], Loaded],
        admit: Callable[[PolicySet], PolicySet],
        told: Callable[[str | None], None],
        clock: Callable[[], float],
    ) -> None:
        """`load` reads the folder; `admit` completes a set or raises PolicyFaults; `told` hears each result."""
        self._path = path
        self._load = load
        self._admit = admit
        self._told = told
        self._clock = clock
        self._current: PolicySet | None = None
        self._since_s = 0.0
        self._seen: State = ()
        self._faults: tuple[str, ...] = ()

    def current(self) -> PolicySet:
        """Return the set in force; `read` has succeeded once before anyone asks."""
        assert self._current is not None
        return self._current

    def read(self) -> PolicySet:
        """Read the folder and put it in force.

        Raises:
            PolicyFaults: it is not valid; what was in force stays so.
        """
        self._seen = _state(self._path)
        loaded = self._load(self._path)
        try:
            policies = self._admit(loaded.checked())
        except PolicyFaults as error:
            self._faults = error.faults
            self._told(None)
            raise
        self._faults = tuple(map(str, loaded.faults))
        if self._current is None or self._current.revision != policies.revision:
            self._since_s = self._clock()
        self._current = policies
        self._told(policies.revision)
        return policies

    async def watch(self, changed: Callable[[PolicySet], None]) -> None:
        """Read the folder again at each change, until cancelled."""
        async for changes in awatch(
            self._path,
            debounce=DEBOUNCE_MS,
            step=50,
            recursive=True,
            yield_on_timeout=True,
            rust_timeout=LOOK_EVERY_MS,
        ):
            if not changes and self._seen == await asyncio.to_thread(_state, self._path):
                continue
            try:
                policies = await asyncio.to_thread(self.read)
            except PolicyFaults as error:
                for fault in error.faults:
                    log.error("Policy edit rejected: %s", fault)
                continue
            log.info("Policies %s are in force.", policies.revision)
            changed(policies)

    def described(self) -> dict[str, Any]:
        """Say what is in force, since when, and what is wrong with the last edit."""
        policies = self.current()
        return {
            "revision": policies.revision,
            "since": datetime.fromtimestamp(self._since_s, UTC).isoformat(),
            "folder": str(self._path),
            "tasks": {
                task: {
                    "file": policy.file,
                    "rules": [rule.name for rule in policy.rules],
                    "models": policy.models,
                }
                for task, policy in policies.policies.items()
            },
            "models": {
                name: {
                    "kind": model.kind,
                    "targets": [target.name for target in model.targets],
                    "absent": model.absent,
                }
                for name, model in policies.models.items()
            },
            "faults": list(self._faults),
        }


def _state(folder: Path) -> State:
    """Return what changes when a file of the folder does: names, times and sizes."""
    with suppress(OSError):
        found = sorted((path.name, path.stat()) for path in folder.iterdir())
        return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in found)
    return ()
