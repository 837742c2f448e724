"""Every store alike: what is written once, what replaces what, and what the questions answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.outcomes import NOW, answered, held, outcome
from router.errors import InvalidRequest, StoreUnavailable
from router.ledger.contract import Grouping, Output, Store
from router.ledger.open import open_store
from router.ledger.recent import recent
from router.ledger.report import charged_before, count_since, records_since
from router.ledger.rows import NAMES, row_of
from router.values import EXACT_NUSD, Attempt, Certainty, Ending, Outcome, Usage

Write = Callable[..., int]


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = open_store(url)
    yield store
    store.close()


@pytest.fixture
def run() -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture
def write(store: Store, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> Iterator[Write]:
    """Write outcomes as one batch."""

    def write(*outcomes: Outcome) -> int:
        written: int = run(store.write([row_of(outcome, "here/1/2") for outcome in outcomes]))
        return written

    yield write
    store.close()


def charged(store: Store, request_id: str) -> int:
    entry = store.entry(request_id)
    assert entry is not None
    return entry.charged_nusd


def test_a_held_row_becomes_a_settled_one(store: Store, write: Write) -> None:
    assert write(held("a", 900)) == 1
    assert charged(store, "a") == 900
    assert write(answered("a", 250)) == 1
    assert charged(store, "a") == 250
    assert store.held() == []


def test_a_settled_row_is_never_changed(store: Store, write: Write) -> None:
    write(answered("a", 250))
    assert write(answered("a", 999), held("b", 1)) == 1
    assert write(held("a", 999)) == 0
    assert charged(store, "a") == 250


def test_a_batch_that_is_written_twice_is_there_once(store: Store, write: Write) -> None:
    batch = [answered(f"id{number:04}", number) for number in range(1_000)]
    assert (write(*batch), write(*batch)) == (1_000, 0)
    assert store.spend((), None)[0].charged_nusd == sum(range(1_000))


def test_a_row_has_every_column_as_it_was_given(store: Store, write: Write) -> None:
    given = answered("a", 250)
    write(given)
    row = store.ask(f"SELECT {', '.join(NAMES)} FROM requests WHERE id = $1", ["a"])[0]
    assert row == row_of(given, "here/1/2")
    assert type(row[NAMES.index("charged_nusd")]) is int


def test_a_held_row_says_who_holds_it_and_until_when(store: Store, write: Write) -> None:
    write(held("a", 900))
    (entry,) = store.held()
    assert (entry.id, entry.held_nusd, entry.instance) == ("a", 900, "here/1/2")
    assert entry.held_until == (NOW + timedelta(seconds=900)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def test_what_was_spent_is_summed_by_task_account_and_time(store: Store, write: Write) -> None:
    write(
        answered("a", 1, task="support", account="one", at=NOW - timedelta(hours=2)),
        answered("b", 10, task="support", account="two"),
        answered("c", 100, task="code", account="one"),
        held("d", 1_000, task="code", account=None),
    )
    hour = NOW - timedelta(hours=1)
    assert store.charged_since(hour, task=None, account=None) == 1_110
    assert store.charged_since(hour, task="support", account=None) == 10
    assert store.charged_since(hour, task=None, account="one") == 100
    assert store.charged_since(NOW - timedelta(hours=2), task=None, account="one") == 101
    assert store.charged_since(NOW + timedelta(microseconds=1), task=None, account=None) == 0


def test_what_was_charged_of_a_month_before_a_time_is_told_by_hour_in_order(store: Store, write: Write) -> None:
    month = NOW.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    write(
        answered("a", 1, at=month - timedelta(microseconds=1)),
        answered("b", 10, at=NOW - timedelta(seconds=1)),
        answered("c", 100, at=NOW - timedelta(minutes=1)),
        held("d", 1_000, at=month, account=None),
        answered("e", 10_000),
        answered("f", 20, at=NOW - timedelta(hours=1), task="code"),
    )
    assert charged_before(store, NOW) == [
        ("support", None, "2026-11-01T00", 1_000),
        ("code", "one", "2026-11-21T11", 20),
        ("support", "one", "2026-11-21T12", 110),
    ]
    assert charged_before(store, month) == []


def test_tasks_are_summed_and_read_alone(store: Store, write: Write) -> None:
    write(*(answered(task + id_, 5, task=task) for task in ("a", "b", "c's") for id_ in ("1", "2")), held("a3", 7))
    before = NOW - timedelta(hours=1)
    for tasks, rows in (((), 7), (("a",), 2), (("a", "c's"), 4), (("d",), 0)):
        assert store.spend((), None, tasks)[0].requests == rows
        assert count_since(store, before, tasks) == rows
        pages = [record.id for page in records_since(store, before, tasks) for record in page]
        assert len(pages) == len(set(pages)) == rows
    store.require_tasks(("a", "c's"))
    with pytest.raises(InvalidRequest, match=r"no request of the task 'd'. It has: a, b, c's"):
        store.require_tasks(("a", "d"))


def test_groups_are_in_the_same_order_in_every_store(store: Store, write: Write) -> None:
    write(*(answered(task, 5, task=task) for task in ("b", "A", "a", "Z", "_", "é", "a-b", "ab")))
    assert [spend.group[0] for spend in store.spend(["task"], None)] == ["A", "Z", "_", "a", "a-b", "ab", "b", "é"]


def test_the_last_outputs_come_newest_first(store: Store, write: Write) -> None:
    write(
        *(
            answered(
                f"{number}", 1, at=NOW - timedelta(minutes=number), usage=Usage(input_tokens=1, output_tokens=number)
            )
            for number in range(5)
        ),
        held("h", 1),
        outcome("f", Ending.FAILED, 0),
        outcome("c", Ending.CUT, 0, at=NOW - timedelta(hours=1), usage=Usage(input_tokens=1, output_tokens=99)),
    )
    assert store.recent_outputs(3) == [Output("support", "cheap", number) for number in range(3)]
    assert [output.output_tokens for output in store.recent_outputs(100)] == [0, 1, 2, 3, 4, 99]


def test_an_empty_batch_is_nothing(write: Write) -> None:
    assert write() == 0


TEXT = st.text(st.characters(exclude_categories=()), max_size=20)
NUMBER = st.integers(-(2**70), 2**70)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=TEXT, number=NUMBER)
def test_no_row_is_refused_whatever_strangers_send(store: Store, write: Write, text: str, number: int) -> None:
    request_id = f"{datetime.now(UTC).timestamp():.6f}"
    usage = Usage(input_tokens=number, output_tokens=number)
    strange = answered(
        request_id, number, usage=usage, requested_model=text, reported_model=text, task=text, facts={"said": "\0"}
    )
    assert write(strange) == 1
    stored = store.ask("SELECT requested_model, input_tokens FROM requests WHERE id = $1", [request_id])[0]
    assert stored[1] == max(-EXACT_NUSD, min(EXACT_NUSD, number))
    if text.isprintable():
        assert stored[0] == text


def test_an_unknown_scheme_names_the_known_ones() -> None:
    with pytest.raises(StoreUnavailable, match=r"use sqlite:///farthing\.db .* or postgresql://"):
        open_store("mysql://user:secret@host/db")


def test_a_ledger_that_is_away_is_told_without_its_password(run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
    store = open_store("postgresql://me:secret@127.0.0.1:1/db")
    for broken in (
        lambda: run(store.write([row_of(held("a", 1))])),
        lambda: store.ask("SELECT 1"),
        lambda: run(store.open()),
    ):
        with pytest.raises(StoreUnavailable, match=r"postgresql://127\.0\.0\.1:1/db can't be") as raised:
            broken()
        assert "secret" not in raised.value.message


def test_the_last_requests_are_told_newest_first(store: Store, write: Write) -> None:
    attempt = Attempt("cheap", "openai/gpt-4o-mini", "answered", 200, Usage(10, 5), 300, Certainty.REPORTED, 0.1)
    write(answered("a", 300, attempts=(attempt,), facts={"input_tokens": 10}))
    write(held("b", 900, at=NOW + timedelta(seconds=1), task="code"))
    write(held("c", 900, at=NOW + timedelta(seconds=2)))
    assert [request.id for request in recent(store, 2)] == ["c", "b"]
    assert [request.id for request in recent(store, 9, task="support")] == ["c", "a"]
    first = recent(store, 9)[-1]
    assert (first.outcome, first.charged_nusd, first.facts) == ("answered", 300, {"input_tokens": 10})
    assert [(tried.model, tried.reason, tried.charged_nusd) for tried in first.attempts] == [("cheap", "answered", 300)]


@pytest.mark.parametrize(
    ("by", "group"), [("day", "2026-11-21"), ("hour", "2026-11-21T12"), ("minute", "2026-11-21T12:30")]
)
def test_spend_is_summed_by_parts_of_time(store: Store, write: Write, by: Grouping, group: str) -> None:
    write(answered("a", 300), answered("b", 200))
    assert [(spend.group, spend.charged_nusd) for spend in store.spend((by,), None)] == [((group,), 500)]
