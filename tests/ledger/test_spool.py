"""The spool: what is in it after a crash, and what is not."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import zlib
from contextlib import closing
from pathlib import Path

import pytest
from cli.conftest import farthing  # noqa: F401  a fixture
from cli.running import Run

from ledger.outcomes import answered, held
from router.errors import StoreUnavailable
from router.ledger.open import open_store
from router.ledger.rows import NAMES, Row, row_of
from router.ledger.spool import READ_BYTES, Spool, rows_waiting_in

ROOT = Path(__file__).parents[2]
APPENDS = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, "tests")
from ledger.outcomes import answered
from router.ledger.rows import row_of
from router.ledger.spool import READ_BYTES, Spool
async def run():
    spool = Spool(Path(sys.argv[1]), "here/1/2")
    number = 0
    while True:
        rows = [row_of(answered(f"{number + more:06}", 1)) for more in range(50)]
        await spool.append(rows)
        number += 50
        print(number, flush=True)
asyncio.run(run())
"""


def rows(*numbers: int) -> list[Row]:
    return [row_of(answered(f"{number:06}", number)) for number in numbers]


async def drained(spool: Spool) -> list[Row]:
    found: list[Row] = []
    while chunk := await spool.oldest():
        found += chunk.rows
        await spool.forget(chunk)
    return found


def reopened(folder: Path) -> list[Row]:
    """Return what a process that starts now finds."""

    async def run() -> list[Row]:
        spool = Spool(folder, "here/9/9")
        found = await drained(spool)
        spool.close()
        return found

    return asyncio.run(run())


def spooled(folder: Path, *batches: list[Row], instance: str = "here/1/2") -> None:
    """Leave a spool as a process leaves it that ends while the store is away."""

    async def run() -> None:
        spool = Spool(folder, instance)
        for batch in batches:
            await spool.append(batch)
        spool.close()

    asyncio.run(run())


def line(content: object) -> bytes:
    text = json.dumps(content).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def only_file(folder: Path) -> Path:
    (path,) = folder.glob("*.jsonl")
    return path


def only_file_size(folder: Path, some: list[Row]) -> int:
    spooled(folder, some)
    return only_file(folder).stat().st_size


def test_rows_come_back_in_order_and_as_they_were(tmp_path: Path) -> None:
    strange = row_of(answered("000004", 2**60, task="é\n\u2028 \x01", facts={"a": ['"', "\\"]}))
    spooled(tmp_path, rows(1, 2), [*rows(3), strange])
    assert reopened(tmp_path) == [*rows(1, 2, 3), strange]
    assert list(tmp_path.iterdir()) == []


def test_a_row_that_is_longer_than_what_is_read_at_a_time_comes_back_whole(tmp_path: Path) -> None:
    long = row_of(answered("000003", 1, facts={"a": "x" * 3 * READ_BYTES}))
    spooled(tmp_path, rows(1, 2), [long], rows(4))
    again = Spool(tmp_path, "here/1/3")
    assert again.waiting_rows == 4, "and the line that names the columns is none"
    again.close()
    assert reopened(tmp_path) == [*rows(1, 2), long, *rows(4)]


@pytest.mark.parametrize("how", ["the folder is removed", "the file is removed", "the folder is moved"])
def test_a_spool_that_is_removed_under_its_process_is_made_anew_with_all_that_waits(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder, crashed = tmp_path / "not" / "there", tmp_path / "crashed"

    async def run() -> list[Row]:
        spool = Spool(folder, "here/1/2")
        await spool.append(rows(1, 2))
        chunk = await spool.oldest()
        assert chunk is not None
        await spool.append(rows(3))
        if how == "the file is removed":
            only_file(folder).unlink()
        elif how == "the folder is removed":
            shutil.rmtree(folder.parent)
        else:
            folder.rename(tmp_path / "elsewhere")
        await spool.append(rows(4))
        shutil.copytree(folder, crashed)
        await spool.forget(chunk)
        found = await drained(spool)
        spool.close()
        return found

    assert asyncio.run(run()) == rows(3, 4)
    assert "was removed or replaced; its 3 rows are now in" in caplog.text
    assert reopened(crashed) == rows(1, 2, 3, 4), "what a crash leaves"
    assert list(crashed.iterdir()) == [], "and nothing of it is damaged"
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("goes_on", [False, True])
@pytest.mark.parametrize("kept_lines", [0, 1, 1.5, 2, 3.5])
def test_a_spool_that_is_cut_short_under_its_process_loses_only_what_was_cut(
    tmp_path: Path, kept_lines: float, goes_on: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> list[Row]:
        spool = Spool(tmp_path, "here/1/2")
        await spool.append(rows(1, 2, 3))
        path = only_file(tmp_path)
        lines = path.read_bytes().splitlines(keepends=True)
        whole = int(kept_lines)
        os.truncate(path, len(b"".join(lines[:whole])) + (len(lines[whole]) // 2 if kept_lines > whole else 0))
        if goes_on:
            await spool.append(rows(4))
        found = await drained(spool)
        spool.close()
        return found

    kept = rows(*range(1, max(1, int(kept_lines))))
    assert asyncio.run(run()) == [*kept, *(rows(4) if goes_on else [])]
    assert "is damaged" in caplog.text


def test_spend_says_how_many_rows_wait_and_are_not_counted(farthing: Run, tmp_path: Path) -> None:  # noqa: F811
    asyncio.run(_written(tmp_path / "ledger.db", rows(9)))
    asked = ("spend", "--ledger-url", f"sqlite:///{tmp_path}/ledger.db", "--spool", tmp_path / "spool")
    assert farthing(*asked, "--json").json["spooled_rows"] == 0, "there is no such folder"
    assert "Not counted" not in farthing(*asked).out
    spooled(tmp_path / "spool", rows(1, 2), rows(3))
    spooled(tmp_path / "spool", rows(4), instance="here/3/4")
    before = [path.read_bytes() for path in (tmp_path / "spool").iterdir()]
    report = farthing(*asked, "--json").json
    assert (report["requests"], report["spooled_rows"]) == (1, 4)
    assert f"up to 4 rows that wait in {tmp_path / 'spool'}" in " ".join(farthing(*asked).out.split())
    assert [path.read_bytes() for path in (tmp_path / "spool").iterdir()] == before


async def _written(path: Path, some: list[Row]) -> None:
    with closing(open_store(f"sqlite:///{path}")) as store:
        await store.write(some)


def test_the_settled_row_follows_the_held_one(tmp_path: Path) -> None:
    spooled(tmp_path, [row_of(held("a", 9))], [row_of(answered("a", 3))])
    assert [row[NAMES.index("charged_nusd")] for row in reopened(tmp_path)] == [3]


def test_many_rows_come_in_chunks_and_none_twice(tmp_path: Path) -> None:
    spooled(tmp_path, *(rows(*range(start, start + 100)) for start in range(0, 5_000, 100)))
    assert [row[0] for row in reopened(tmp_path)] == [f"{number:06}" for number in range(5_000)]


def test_rows_may_be_added_while_others_are_replayed(tmp_path: Path) -> None:
    async def run() -> list[Row]:
        spool = Spool(tmp_path, "here/1/2")
        found = []
        await spool.append(rows(1))
        assert (spool.waiting_rows, spool.own_waits) == (1, True)
        await spool.append(rows(2))
        chunk = await spool.oldest()
        assert chunk is not None
        await asyncio.gather(spool.forget(chunk), spool.append(rows(3)), spool.append(rows(4)))
        found += [*chunk.rows, *await drained(spool)]
        assert (spool.waiting_rows, spool.own_waits) == (0, False)
        await spool.append(rows(5))
        found += await drained(spool)
        spool.close()
        return found

    assert asyncio.run(run()) == rows(1, 2, 3, 4, 5)
    assert list(tmp_path.iterdir()) == []


def test_what_is_replayed_is_gone_from_the_disk_while_the_process_lives(tmp_path: Path) -> None:
    spooled(tmp_path, rows(1, 2))

    async def run() -> None:
        spool = Spool(tmp_path, "here/3/4")
        await spool.append(rows(3))
        assert rows_waiting_in(tmp_path) == 3
        assert await drained(spool) == rows(1, 2, 3)
        assert rows_waiting_in(tmp_path) == 0
        assert [(path.stat().st_size, path.stat().st_mode & 0o777) for path in tmp_path.iterdir()] == [(0, 0o600)]
        await spool.append(rows(4))
        spool.close()

    asyncio.run(run())
    assert reopened(tmp_path) == rows(4), "what comes after begins a file anew"


def test_what_was_replayed_before_a_crash_is_replayed_again(tmp_path: Path) -> None:
    async def run() -> None:
        spool = Spool(tmp_path, "here/1/2")
        for start in range(0, 9_000, 100):
            await spool.append(rows(*range(start, start + 100)))
        chunk = await spool.oldest()
        assert chunk is not None
        await spool.forget(chunk)
        assert 0 < spool.waiting_rows == 9_000 - len(chunk.rows)
        spool.close()

    asyncio.run(run())
    assert len(reopened(tmp_path)) == 9_000


@pytest.mark.parametrize("cut", [1, 2, 9, 10, 100])
def test_a_line_that_a_crash_tore_is_left_out(tmp_path: Path, cut: int) -> None:
    spooled(tmp_path, rows(1, 2, 3))
    path = only_file(tmp_path)
    os.truncate(path, path.stat().st_size - cut)
    assert rows_waiting_in(tmp_path) == 2
    assert reopened(tmp_path) == rows(1, 2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", range(3))
def test_a_damaged_line_is_skipped_and_its_file_kept(
    tmp_path: Path, where: int, caplog: pytest.LogCaptureFixture
) -> None:
    spooled(tmp_path, rows(0, 1, 2))
    path = only_file(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[where + 1] = lines[where + 1].replace(b"support", b"suppOrt")
    path.write_bytes(b"".join(lines))
    with caplog.at_level(logging.CRITICAL):
        assert reopened(tmp_path) == [row for number, row in enumerate(rows(0, 1, 2)) if number != where]
    assert "is damaged" in caplog.text
    (kept,) = tmp_path.iterdir()
    assert kept.suffix == ".damaged"
    assert kept.read_bytes() == b"".join(lines)


@pytest.mark.parametrize("content", [b"", b"\n", b"garbage", b"garbage\nmore\n", b"\x00" * 100 + b"\n"])
def test_nonsense_in_the_folder_stops_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "nonsense.jsonl").write_bytes(content)
    assert reopened(tmp_path) == []
    assert reopened(tmp_path) == []


def test_rows_of_an_older_farthing_have_null_in_new_columns(tmp_path: Path) -> None:
    spooled(tmp_path, rows(1))
    path = only_file(tmp_path)
    old = [line({"farthing_spool": 1, "columns": NAMES[:-4]}), line(rows(1)[0][:-4])]
    path.write_bytes(b"".join(old))
    assert reopened(tmp_path) == [(*rows(1)[0][:-4], None, None, None, None)]


def test_a_file_of_a_process_that_lives_is_left_alone(tmp_path: Path) -> None:
    async def run() -> None:
        first = Spool(tmp_path, "here/1/2")
        await first.append(rows(1))
        second = Spool(tmp_path, "here/1/2")
        assert await drained(second) == []
        second.close()
        assert await drained(first) == rows(1)
        first.close()

    asyncio.run(run())


def test_a_full_spool_says_so_and_still_takes_what_is_under_way(tmp_path: Path) -> None:
    one_byte_more = 1 + only_file_size(tmp_path / "like it", rows(*range(10)))

    async def run() -> None:
        roomy = Spool(tmp_path / "roomy", "here/1/2", largest_bytes=one_byte_more)
        await roomy.append(rows(*range(10)))
        assert not roomy.full
        roomy.close()
        spool = Spool(tmp_path, "here/1/2", largest_bytes=one_byte_more - 1)
        assert not spool.full
        await spool.append(rows(*range(10)))
        assert spool.full
        await spool.append(rows(*range(10, 20)))
        assert await drained(spool) == rows(*range(20))
        assert not spool.full
        spool.close()

    asyncio.run(run())


def test_a_disk_that_is_full_loses_no_row_that_counts(tmp_path: Path) -> None:
    """A limit on the size of files is what a full disk looks like to a process."""
    code = APPENDS.replace(
        "        await spool.append(rows)\n",
        "        try:\n            await spool.append(rows)\n        except OSError:\n"
        "            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)\n"
        "            await spool.append(rows[:1])\n            print(number + 1, flush=True)\n            return\n",
    ).replace(
        "import asyncio, sys\n",
        "import asyncio, sys, resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))\n",
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    )
    last = int(done.stdout.splitlines()[-1])
    assert [row[0] for row in reopened(tmp_path)] == [f"{number:06}" for number in range(last)]


def test_a_folder_that_cannot_be_made_says_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="Set FARTHING_SPOOL"):
        Spool(tmp_path / "file" / "spool", "here/1/2")


def test_after_kill_9_in_the_middle_all_that_was_told_is_there(tmp_path: Path) -> None:
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        child = subprocess.Popen([sys.executable, "-c", APPENDS, folder], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        for _ in range(20 + 7 * attempt):
            told = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        told = max([told, *map(int, child.stdout.read().split("\n")[:-1])])
        child.wait()
        child.stdout.close()
        found = [row[0] for row in reopened(folder)]
        assert found == [f"{number:06}" for number in range(len(found))]
        assert len(found) >= told
        print(f"killed after {told} rows were told; {len(found)} were there")


def test_processes_that_start_at_once_take_no_file_from_each_other(tmp_path: Path) -> None:
    children = [
        subprocess.Popen([sys.executable, "-c", APPENDS, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    told = 0
    for child in children:
        assert child.stdout is not None
        child.stdout.readline()
    for child in children:
        child.send_signal(signal.SIGKILL)
        assert child.stdout is not None
        told += max([50, *map(int, child.stdout.read().split("\n")[:-1])])
        child.wait()
        child.stdout.close()
    assert len(reopened(tmp_path)) >= told
