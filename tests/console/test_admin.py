"""What the console reads: requests with their reasons, and how full budgets are; and how its files are sent."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import msgspec
import pytest
from proxy import Proxy

from router.ledger.open import open_store
from router.ledger.recent import Recent, recent
from router.providers.simulated import Faults, SimulatedProvider
from router.web.recent import Rules, reason_of
from tests.console.conftest import ADMIN

LONG = "word " * 500
LATER = "task: later\nroute: [{{name: short, when: {{input_tokens: {{lt: {}}}}}, use: cheap}}, {{use: cheap}}]\n"


def told(proxy: Proxy, answer: Any) -> dict[str, Any]:
    """Return a request as /admin/requests tells of it, once it is settled."""
    row = proxy.row_of(answer)
    found = proxy.http.get("/admin/requests", headers=ADMIN).json()["requests"]
    request: dict[str, Any] = next(request for request in found if request["id"] == row["id"])
    assert request["cost_usd"] == row["charged_nusd"] / 1e9
    return request


def test_a_request_is_told_with_what_its_rule_saw(proxy: Proxy) -> None:
    request = told(proxy, proxy.ask(LONG))
    assert request["reason"].startswith("rule long: input_tokens > 400: yes (is 5")
    assert request["model"] == "premium"
    assert [attempt["reason"] for attempt in request["attempts"]] == ["answered"]


def test_a_rule_on_text_is_named_without_the_text(proxy: Proxy) -> None:
    request = told(proxy, proxy.ask("the magic word, and swordfish"))
    assert request["reason"] == "rule secret: its condition on text held"


def test_a_model_asked_for_by_name_is_told_so(proxy: Proxy) -> None:
    assert told(proxy, proxy.ask(model="cheap"))["reason"] == "asked for cheap by name"


def test_what_failed_on_the_way_is_told(proxy: Proxy, provider: SimulatedProvider) -> None:
    provider.faults = Faults()
    provider.faults.queue("status=503 retry-after=60", model="gpt-4o-mini")
    request = told(proxy, proxy.ask())
    reasons = [attempt["reason"] for attempt in request["attempts"]]
    assert request["reason"] == f"rule routine: always; cheap {reasons[0]}, then premium answered"
    assert reasons[0] != "answered"


def test_a_refusal_is_told_with_its_code(proxy: Proxy) -> None:
    request = told(proxy, proxy.ask(headers={"x-farthing-budget-usd": "0.0000001"}))
    assert request["outcome"] == "refused"
    assert request["reason"] == "rule routine: always; refused: request_budget_exceeded"


def test_a_cheaper_model_in_the_place_of_a_dear_one_is_told(proxy: Proxy) -> None:
    request = told(proxy, proxy.ask(LONG, max_tokens=100, headers={"x-farthing-budget-usd": "0.001"}))
    assert request["rule"] == "routine"
    expected = "rule routine: always; rule long held before it, but no model that it uses could be paid for or take it"
    assert request["reason"] == expected


def test_an_edit_elsewhere_leaves_the_reasons_of_earlier_requests(proxy: Proxy) -> None:
    answer = proxy.ask(LONG)
    before = told(proxy, answer)["reason"]
    assert before.startswith("rule long: input_tokens > 400: yes")
    proxy.rewrite(later="task: later\nroute: [{use: cheap}]\n")
    proxy.rewrite(later="task: later\nroute: [{use: premium}]\n")
    assert proxy.row_of(proxy.ask())["policy_revision"] != proxy.row_of(answer)["policy_revision"]
    assert told(proxy, answer)["reason"] == before


def test_a_rule_that_was_edited_since_is_told_as_it_was_with_its_revision(proxy: Proxy) -> None:
    proxy.rewrite(
        later="task: later\nroute: [{name: short, when: {input_tokens: {lt: 400}}, use: cheap}, {use: cheap}]\n"
    )
    answer = proxy.ask(headers={"x-farthing-task": "later"})
    revision = proxy.row_of(answer)["policy_revision"]
    proxy.rewrite(
        later="task: later\nroute: [{name: short, when: {input_tokens: {lt: 300}}, use: cheap}, {use: cheap}]\n"
    )
    assert told(proxy, answer)["reason"].startswith(f"rule short of policies {revision}: input_tokens < 400: yes")


def test_a_decision_of_policies_long_replaced_names_their_revision(proxy: Proxy) -> None:
    answer = proxy.ask()
    (request,) = (found for found in _recent(proxy) if found.id == proxy.row_of(answer)["id"])
    old = msgspec.structs.replace(request, policy_revision="0123456789ab")
    assert reason_of(old, *_in_force(proxy)) == "rule routine of policies 0123456789ab, since replaced"


def test_requests_are_newest_first_and_as_many_as_asked_for(proxy: Proxy) -> None:
    ids = [proxy.row_of(proxy.ask(headers={"x-farthing-task": "summarise"}))["id"] for _ in range(3)]
    found = proxy.http.get("/admin/requests?limit=2&task=summarise", headers=ADMIN).json()["requests"]
    assert [request["id"] for request in found] == [ids[2], ids[1]]


@pytest.mark.parametrize("limit", ["0", "501", "-1", "many", "", "1.5", "9" * 5000])
def test_a_limit_that_is_none_is_refused(proxy: Proxy, limit: str) -> None:
    answer = proxy.http.get("/admin/requests", params={"limit": limit}, headers=ADMIN)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "limit"


def test_budgets_are_told_with_what_is_left_of_them(proxy: Proxy) -> None:
    found = proxy.http.get("/admin/budgets", headers=ADMIN).json()["budgets"]
    by_name = {(budget["name"], budget["window"]): budget for budget in found}
    assert by_name.keys() == {("default", "day"), ("default", "month"), ("summarise", "hour")}
    day = by_name["default", "day"]
    assert day["limit_usd"] == 25
    assert day["spent_usd"] + day["held_usd"] + day["remaining_usd"] == pytest.approx(25)
    assert day["spent_usd"] == pytest.approx(
        sum(row["charged_nusd"] / 1e9 for row in proxy.rows() if row["task"] == "default")
    )


def test_spend_is_told_by_minute_and_by_hour(proxy: Proxy) -> None:
    for by, length in (("minute", 16), ("hour", 13)):
        report = proxy.http.get(f"/admin/spend?by={by}", headers=ADMIN).json()
        assert {len(row[by]) for row in report["rows"]} == {length}
        assert sum(row["cost_usd"] for row in report["rows"]) == pytest.approx(report["total_usd"])


def test_spend_of_a_task_is_that_task_s_alone(proxy: Proxy) -> None:
    for task in ("default", "summarise"):
        proxy.row_of(proxy.ask("Hello", model=f"task:{task}"))

    def spent(query: str) -> Any:
        return proxy.http.get(f"/admin/spend?by=task&{query}", headers=ADMIN)

    assert [row["task"] for row in spent("task=summarise").json()["rows"]] == ["summarise"]
    both = spent("task=summarise,default").json()
    assert {row["task"] for row in both["rows"]} == {"summarise", "default"}
    assert both["total_usd"] == pytest.approx(sum(row["cost_usd"] for row in both["rows"]))
    for task, said in (("summary", "no request of the task 'summary'"), ("", "names no task")):
        refused = spent(f"task={task}")
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_request")
        assert said in refused.json()["error"]["message"]


def test_budgets_are_told_with_what_happens_where_they_end(proxy: Proxy) -> None:
    found = proxy.http.get("/admin/budgets", headers=ADMIN).json()["budgets"]
    assert {level["name"]: level["on_exceeded"] for level in found} == {"default": "downgrade", "summarise": "reject"}


def test_an_address_of_another_method_is_told_by_it(proxy: Proxy) -> None:
    answer = proxy.http.get("/admin/explain", headers=ADMIN)
    assert answer.status_code == 404
    assert "no GET /admin/explain. `explain` takes POST" in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/admin/requests", "/admin/budgets"])
def test_they_are_behind_the_admin_key(proxy: Proxy, path: str) -> None:
    assert proxy.http.get(path).status_code == 401


@pytest.mark.parametrize("name", ["", "/console.js", "/console.css", "/charts.js", "/chart.js", "/icon.svg"])
def test_the_files_are_sent_packed_once_and_guarded(proxy: Proxy, name: str) -> None:
    answer = proxy.http.get(f"/console{name}", headers={"accept-encoding": "gzip"})
    assert answer.status_code == 200
    assert answer.headers["content-encoding"] == "gzip"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    again = proxy.http.get(f"/console{name}", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    plain = proxy.http.get(f"/console{name}", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == answer.content
    assert b"http://" not in plain.content.replace(b"http://www.w3.org", b"") or name == "/chart.js"


@pytest.mark.parametrize("path", ["/console/nope", "/console/../admin.py", "/console/__init__.py", "/consolement"])
def test_there_is_nothing_else_below_the_console(proxy: Proxy, path: str) -> None:
    answer = proxy.http.get(path)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"


def test_the_part_in_an_experiment_is_told(proxy: Proxy) -> None:
    """As the ledger has it of a canary, and of the copy of a request that a shadow got."""
    answer = proxy.ask()
    (before,) = (found for found in _recent(proxy) if found.id == proxy.row_of(answer)["id"])
    drawn = {"name": "newer", "version": "1", "side": "canary", "model": "other", "point": 0.1}
    canary = msgspec.structs.replace(before, routed_model="other", facts=before.facts | {"experiment": drawn})
    assert reason_of(canary, *_in_force(proxy)) == "rule routine: always; canary of experiment newer"
    shadow = msgspec.structs.replace(before, id=f"{before.id}.s", outcome="shadow")
    assert reason_of(shadow, *_in_force(proxy)).startswith(f"a copy of request {before.id} for a model")


def _in_force(proxy: Proxy) -> tuple[Rules, str]:
    return proxy.app.folder.rules, proxy.app.folder.current().revision


def _recent(proxy: Proxy) -> list[Recent]:
    with closing(open_store(proxy.app.settings.ledger_url, read_only=True)) as store:
        return recent(store, 50)
