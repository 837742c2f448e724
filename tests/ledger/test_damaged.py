"""A ledger's file into which something else was written, as by a failing disk or a wrong `dd`."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from anyio import run
from proxy import Proxy, eventually, running_provider, running_proxy

from ledger.outcomes import answered
from router.errors import LedgerUnavailable
from router.ledger.rows import row_of
from router.ledger.sqlite import SqliteStore

ADMIN = {"authorization": "Bearer fk-admin"}
PAGE = 4096
KINDS = {"zeros": bytes(PAGE), "garbage": random.Random(1).randbytes(PAGE)}
TOLD = "The ledger can't be reached now (its file is damaged); the proxy's log says more."


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger of 4,000 rows that nobody has open, more than SQLite keeps in memory."""
    path = tmp_path_factory.mktemp("whole") / "ledger.db"
    store = SqliteStore(path)
    run(
        store.write,
        [row_of(answered(f"{random.Random(number).getrandbits(64):016x}", number)) for number in range(4000)],
    )
    store.close()
    return path


@pytest.fixture
def ledger(whole: Path, tmp_path: Path) -> Path:
    return shutil.copy(whole, tmp_path / "ledger.db")


def write_over(ledger: Path, data: bytes, *pages: int) -> None:
    with ledger.open("r+b") as file:
        for page in pages:
            file.seek(page * PAGE)
            file.write(data)


def middle(ledger: Path) -> range:
    return range(pages(ledger) // 4, 3 * pages(ledger) // 4)


def pages(ledger: Path) -> int:
    return ledger.stat().st_size // PAGE


@contextmanager
def serving(ledger: Path, on_outage: str) -> Iterator[Proxy]:
    settings = {"admin_key": "fk-admin", "ledger_on_outage": on_outage, "spool": ledger.parent / "spool"}
    with running_provider() as provider:
        policies = {
            "models": f"models:\n  cheap: {{target: openai/gpt-4o-mini, base_url: '{provider.base_url}'}}\n",
            "default": "task: default\nroute: [{use: cheap}]\n",
        }
        with running_proxy(ledger.parent, policies, settings=settings) as running:
            yield running


@pytest.mark.parametrize("data", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("where", ["header", "middle"])
def test_a_start_finds_the_damage_and_says_what_to_do(ledger: Path, where: str, data: bytes) -> None:
    SqliteStore(ledger).close()
    write_over(ledger, data, 0 if where == "header" else pages(ledger) // 2)
    with pytest.raises(LedgerUnavailable, match=r"ledger\.db is damaged: .*move ledger\.db, ledger\.db-wal") as raised:
        SqliteStore(ledger)
    assert raised.value.told == TOLD


def test_a_large_file_is_not_checked_at_a_start_and_who_meets_the_damage_tells(ledger: Path) -> None:
    write_over(ledger, KINDS["zeros"], *middle(ledger))
    store = SqliteStore(ledger, largest_checked_bytes=pages(ledger) * PAGE - 1)
    assert store.damage is None
    with pytest.raises(LedgerUnavailable, match="is damaged: database disk image is malformed"):
        store.ask("SELECT sum(length(facts)) FROM requests")
    assert store.damage is not None
    store.close()


def test_damage_under_way_sends_rows_to_the_spool_and_the_next_ledger_has_them(ledger: Path) -> None:
    with serving(ledger, "spool") as proxy:
        assert len(proxy.rows()) == 4000
        write_over(ledger, KINDS["garbage"], *range(1, pages(ledger)))
        ids = [proxy.ask(max_tokens=3).headers["x-farthing-request-id"] for _ in range(20)]

        def degraded() -> str:
            return str(proxy.http.get("/health/ready").json().get("degraded", ""))

        assert TOLD in eventually(degraded, "health that tells of the damage")
        spooled = "".join(file.read_text() for file in (ledger.parent / "spool").glob("*.jsonl"))
        late = [each for each in ids if each in spooled]
    assert ids[-1] in late
    for file in ledger.parent.glob("ledger.db*"):
        file.rename(file.with_name(f"damaged-{file.name}"))
    with serving(ledger, "spool") as proxy:
        assert {row["id"]: row["outcome"] for row in proxy.rows()} == dict.fromkeys(late, "answered")


def test_damage_that_the_console_meets_turns_new_work_away(ledger: Path) -> None:
    with serving(ledger, "auto") as proxy:
        assert proxy.ask(max_tokens=3).status_code == 200
        assert len(proxy.rows()) == 4001
        write_over(ledger, KINDS["zeros"], *middle(ledger))
        assert proxy.http.get("/admin/spend", headers=ADMIN).json()["error"]["message"] == TOLD
        refused = proxy.ask(max_tokens=3)
        ready = proxy.http.get("/health/ready")
    assert (refused.status_code, ready.status_code) == (503, 503)
    assert refused.json()["error"]["message"] == ready.json()["reason"] == TOLD
