"""A ledger is brought up at start: from nothing, from an older one, by many at once; a newer one is refused."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest
from proxy import ServeProcess

from ledger.outcomes import answered
from ledger.server import PostgresServer, asyncio_run
from router.errors import LedgerUnavailable
from router.ledger.open import open_store
from router.ledger.rows import COLUMNS, NAMES, row_of
from router.ledger.schema import NEWEST, SchemaTooNew, pending

ROOT = Path(__file__).parents[2]
OPEN = """
import asyncio, sys
from router.ledger.open import open_store
sys.stdin.readline()
async def run():
    store = open_store(sys.argv[1])
    await store.open()
    store.close()
asyncio.run(run())
"""
FIRST = [name for name, _, version in COLUMNS if version == 1]


def execute(url: str, *statements: str) -> None:
    """Run statements on a ledger behind the store's back."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as connection:
            for statement in statements:
                connection.execute(statement)
        return

    async def run() -> None:
        connection = await asyncpg.connect(url)
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    asyncio_run(run())


def write(url: str, *ids: str) -> None:
    async def run() -> None:
        store = open_store(url)
        await store.write([row_of(answered(request_id, 5)) for request_id in ids])
        store.close()

    asyncio.run(run())


def versions(url: str) -> list[int]:
    store = open_store(url, read_only=True)
    return [row[0] for row in store.ask("SELECT version FROM farthing_schema ORDER BY version")]


def test_a_new_ledger_has_every_version_once(url: str) -> None:
    write(url, "a")
    write(url, "b")
    assert versions(url) == list(range(1, NEWEST + 1))


def test_a_ledger_of_before_there_were_versions_keeps_its_rows(url: str) -> None:
    create, index, *_ = pending(0)
    values = ", ".join("'x'" if kind.startswith("TEXT") else "0" for _, kind, version in COLUMNS if version == 1)
    execute(url, create, index, f"INSERT INTO requests ({', '.join(FIRST)}) VALUES ({values})")
    write(url, "new")
    store = open_store(url, read_only=True)
    rows = store.ask(f"SELECT {', '.join(NAMES)} FROM requests ORDER BY id")
    assert [row[0] for row in rows] == ["new", "x"]
    assert rows[1][len(FIRST) :] == (None,) * (len(NAMES) - len(FIRST))
    assert versions(url) == list(range(1, NEWEST + 1))


def test_labels_of_before_they_said_what_names_stood_for_are_kept(url: str) -> None:
    statements = list(pending(0, text='TEXT COLLATE "C"' if url.startswith("postgresql") else "TEXT"))
    last = next(at for at, statement in enumerate(statements) if "VALUES (3," in statement)
    table = "CREATE TABLE farthing_schema (version INTEGER PRIMARY KEY, at TEXT NOT NULL)"
    old = "task, seq, at, request_id, source, cheap, premium, gain, cost_usd, propensity, look"
    label = (
        f"INSERT INTO labels ({old}) VALUES ('t', 1, 'x', 'a', 'shadow', 'cheap', 'premium', 0.5, 0.1, 0.05, '{{}}')"
    )
    execute(url, table, *statements[: last + 1], label)
    write(url, "new")
    [row] = open_store(url, read_only=True).labels("t", 0, 10)
    assert (row.gain, row.cheap_targets, row.premium_targets) == (0.5, None, None)
    # A proxy of the version before goes on writing beside a newer one.
    execute(url, label.replace("'t', 1", "'t', 2"))
    assert [row.seq for row in open_store(url, read_only=True).labels("t", 0, 10)] == [1, 2]
    assert versions(url) == list(range(1, NEWEST + 1))


def test_a_newer_ledger_is_refused_and_left_as_it_is(url: str) -> None:
    write(url, "a")
    execute(url, f"INSERT INTO farthing_schema VALUES ({NEWEST + 1}, 'later')")
    with pytest.raises(SchemaTooNew, match=f"version {NEWEST + 1} and this Farthing knows {NEWEST} at most"):
        write(url, "b")
    assert versions(url) == list(range(1, NEWEST + 2))
    assert open_store(url, read_only=True).spend((), None)[0].requests == 1


def test_a_command_says_what_to_do_about_an_older_ledger(url: str) -> None:
    statements = list(pending(0, text='TEXT COLLATE "C"' if url.startswith("postgresql") else "TEXT"))
    first = next(at for at, statement in enumerate(statements) if "VALUES (1," in statement)
    table = "CREATE TABLE farthing_schema (version INTEGER PRIMARY KEY, at TEXT NOT NULL)"
    execute(url, table, *statements[: first + 1])
    with pytest.raises(LedgerUnavailable) as raised:
        open_store(url, read_only=True).held()
    said = f"its schema is of version 1, and this Farthing reads version {NEWEST}: start this version's"
    assert said in raised.value.message
    write(url, "new")
    assert open_store(url, read_only=True).held() == []


def test_a_database_that_holds_no_ledger_is_told_as_such(url: str) -> None:
    execute(url, "CREATE TABLE something (id TEXT)")
    with pytest.raises(
        LedgerUnavailable, match=r"it is no ledger yet, or one of before .* `farthing serve` on it once"
    ):
        open_store(url, read_only=True).spend((), None)


def test_a_newer_ledger_that_lacks_what_is_asked_for_is_told_as_such(url: str) -> None:
    write(url, "a")
    execute(url, f"INSERT INTO farthing_schema VALUES ({NEWEST + 1}, 'later')", "ALTER TABLE requests RENAME TO later")
    with pytest.raises(LedgerUnavailable, match=f"of version {NEWEST + 1} .* use the newer Farthing"):
        open_store(url, read_only=True).spend((), None)


def test_a_proxy_does_not_start_on_a_newer_ledger(url: str, tmp_path: Path) -> None:
    write(url, "a")
    execute(url, f"INSERT INTO farthing_schema VALUES ({NEWEST + 1}, 'later')")
    options = ["--ledger-url", url, "--spool", str(tmp_path / "spool")]
    with ServeProcess(tmp_path, POLICIES, *options) as process, pytest.raises(RuntimeError, match="the newer Farthing"):
        process.ready()


POLICIES = {
    "models": "models:\n  cheap: {target: openai/gpt-4.1-nano}\n",
    "default": "task: default\nroute: [{use: cheap}]\n",
}


def test_a_proxy_whose_ledger_became_newer_goes_on_writing(postgres: PostgresServer) -> None:
    """Replicas are replaced one by one; an older one may lose its connection meanwhile."""
    url = postgres.new_database()

    async def run() -> int:
        store = open_store(url)
        await store.write([row_of(answered("a", 1))])
        await asyncio.to_thread(execute, url, f"INSERT INTO farthing_schema VALUES ({NEWEST + 1}, 'later')")
        await asyncio.to_thread(
            postgres.execute, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        )
        written = await store.write([row_of(answered("b", 1))])
        store.close()
        return written

    assert asyncio.run(run()) == 1


def test_many_replicas_bring_one_ledger_up_at_once(url: str) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, url], stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, text=True
        )
        for _ in range(8)
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    errors = [child.communicate(timeout=60)[1] for child in children]
    assert [child.returncode for child in children] == [0] * 8, "".join(errors)
    assert versions(url) == list(range(1, NEWEST + 1))
