"""Who may call: keys and accounts, the admin's own, and the addresses that an open proxy listens on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from proxy import Calls, Proxy, ServeProcess, running_proxy

from e2e.conftest import files_for
from e2e.refusals import body, error_of
from router.providers.simulated import SimulatedProvider

SEARCH_KEY, SUPPORT_KEY = "fk-search-1", "fk-support-1"


def digest(key: str) -> str:
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()


ACCOUNTS = f"""
accounts:
  search: {{keys: ["{digest("fk-old")}", "{digest(SEARCH_KEY)}"]}}
  support:
    keys: ["{digest(SUPPORT_KEY)}"]
    tasks: [fallback]
    budget: {{per_request_usd: 0.0001}}
"""


@pytest.fixture(scope="module")
def guarded(shared_provider: SimulatedProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy that knows its callers."""
    files = files_for(shared_provider, accounts=ACCOUNTS)
    folder = tmp_path_factory.mktemp("guarded")
    with running_proxy(folder, files, settings={"admin_key": "fk-admin"}) as proxy:
        yield proxy


@pytest.mark.parametrize(
    "headers",
    [{}, {"authorization": "Bearer wrong"}, {"authorization": "Bearer"}, {"authorization": SEARCH_KEY},
     {"authorization": f"Basic {SEARCH_KEY}"}, {"x-api-key": "wrong"},
     {"authorization": f"Bearer {digest(SEARCH_KEY)}"},
     {"authorization": "Bearer \u00e9"}, {"authorization": f"Bearer {SEARCH_KEY}x"}],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models"])
def test_without_a_known_key_nothing_is_served(
    guarded: Proxy, provider: SimulatedProvider, headers: dict[str, str], path: str
) -> None:
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    method = "POST" if "chat" in path else "GET"
    answer = guarded.http.request(method, path, content=body() if method == "POST" else None, headers=raw)  # type: ignore[arg-type]
    error = error_of(answer, 401, "invalid_api_key")
    assert not any(len(value) > 8 and value in error["message"] for value in headers.values())
    assert not provider.calls


@pytest.mark.parametrize("key", [SEARCH_KEY, "fk-old"])
@pytest.mark.parametrize("name", ["authorization", "x-api-key"])
def test_any_key_of_an_account_opens_it(guarded: Proxy, provider: SimulatedProvider, key: str, name: str) -> None:
    value = f"Bearer {key}" if name == "authorization" else key
    answer = guarded.ask(headers={name: value}, max_tokens=3)
    assert guarded.row_of(answer)["account"] == "search"
    assert key not in str(guarded.row_of(answer))


def test_an_account_may_use_its_own_tasks_only(guarded: Proxy, provider: SimulatedProvider) -> None:
    headers = {"authorization": f"Bearer {SUPPORT_KEY}"}
    error = error_of(guarded.ask(headers=headers), 403, "not_allowed")
    assert "fallback" in error["message"]
    assert guarded.ask(headers={**headers, "x-farthing-task": "fallback"}, max_tokens=3).status_code == 200
    names = [model["id"] for model in guarded.http.get("/v1/models", headers=headers).json()["data"]]
    assert "task:fallback" in names
    assert "task:default" not in names


def test_an_accounts_own_budget_binds_its_requests(guarded: Proxy, provider: SimulatedProvider) -> None:
    headers = {"authorization": f"Bearer {SUPPORT_KEY}", "x-farthing-task": "fallback"}
    answer = guarded.ask(headers=headers)
    assert provider.calls[-1].body["max_tokens"] * 600 <= 100_000
    assert guarded.row_of(answer)["held_nusd"] <= 100_000


@pytest.mark.parametrize("key", [None, "wrong", SEARCH_KEY])
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/admin/spend"), ("GET", "/admin/policies"), ("POST", "/admin/explain"), ("GET", "/admin/nope")],
)
def test_admin_is_shut_without_its_key(
    guarded: Proxy, proxy: Proxy, provider: SimulatedProvider, key: str | None, method: str, path: str
) -> None:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    error = error_of(guarded.http.request(method, path, headers=headers), 401, "invalid_api_key")
    assert error["message"].startswith("This is not the admin key" if key else "The admin key is needed here")
    error_of(proxy.http.request(method, path, headers=headers), 403, "not_allowed")


def test_admin_opens_with_its_key_and_refuses_nonsense(guarded: Proxy, provider: SimulatedProvider) -> None:
    headers = {"authorization": "Bearer fk-admin"}
    assert guarded.http.get("/admin/policies", headers=headers).json()["tasks"].keys() >= {"default", "fallback"}
    explained = guarded.http.post("/admin/explain", content=body(), headers=headers)
    assert explained.json()["model"] == "cheap"
    for raw in (b"", b"[]", body(n=0)):
        error_of(guarded.http.post("/admin/explain", content=raw, headers=headers), 400, "invalid_request")
    before_all_time = ("since=999999d", "since=999999w", "since=0001-01-01T00:00%2B10:00")
    for query in ("by=nonsense", "since=yesterdayish", "since=99999999d", *before_all_time):
        error_of(guarded.http.get(f"/admin/spend?{query}", headers=headers), 400, "invalid_request")
    assert guarded.http.get("/admin/spend?by=task,task&since=7d", headers=headers).status_code == 200


def test_an_open_proxy_refuses_every_address_but_this_machines(provider: SimulatedProvider, tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::"):
        with ServeProcess(tmp_path, files_for(provider), "--host", host) as process:
            with pytest.raises(RuntimeError) as caught:
                process.ready()
            assert process.child.wait(10) == 1
        assert f"{tmp_path / 'policies'}: there are no accounts" in str(caught.value)
        assert "farthing keys new" in str(caught.value)


def test_a_proxy_with_accounts_may_listen_everywhere(provider: SimulatedProvider, tmp_path: Path) -> None:
    with ServeProcess(tmp_path, files_for(provider, accounts=ACCOUNTS), "--host", "0.0.0.0") as process:
        calls = process.ready()
        there = Calls(f"http://127.0.0.1:{calls.port}", calls.ledger)
        assert there.ask().status_code == 401
        assert there.ask(headers={"x-api-key": SEARCH_KEY}, max_tokens=3).status_code == 200
        there.close()


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        ({"model": "gpt-9"}, 404, "model_not_found"),
        ({"model": "task:fallbac"}, 400, "invalid_request"),
        ({"model": "task:nothing"}, 400, "invalid_request"),
    ],
)
def test_who_may_use_some_tasks_is_told_of_those_alone(
    guarded: Proxy, asked: dict[str, Any], status: int, code: str
) -> None:
    answer = guarded.ask(**asked, headers={"authorization": f"Bearer {SUPPORT_KEY}"})
    told = error_of(answer, status, code)["message"]
    others = guarded.ask(**asked, headers={"authorization": f"Bearer {SEARCH_KEY}"}).json()["error"]["message"]
    assert "fallback" in told
    assert "default" in others.replace("by default", "")
    assert "default" not in told.replace("by default", "")
