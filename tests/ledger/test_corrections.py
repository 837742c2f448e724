"""What a crash cut off stays charged at its ceiling, is listed, and is put right by a row that is added."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cli.conftest import farthing, process  # noqa: F401  fixtures
from cli.running import Ran, Run

from ledger.outcomes import answered, held
from router.ledger.contract import Store
from router.ledger.correction import orphans
from router.ledger.instance import is_gone, own_instance
from router.ledger.open import open_store
from router.ledger.rows import row_of
from router.values import Outcome

DAY_AGO = datetime.now(UTC) - timedelta(days=1)
Filled = Callable[..., str]


@pytest.fixture
def filled(url: str) -> Filled:
    """Write outcomes into the ledger in the name of a process, and return its URL."""

    def fill(*outcomes: Outcome, instance: str = "elsewhere/1/2") -> str:
        async def write() -> None:
            store = open_store(url)
            await store.write([row_of(outcome, instance) for outcome in outcomes])
            store.close()

        asyncio.run(write())
        return url

    return fill


def read(url: str) -> Store:
    return open_store(url, read_only=True)


def of_dead_process() -> str:
    """Return the name that a process had which has ended."""
    code = "from router.ledger.instance import own_instance; print(own_instance())"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    ).stdout.strip()


def test_a_process_that_runs_is_not_gone_and_one_that_ended_is() -> None:
    host, pid, start = own_instance().split("/")
    assert not is_gone(own_instance())
    assert is_gone(of_dead_process())
    assert is_gone(f"{host}/{os.getpid()}/1.{start.partition('.')[2]}"), "another process that had our number"
    assert not is_gone(f"elsewhere/{pid}/{start}"), "not to be judged from here"
    assert not is_gone(f"{host}/{pid}/{start}9"), "of another namespace of processes"
    assert not is_gone("nonsense")


def test_a_held_row_is_an_orphan_once_its_time_is_past_or_its_process_gone(filled: Filled) -> None:
    now = datetime.now(UTC)
    filled(held("a-late", 7, at=now - timedelta(seconds=901)), held("b-under-way", 7, at=now - timedelta(seconds=899)))
    filled(held("c-dead", 7, at=now), instance=of_dead_process())
    url = filled(held("d-here", 7, at=now), answered("e-done", 7, at=DAY_AGO), instance=own_instance())
    assert [entry.id for entry in orphans(read(url), now)] == ["a-late", "c-dead"]


def test_orphans_are_listed_with_what_they_hold(filled: Filled, farthing: Run) -> None:  # noqa: F811
    url = filled(held("a", 1_500_000, at=DAY_AGO), held("b", 500_000, at=DAY_AGO, task="code"))
    report = farthing("spend", "--orphans", "--json", "--ledger-url", url).json
    assert report["held_usd"] == 0.002
    assert [(row["id"], row["task"], row["model"], row["held_usd"]) for row in report["orphans"]] == [
        ("a", "support", "cheap", 0.0015),
        ("b", "code", "cheap", 0.0005),
    ]
    sums = farthing("spend", "--by", "task", "--json", "--ledger-url", url).json
    assert (sums["orphans"], sums["orphaned_usd"], sums["total_usd"]) == (2, 0.002, 0.002)
    assert farthing("spend", "--since", "1h", "--json", "--ledger-url", url).json["orphans"] == 0
    assert farthing("spend", "--orphans", "--since", "1h", "--json", "--ledger-url", url).json["orphans"] == []
    assert "$0.002000 is the ceiling of 2 requests" in farthing("spend", "--ledger-url", url).out
    printed = farthing("spend", "--orphans", "--ledger-url", url)
    assert "$0.001500" in printed.out
    assert "$0.002000" in printed.out


def test_a_correction_is_a_row_of_its_own_and_sums_count_both(filled: Filled, farthing: Run) -> None:  # noqa: F811
    url = filled(held("a", 1_500_000, at=DAY_AGO), answered("b", 1, at=DAY_AGO))
    done = farthing("spend", "--correct", "a", "--usd", "0.0012", "--note", "invoice 7", "--json", "--ledger-url", url)
    assert done.json == {"id": "a/1", "corrects": "a", "charged_usd": -0.0003, "note": "invoice 7"}
    store = read(url)
    assert store.ask("SELECT id, outcome, charged_nusd, corrects, note FROM requests ORDER BY id") == [
        ("a", "held", 1_500_000, None, None),
        ("a/1", "correction", -300_000, "a", "invoice 7"),
        ("b", "answered", 1, None, None),
    ]
    (total,) = store.spend((), None)
    assert (total.charged_nusd, total.requests) == (1_200_001, 2)
    assert store.charged_since(DAY_AGO, task="support", account="one") == 1_200_001
    assert farthing("spend", "--orphans", "--json", "--ledger-url", url).json["orphans"] == []


def test_a_second_correction_corrects_the_first(filled: Filled, farthing: Run) -> None:  # noqa: F811
    url = filled(held("a", 1_500_000, at=DAY_AGO))
    for usd in ("0.0012", "0.002", "0"):
        assert farthing("spend", "--correct", "a", "--usd", usd, "--note", "so", "--ledger-url", url).status == 0
        assert read(url).spend((), None)[0].charged_nusd == round(float(usd) * 1e9)


def test_a_correction_that_changes_nothing_adds_nothing_and_says_so(filled: Filled, farthing: Run) -> None:  # noqa: F811
    url = filled(held("a", 1_500_000, at=DAY_AGO), answered("b", 7, at=DAY_AGO))

    def correct(request_id: str, usd: str, *options: str) -> Ran:
        return farthing("spend", "--correct", request_id, "--usd", usd, "--note", "so", *options, "--ledger-url", url)

    assert "Added a/1: $0.00" in correct("a", "0.0015").out, "it is no orphan any more"
    for request_id, usd in (("a", "0.0015"), ("b", "0.000000007")):
        again = correct(request_id, usd)
        assert (again.status, again.out.partition(":")[0]) == (0, "Nothing added")
        assert correct(request_id, usd, "--json").json["id"] is None
    assert read(url).ask("SELECT id FROM requests ORDER BY id") == [("a",), ("a/1",), ("b",)]


@pytest.mark.parametrize(
    ("request_id", "said"), [("none", "no request 'none'"), ("a/1", "is a correction"), ("c", "is under way")]
)
def test_what_cannot_be_corrected_is_refused(filled: Filled, farthing: Run, request_id: str, said: str) -> None:  # noqa: F811
    url = filled(held("a", 1, at=DAY_AGO), held("c", 1, at=datetime.now(UTC)))
    farthing("spend", "--correct", "a", "--usd", "0", "--note", "so", "--ledger-url", url)
    before = read(url).spend((), None)
    refused = farthing("spend", "--correct", request_id, "--usd", "1", "--note", "so", "--ledger-url", url)
    assert (refused.status, read(url).spend((), None)) == (1, before)
    assert said in refused.err


@pytest.mark.parametrize("usd", ["-1", "nan", "1e9", "much", ""])
def test_a_correction_needs_an_amount_and_a_note(filled: Filled, farthing: Run, usd: str) -> None:  # noqa: F811
    url = filled(held("a", 1, at=DAY_AGO))
    assert farthing("spend", "--correct", "a", "--usd", usd, "--note", "so", "--ledger-url", url).status == 2
    assert farthing("spend", "--correct", "a", "--usd", "1", "--ledger-url", url).status == 2
    assert farthing("spend", "--usd", "1", "--ledger-url", url).status == 2
