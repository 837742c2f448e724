"""Rows read for a replay: all of them once, oldest first, page by page, from either kind of store."""

from __future__ import annotations

import asyncio
from contextlib import closing
from datetime import timedelta

import msgspec

from ledger.outcomes import NOW, answered
from router.ledger.open import open_store
from router.ledger.report import ROWS_A_PAGE, count_since, records_since
from router.ledger.rows import row_of
from router.values import Attempt, Certainty, Usage


def test_every_row_is_read_once_in_order_over_pages_that_end_within_one_instant(url: str) -> None:
    outcomes = [
        answered(f"{number:06}", number, at=NOW + timedelta(seconds=number // 1_500))
        for number in range(2 * ROWS_A_PAGE + 1)
    ]

    with closing(open_store(url)) as store, asyncio.Runner() as runner:
        runner.run(store.write([row_of(outcome) for outcome in reversed(outcomes)]))
        found = list(records_since(store, None))
        assert [len(page) for page in found] == [ROWS_A_PAGE, ROWS_A_PAGE, 1]
        assert [record.id for page in found for record in page] == [outcome.id for outcome in outcomes]
        later = list(records_since(store, NOW + timedelta(seconds=2)))
        assert [record.id for page in later for record in page] == [outcome.id for outcome in outcomes[3_000:]]
        assert count_since(store, NOW + timedelta(seconds=2)) == len(outcomes) - 3_000
        assert list(records_since(store, NOW + timedelta(days=1))) == []
        store.close()


def test_an_attempt_tells_each_class_of_tokens_that_it_used() -> None:
    usage = Usage(10, 5, cached_tokens=4, reasoning_tokens=3, searches=1, search_context="low", service_tier="flex")
    attempt = Attempt("cheap", "openai/x", "answered", 200, usage, 7, Certainty.REPORTED, 1.0)
    plain = msgspec.structs.replace(attempt, usage=Usage(10, 5))
    row = row_of(answered("1", 7, attempts=(attempt, plain)))
    told, told_plainly = msgspec.json.decode(next(value for value in row if str(value).startswith("[{")))
    assert {name: told[name] for name in told.keys() - told_plainly.keys()} == {
        "cached_tokens": 4, "reasoning_tokens": 3, "searches": 1, "search_context": "low", "service_tier": "flex",
    }  # fmt: skip
