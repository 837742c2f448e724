"""Labels are numbered without gaps in the order of their commits, in either store, however many write at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import structs

from ledger.outcomes import answered
from ledger.test_migrations import execute
from router.ledger.contract import Store
from router.ledger.labels import KEPT, MOST_RATINGS, RATINGS, LabelRow
from router.ledger.open import open_store
from router.ledger.rows import row_of

ONE = LabelRow("support", "2026-11-22T00:00:00.000000Z", "a", "shadow", "cheap", "premium", 0.5, 0.001, 0.05, "{}")


def label(request_id: str, **members: Any) -> LabelRow:
    return structs.replace(ONE, request_id=request_id, **members)


def with_store(url: str, work: Callable[[Any], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        store = open_store(url)
        await store.open()
        try:
            return await work(store)
        finally:
            store.close()

    return asyncio.run(run())


def test_labels_are_read_back_as_they_were_written(url: str) -> None:
    other = label("b", source="feedback", cost_usd=None)
    newer = label("c", cheap_targets="openai/gpt-4.1-nano", premium_targets="a/1, b/2")
    assert with_store(url, lambda store: store.label([ONE, other, newer])) == 3
    store = open_store(url, read_only=True)
    numbered = [structs.replace(each, seq=seq, place=seq) for seq, each in enumerate((ONE, other, newer), start=1)]
    assert store.labels("support", 0, 10) == numbered
    assert store.labels("support", 1, 10) == numbered[1:]
    assert (store.newest_place("support"), store.newest_place("other")) == (3, 0)


def test_the_same_label_is_added_once_and_a_rating_a_few_times(url: str) -> None:
    assert with_store(url, lambda store: store.label([ONE, ONE])) == 1
    assert with_store(url, lambda store: store.label([ONE])) == 0
    rating = label("a", source="feedback")
    changing = [structs.replace(rating, gain=n / 100) for n in range(MOST_RATINGS + 5)]
    assert with_store(url, lambda store: store.label([*changing, changing[0]])) == MOST_RATINGS


def test_a_rating_that_says_what_the_last_one_says_is_no_row_however_many_come_at_once(url: str) -> None:
    rating, other = label("a", source="feedback"), label("a", source="feedback", gain=0.1)

    async def rate(store: Store) -> int:
        return sum(await asyncio.gather(*(store.label([rating]) for _ in range(MOST_RATINGS + 5))))

    assert with_store(url, rate) == 1
    assert with_store(url, lambda store: store.label([other, other, rating, rating])) == 2


def test_a_rating_that_is_given_again_takes_the_place_of_the_first(url: str) -> None:
    rating, other = label("a", source="feedback"), label("b", source="feedback")
    first_then_again = [rating, other, structs.replace(rating, gain=0.0), label("a"), structs.replace(other, gain=0.1)]
    assert with_store(url, lambda store: store.label(first_then_again)) == 5
    store = open_store(url, read_only=True)
    told = [(row.request_id, row.source, row.seq, row.place) for row in store.labels("support", 0, 10)]
    assert told == [
        ("a", "feedback", 1, 1),
        ("b", "feedback", 2, 2),
        ("a", "feedback", 3, 1),
        ("a", "shadow", 4, 3),
        ("b", "feedback", 5, 2),
    ]
    assert store.newest_place("support") == 3


def test_ratings_that_are_given_again_make_no_other_label_go(url: str) -> None:
    rating = label("a", source="feedback")
    others = [label(str(at)) for at in range(KEPT - 1)]
    again = [structs.replace(rating, gain=n / 100) for n in range(1, MOST_RATINGS)]
    with_store(url, lambda store: store.label([*others, rating, *again]))
    assert len(open_store(url, read_only=True).labels("support", 0, 2 * KEPT)) == KEPT + MOST_RATINGS - 1


def test_a_label_of_a_version_that_knew_no_places_has_its_number_for_one(url: str) -> None:
    with_store(url, lambda store: store.label([label("a"), label("b")]))
    execute(url, "UPDATE labels SET place = NULL")
    with_store(url, lambda store: store.label([label("c")]))
    rows = open_store(url, read_only=True).labels("support", 0, 10)
    assert [row.place for row in rows] == [1, 2, 3]


def test_the_newest_ratings_are_counted_and_an_accounts_own_among_them(url: str) -> None:
    async def write(store: Store) -> None:
        accounts = {"a": "one", "b": "one", "c": "two", "d": None}
        await store.write([row_of(answered(each, 1, account=account)) for each, account in accounts.items()])
        ratings = [label(each, source="feedback") for each in (*accounts, "gone")]
        await store.label([*ratings, label("e"), label("a", task="other", source="feedback")])

    with_store(url, write)
    store = open_store(url, read_only=True)

    def counted(newest: int, account: str) -> tuple[int, ...]:
        return tuple(map(int, store.ask(RATINGS, ["support", newest, account])[0]))

    assert [counted(100, account) for account in ("one", "two", "")] == [(5, 2), (5, 1), (5, 0)]
    with_store(url, lambda store: store.label([label("a", source="feedback")] * 3))
    assert counted(100, "one") == (5, 2), "again and again is one"
    assert counted(5, "one") == (4, 1)


def test_writers_at_once_leave_no_gap_and_no_number_twice(url: str) -> None:
    async def write_all() -> None:
        stores = [open_store(url) for _ in range(4)]
        await asyncio.gather(*(store.open() for store in stores))
        await asyncio.gather(
            *(store.label([label(f"{writer}.{at}")]) for at in range(10) for writer, store in enumerate(stores))
        )
        for store in stores:
            store.close()

    asyncio.run(write_all())
    rows = open_store(url, read_only=True).labels("support", 0, 100)
    assert [row.seq for row in rows] == [*range(1, 41)]


def test_old_labels_make_room_and_a_reset_leaves_only_itself(url: str) -> None:
    labels = [label(str(at)) for at in range(KEPT + 7)]
    with_store(url, lambda store: store.label(labels))
    store = open_store(url, read_only=True)
    assert [row.seq for row in store.labels("support", 0, 1)] == [8]
    with_store(url, lambda store: store.reset_labels(label("reset", source="reset")))
    assert [(row.seq, row.source) for row in store.labels("support", 0, 10)] == [(KEPT + 8, "reset")]
    with_store(url, lambda store: store.label([label("next")]))
    assert store.newest_place("support") == KEPT + 9


def test_rows_need_not_wait_until_a_pile_of_labels_is_written(url: str) -> None:
    async def write(store: Store) -> int:
        pile = asyncio.create_task(store.label([label(str(at)) for at in range(1_000)]))
        await asyncio.sleep(0)
        await store.write([row_of(answered(each, 1)) for each in "abc"])
        labelled = store.newest_place("support")
        assert await pile == 1_000
        return labelled

    assert 0 < with_store(url, write) < 1_000
