"""A proxy whose ledger is moved away under it, as an operator does who tidies up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from proxy import Proxy, eventually, running_provider, running_proxy

ADMIN = {"authorization": "Bearer fk-admin"}


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    with running_provider() as provider:
        policies = {
            "models": f"models:\n  cheap: {{target: openai/gpt-4o-mini, base_url: '{provider.base_url}'}}\n",
            "default": "task: default\nbudget: {per_day_usd: 1}\nroute: [{use: cheap}]\n",
        }
        with running_proxy(tmp_path, policies, settings={"admin_key": "fk-admin"}) as running:
            yield running


def test_a_ledger_that_is_moved_away_refuses_work_and_has_every_row_once_it_is_back(proxy: Proxy) -> None:
    assert proxy.ask(max_tokens=3).status_code == 200
    proxy.rows()
    aside = proxy.ledger.with_suffix(".aside")
    proxy.ledger.rename(aside)
    under_way = proxy.ask(max_tokens=3)
    assert (under_way.status_code, under_way.elapsed.total_seconds() < 7) == (200, True), "it was taken on before"
    refused = proxy.ask(max_tokens=3)
    ready = proxy.http.get("/health/ready")
    assert (refused.status_code, ready.status_code) == (503, 503)
    told = "The ledger can't be reached now (its file was removed or replaced); the proxy's log says more."
    assert refused.json()["error"]["message"] == ready.json()["reason"] == told
    for path in ("spend", "requests"):
        assert proxy.http.get(f"/admin/{path}", headers=ADMIN).json()["error"]["code"] == "store_unavailable"
    assert not proxy.ledger.exists()
    aside.rename(proxy.ledger)
    eventually(lambda: proxy.http.get("/health/ready").status_code == 200, "ready again")
    assert proxy.ask(max_tokens=3).status_code == 200
    assert [row["outcome"] for row in proxy.rows()] == ["answered"] * 3
