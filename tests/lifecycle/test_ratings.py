"""Ratings over a real socket: none is lost, and a request is one label however often it is rated."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from proxy import Proxy, eventually, running_provider, running_proxy

from lifecycle.mixture import MIXTURE, agree, files, labels, rate
from router.providers.simulated import Simulation


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_provider(Simulation(answerer=MIXTURE)) as provider:
        yield provider.base_url


def answered(proxy: Proxy) -> str:
    """Have a request answered by the cheap model; return its id."""
    answer = proxy.ask(model="cheap", max_tokens=16)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-farthing-request-id"]


def execute(ledger: Path, statement: str) -> None:
    with closing(sqlite3.connect(ledger)) as connection, connection:
        connection.execute(statement)


@pytest.fixture
def spooling(url: str, tmp_path: Path) -> Iterator[Proxy]:
    """A proxy whose ledger can be read and takes no rows."""
    settings = {"ledger_on_outage": "spool", "spool": tmp_path / "spool"}
    with running_proxy(tmp_path, files(agree(0), url=url), settings=settings) as proxy:
        execute(proxy.ledger, "CREATE TRIGGER away BEFORE INSERT ON requests BEGIN SELECT RAISE(ABORT, 'away'); END")
        yield proxy


def test_a_rating_of_a_row_that_waits_in_the_spool_is_to_be_told_again(spooling: Proxy) -> None:
    request_id = answered(spooling)
    refused = rate(spooling, request_id, 1)
    told = refused.json()["error"]
    assert (refused.status_code, told["code"]) == (503, "store_unavailable"), told
    assert "spool" in told["message"]
    assert int(refused.headers["retry-after"]) > 0
    assert "x-should-retry" not in refused.headers
    execute(spooling.ledger, "DROP TRIGGER away")
    accepted = eventually(
        lambda: found if (found := rate(spooling, request_id, 1)).status_code != 503 else None, "the row"
    )
    assert accepted.json()["learned"] is True
    assert [row.request_id for row in labels(spooling)] == [request_id]
    eventually(lambda: rate(spooling, "nosuchrequest", 1).status_code == 404, "an empty spool")


def test_a_rating_of_a_row_that_waits_in_another_workers_spool_is_to_be_told_again(
    spooling: Proxy, url: str, tmp_path: Path
) -> None:
    request_id = answered(spooling)
    (tmp_path / "beside").mkdir()
    settings = {"ledger_on_outage": "spool", "spool": tmp_path / "spool"}
    with running_proxy(tmp_path / "beside", files(agree(0), url=url), settings=settings) as other:
        assert rate(other, request_id, 1).status_code == 503


@pytest.fixture(scope="module")
def proxy(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with running_proxy(tmp_path_factory.mktemp("rated"), files(agree(0), url=url)) as running:
        yield running


def labelled(proxy: Proxy) -> float:
    return proxy.metric("farthing_learning_labels_total", task="default", source="feedback")


def test_a_request_is_one_label_however_often_its_rating_changes(proxy: Proxy) -> None:
    request_id, before = answered(proxy), labelled(proxy)
    scores = [at / 10 for at in range(10)]
    for score in scores:
        assert rate(proxy, request_id, score).json()["learned"] is True
    own = [row for row in labels(proxy) if row.request_id == request_id]
    assert [row.gain for row in own] == [1 - score for score in scores]
    assert len({row.place for row in own}) == 1
    assert labelled(proxy) == before + 1
    refused = rate(proxy, request_id, 1)
    assert (refused.status_code, refused.json()["error"]["message"]) == (400, "A rating may be changed 9 times.")
    assert rate(proxy, request_id, scores[-1]).json()["learned"] is True, "which says nothing new"


def test_a_rating_that_says_the_same_again_is_written_once(proxy: Proxy) -> None:
    request_id = answered(proxy)
    for _ in range(12):
        assert rate(proxy, request_id, 0.5).json()["learned"] is True
    assert [row.request_id for row in labels(proxy)].count(request_id) == 1


@pytest.mark.parametrize("facts", ['{"look": 5, "difficulty": 0.5}', '{"look": {}, "difficulty": "high"}'])
def test_a_rating_of_a_row_of_another_version_teaches_nothing(proxy: Proxy, facts: str) -> None:
    request_id = answered(proxy)
    eventually(lambda: proxy.row(request_id)["outcome"] == "answered", "the settled row")
    execute(proxy.ledger, f"UPDATE requests SET facts = '{facts}' WHERE id = '{request_id}'")
    told = rate(proxy, request_id, 1)
    assert (told.status_code, told.json().get("learned")) == (200, False)
