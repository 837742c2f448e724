"""The policies in force, read again whenever their folder changes; a broken edit leaves the last good set running."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from watchfiles import awatch

from router.errors import NotAdmitted, PolicyFaults
from router.policy.policy import PolicySet, Rule
from router.policy.reading.load import Loaded

DEBOUNCE_MS = 100
QUIET_S = 0.15
"""A burst of changes (a checkout, an editor's temporary files) is read once, when it has been quiet for so long."""
SETTLED_WITHIN_S = 0.7
"""A folder that never is quiet is read all the same, so that an edit is in force within 2 s."""

LOOK_EVERY_MS = 1_000
"""Edits that no event tells of are found by looking: those before the watch began, those on some file systems, and
those behind a symbolic link that was swapped."""

REVISIONS_KEPT = 20
"""How many replaced revisions the reasons of old requests can be told of; a rule takes about 1 kB."""

State = tuple[tuple[str, int, int, int], ...]
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
        *,
        stays_shut: bool = False,
    ) -> None:
        """`load` reads the folder; `admit` completes a set or raises PolicyFaults; `told` hears each result.

        `stays_shut` says that accounts were in force already, in another worker.
        """
        self._path = path
        self._load = load
        self._admit = admit
        self._told = told
        self._clock = clock
        self._stays_shut = stays_shut
        self._current: PolicySet | None = None
        self._replaced: dict[str, dict[str, tuple[Rule, ...]]] = {}
        """The rules of the last revisions, by revision and task, oldest first."""
        self._since_s = 0.0
        self._seen: State = ()
        self._put_off: State = ()
        """The edit that waits for something that is away, and is tried again."""
        self._rejections = 0
        """How many edits were rejected or put off so far; one that is put off again and again counts once."""
        self._faults: tuple[str, ...] = ()
        self._rejected_s: float | None = None
        """When the last edit was rejected; None where it is in force."""

    def current(self) -> PolicySet:
        """Return the set in force; `read` has succeeded once before anyone asks."""
        assert self._current is not None
        return self._current

    def read(self) -> PolicySet:
        """Read the folder and put it in force.

        Raises:
            PolicyFaults: it is not valid; what was in force stays so.
        """
        # Not noted before it is known what it holds: an edit whose reading fails halfway is read again.
        seen = _state(self._path)
        loaded = self._load(self._path)
        try:
            checked = loaded.checked()
            self._stay_shut(checked)
            policies = self._admit(checked)
        except PolicyFaults as error:
            self._reject(error, seen)
            raise
        self._seen, self._put_off = seen, ()
        self._faults = tuple(map(str, loaded.faults))
        self._rejected_s = None
        if self._current is None or self._current.revision != policies.revision:
            self._since_s = self._clock()
            self._keep(self._current)
        self._current = policies
        self._told(policies.revision)
        return policies

    def _reject(self, error: PolicyFaults, seen: State) -> None:
        """Note that an edit is not in force. One that is only put off is not noted as seen, and is told once."""
        if isinstance(error, NotAdmitted):
            if seen == self._put_off:
                return
            self._put_off = seen
        else:
            self._seen = seen
        self._rejections += 1
        self._faults = error.faults
        self._rejected_s = self._clock()
        self._told(None)

    def _stay_shut(self, policies: PolicySet) -> None:
        """Refuse a set that would open a proxy which has accounts: more likely their file was lost than that is meant.

        Raises:
            PolicyFaults: it has no accounts, and what is or was in force has.
        """
        had_some = self._stays_shut or (self._current is not None and bool(self._current.accounts))
        if policies.accounts or not had_some:
            return
        message = (
            "error: no accounts are left, so that anyone on this machine could call without a key; those in force "
            "stay. Put them back, or start the proxy again to have it open"
        )
        raise PolicyFaults((f"{self._path / 'accounts.yaml'}:1:1: {message}",))

    def rules(self, revision: str, task: str) -> tuple[Rule, ...] | None:
        """Return the rules of a task at a revision, none where there was no such task; None where it is not known.

        The revision in force and the last that this process replaced are known.
        """
        current = self.current()
        if revision == current.revision:
            policy = current.policies.get(task)
            return policy.rules if policy else ()
        replaced = self._replaced.get(revision)
        return None if replaced is None else replaced.get(task, ())

    def _keep(self, replaced: PolicySet | None) -> None:
        if replaced is None:
            return
        self._replaced.pop(replaced.revision, None)
        self._replaced[replaced.revision] = {task: policy.rules for task, policy in replaced.policies.items()}
        if len(self._replaced) > REVISIONS_KEPT:
            del self._replaced[next(iter(self._replaced))]

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
            await self._settled()
            rejections = self._rejections
            before = self.current().revision if self._rejected_s is None else None
            try:
                policies = await asyncio.to_thread(self.read)
            except PolicyFaults as error:
                if self._rejections > rejections:
                    for cause in error.causes:
                        log.error("Policy edit rejected: %s", cause)
                continue
            if policies.revision != before:
                log.info("Policies %s are in force.", policies.revision)
            changed(policies)

    async def _settled(self) -> None:
        """Wait until the folder is quiet, so that what is half written is not read; not for long where it never is."""
        deadline = time.monotonic() + SETTLED_WITHIN_S
        state = await asyncio.to_thread(_state, self._path)
        while time.monotonic() < deadline:
            await asyncio.sleep(QUIET_S)
            before, state = state, await asyncio.to_thread(_state, self._path)
            if before == state:
                return

    def described(self) -> dict[str, Any]:
        """Say what is in force, since when, and what is wrong with the last edit."""
        policies = self.current()
        return {
            "revision": policies.revision,
            "since": _iso(self._since_s),
            "rejected_at": None if self._rejected_s is None else _iso(self._rejected_s),
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
            "accounts": sorted(policies.accounts),
            "faults": list(self._faults),
        }


def _iso(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat()


def _state(folder: Path) -> State:
    """Return what changes when a file of the folder does: names, and what they lead to; empty where there is none."""
    found = []
    with suppress(OSError):
        for path in sorted(folder.iterdir()):
            # A temporary file may be gone by the time that it is looked at.
            with suppress(OSError):
                stat = path.stat()
                found.append((path.name, stat.st_ino, stat.st_mtime_ns, stat.st_size))
    return tuple(found)
