"""Rows on the local disk for as long as the database is away: one file a process, in a folder, added to at its end.

A line is a checksum (CRC-32, hexadecimal), a space, and JSON; the first one names the columns, each other is a row.
Rows count as spooled once they are synced to the disk, one sync for all that came together. So a line that was torn by
a crash is of a request whose answer never went out whole: it is left out. A line that was damaged later is skipped and
told, and its file is kept beside the others as *.damaged.

A file is locked by the process that writes it. What a dead process left is taken over by the next one that opens the
folder. Replaying is told twice without harm, as `Store.write` is: a file is replayed from its beginning after a crash.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import json
import logging
import os
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from router.errors import StoreUnavailable
from router.ledger.rows import NAMES, Row

LARGEST_BYTES = 1_000_000_000
"""About a million rows."""
READ_BYTES = 1 << 17
"""Read at a time: some 200 rows, which one statement writes without keeping the event loop for long."""

T = TypeVar("T")
log = logging.getLogger("farthing.ledger")


@dataclass(slots=True)
class SpoolFile:
    """One open and locked file."""

    path: Path
    descriptor: int
    end: int = 0
    """Where the next line goes: behind the last one that is whole."""
    read_to: int = 0
    """Up to here the rows are in the store."""
    rows: int = 0
    """How many rows are behind `read_to`, as far as lines are rows."""
    columns: tuple[str, ...] = NAMES
    damaged: bool = False

    @property
    def waits(self) -> bool:
        """Whether there is anything in it that is not in the store."""
        return self.read_to < self.end


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some of the oldest rows of a file, in order, the latest of each id only."""

    file: SpoolFile
    rows: tuple[Row, ...]
    lines: int
    end: int
    columns: tuple[str, ...]
    damaged: bool


@dataclass(slots=True)
class Spool:
    """A folder of such files, seen from one process: its own, and what dead processes left.

    Raises on making:
        StoreUnavailable: the folder can't be made or written.
    """

    folder: Path
    instance: str
    largest_bytes: int = LARGEST_BYTES
    _own: SpoolFile | None = None
    _left: list[SpoolFile] = field(default_factory=list)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Between adding at the end of a file and emptying it."""
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "ledger-spool"))

    def __post_init__(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._own = self._made()
            self._left = [file for path in sorted(self.folder.glob("*.jsonl")) if (file := _taken_over(path))]
        except OSError as error:
            raise StoreUnavailable(
                f"The ledger's spool {self.folder} can't be written: {error.strerror}. Set FARTHING_SPOOL to a folder "
                "that can, or FARTHING_LEDGER_ON_OUTAGE=closed."
            ) from error

    @property
    def waiting_rows(self) -> int:
        return sum(max(file.rows, 1) for file in self._files() if file.waits)

    @property
    def own_waits(self) -> bool:
        """Whether rows of this process wait, which rows to come must not overtake."""
        return self._own is not None and self._own.waits

    def any_wait(self) -> bool:
        """Say whether rows of any process wait in the folder: ours, those of the dead, and of those that run beside us.

        Looks at the folder, from any thread.
        """
        for path in self.folder.glob("*.jsonl"):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_size:
                    return True
        return False

    @property
    def full(self) -> bool:
        """Whether no new work should be taken on. What is under way still finds room, as far as the disk has any."""
        return sum(file.end for file in self._files()) >= self.largest_bytes

    async def append(self, rows: Sequence[Row]) -> None:
        """Add rows; they survive a crash and a power cut once this returns.

        Raises:
            OSError: the disk is full or fails; none of the rows counts as spooled.
        """
        assert self._own is not None
        own = self._own
        async with self._turn:
            own.end += await self._apart(lambda: self._append(own, rows))
            own.rows += len(rows)

    async def oldest(self) -> Chunk | None:
        """Return rows that come next, None where none wait.

        Raises:
            OSError: the disk fails.
        """
        file = next((file for file in self._files() if file.waits), None)
        return None if file is None else await self._apart(lambda: _chunk(file))

    async def forget(self, chunk: Chunk) -> None:
        """Say that a chunk is in the store. A file of which nothing is left is emptied."""
        file = chunk.file
        async with self._turn:
            file.read_to, file.columns, file.damaged = chunk.end, chunk.columns, chunk.damaged
            file.rows -= chunk.lines
            if file.waits:
                return
            if file.damaged:
                await self._apart(lambda: _keep_copy(file))
            if file is self._own:
                await self._apart(lambda: os.ftruncate(file.descriptor, 0))
                file.end = file.read_to = file.rows = 0
                file.damaged = False
            else:
                self._left.remove(file)
                _discard(file)

    def close(self) -> None:
        """Let the files go; empty ones are deleted, others wait for the next process."""
        self._thread.shutdown()
        for file in self._files():
            if file.waits:
                os.close(file.descriptor)
            else:
                _discard(file)
        self._own, self._left = None, []

    def _files(self) -> list[SpoolFile]:
        return [*self._left, self._own] if self._own else self._left

    def _made(self) -> SpoolFile:
        """Make and lock a file under a name that no file bears."""
        for number in itertools.count():
            path = self.folder / f"{self.instance.replace('/', '_')}-{number}.jsonl"
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            except FileExistsError:
                continue
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:
                break
            # Before it was locked, another process that started took it for an empty one that was left.
            os.close(descriptor)
        _sync_folder(self.folder)
        return SpoolFile(path, descriptor)

    def _append(self, own: SpoolFile, rows: Sequence[Row]) -> int:
        """Write lines at the end of our file, in a new one where it was removed: there they would go to nowhere."""
        if not _is_in_place(own):
            self.folder.mkdir(parents=True, exist_ok=True)
            anew = self._made()
            _copy(own, anew)
            os.close(own.descriptor)
            log.error("The spool %s was removed or replaced; its %d rows are now in %s.", own.path, own.rows, anew.path)
            own.path, own.descriptor = anew.path, anew.descriptor
        return _append(own, rows)

    async def _apart(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def rows_waiting_in(folder: Path) -> int:
    """Return how many rows wait in a folder at most, without taking any; 0 where there is no such folder.

    What a running process has replayed of a file already still counts, until the whole of it is.
    """
    lines = 0
    for path in folder.glob("*.jsonl"):
        with contextlib.suppress(OSError), path.open("rb") as file:
            lines += max(0, sum(1 for line in file if line.endswith(b"\n")) - 1)
    return lines


def _append(file: SpoolFile, rows: Sequence[Row]) -> int:
    """Write and sync lines at the end of a file, over what a failed try may have left there; return their length."""
    lines = [] if file.end else [_line({"farthing_spool": 1, "columns": NAMES})]
    if file.end and os.pread(file.descriptor, 1, file.end - 1) != b"\n":
        # It was cut short by somebody else; rows must not be part of the line that this broke.
        lines.append(b"\n")
    data = b"".join([*lines, *map(_line, rows)])
    os.ftruncate(file.descriptor, file.end)
    written = 0
    while written < len(data):
        written += os.pwrite(file.descriptor, data[written:], file.end + written)
    os.fdatasync(file.descriptor)
    return written


def _is_in_place(file: SpoolFile) -> bool:
    try:
        found = file.path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(file.descriptor))


def _copy(file: SpoolFile, to: SpoolFile) -> None:
    """Write and sync all that was spooled at the same places of another file; that one goes where it fails."""
    try:
        at = 0
        while data := os.pread(file.descriptor, min(READ_BYTES, file.end - at), at):
            at += os.pwrite(to.descriptor, data, at)
        os.fdatasync(to.descriptor)
    except OSError:
        _discard(to)
        raise


def _chunk(file: SpoolFile) -> Chunk:
    """Read whole lines from where the last chunk ended."""
    size = READ_BYTES
    while True:
        data = os.pread(file.descriptor, min(size, file.end - file.read_to), file.read_to)
        whole = data.rfind(b"\n") + 1
        if whole or len(data) < size:
            break
        size *= 2
    columns, damaged, lines, rows = file.columns, file.damaged, 0, dict[str, Row]()
    for line in data[:whole].split(b"\n")[:-1]:
        match _parsed(line):
            case {"columns": list(names)}:
                columns = tuple(names)
            case list(values) if len(values) == len(columns):
                lines += 1
                named = dict(zip(columns, values, strict=True))
                rows[named["id"]] = tuple(named.get(name) for name in NAMES)
            case _:
                lines += 1
                damaged = True
                log.critical("A line of the spool %s is damaged and was skipped; the file is kept.", file.path)
    end = file.read_to + whole
    if not whole:
        end, damaged = file.end, True
        log.critical("The spool %s is damaged: it was cut short, and rows that waited in it are lost.", file.path)
    return Chunk(file, tuple(rows.values()), lines, end, columns, damaged)


def _line(content: object) -> bytes:
    text = json.dumps(content, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _parsed(line: bytes) -> object:
    """Return a line's content, None where it is not what was written."""
    checksum, _, text = line.partition(b" ")
    try:
        return json.loads(text) if int(checksum, 16) == zlib.crc32(text) else None
    except ValueError:
        return None


def _taken_over(path: Path) -> SpoolFile | None:
    """Open what a dead process left; None where its process lives, or where there is nothing in it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink == 0:
            os.close(descriptor)
            return None
    except BlockingIOError:
        os.close(descriptor)
        return None
    file = SpoolFile(path, descriptor)
    while data := os.pread(descriptor, READ_BYTES, file.read_to):
        file.read_to += len(data)
        file.rows += data.count(b"\n")
        if (newline := data.rfind(b"\n")) >= 0:
            file.end = file.read_to - len(data) + newline + 1
    file.read_to = 0
    file.rows = max(0, file.rows - 1)
    if file.rows == 0:
        _discard(file)
        return None
    log.warning("The spool %s was left by a process that ended: %d rows wait to be replayed.", path, file.rows)
    return file


def _keep_copy(file: SpoolFile) -> None:
    copy = file.path.with_suffix(".damaged")
    with copy.open("ab") as kept:
        at = 0
        while data := os.pread(file.descriptor, READ_BYTES, at):
            kept.write(data)
            at += len(data)


def _discard(file: SpoolFile) -> None:
    file.path.unlink(missing_ok=True)
    os.close(file.descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
