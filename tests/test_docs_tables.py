"""The tables of the documentation list what the code has: keys, facts, settings, columns, errors, metrics, headers."""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
import typer
from pages import ROOT, coded, firsts, rows, tables
from prometheus_client import CollectorRegistry
from proxy import Proxy, running_provider, running_proxy

from router import errors
from router.cli import app
from router.ledger.rows import NAMES
from router.lifecycle.ends import State
from router.lifecycle.gauges import ExperimentGauges
from router.lifecycle.rollout import Watched
from router.metrics import Metrics
from router.metrics.__main__ import with_table
from router.metrics.words import Failure, Refusal
from router.policy.backtest.tally import Tally
from router.policy.experiment import Canary, Experiment
from router.policy.schema import accounts, checks, money, rollout, targets, task, tests
from router.policy.target import Deadlines
from router.policy.vocabulary import FACTS, HAS, OPERATORS, TAKES
from router.providers.lanes import key_variable
from router.providers.openai import BASE_URLS
from router.providers.simulated import parse_fault
from router.values import Attempt, Certainty, Ending, Level, Outcome, Scope, Usage
from router.web.log import JsonLines
from router.web.refusal import STATUS

ADMIN = {"authorization": "Bearer an-admin-key"}
CHAT = b'{"model": "auto", "messages": [{"role": "user"}]}'

SHAPES = {
    name: shape
    for module in (accounts, checks, money, rollout, targets, task, tests)
    for name, shape in vars(module).items()
    if name.endswith(("Shape", "File"))
}
"""Every kind of mapping in a policy file, by its name in the code."""


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    files = {
        "models": "models:\n  cheap: {target: openai/gpt-4.1-nano}\n",
        "default": "task: default\nbudget: {per_request_usd: 0.01}\nroute: [{use: cheap}]\n",
    }
    with (
        running_provider() as provider,
        running_proxy(
            tmp_path_factory.mktemp("proxy"),
            files,
            settings={"admin_key": "an-admin-key"},
            simulated_url=provider.root_url,
        ) as running,
    ):
        yield running


@pytest.mark.parametrize("name", [name for name in tables() if name.startswith("keys: ")])
def test_a_table_of_keys_lists_the_keys_there_are(name: str) -> None:
    fields = SHAPES[name.removeprefix("keys: ")].model_fields
    assert sorted(firsts(name)) == sorted(field.alias or key for key, field in fields.items())
    header, *lines = tables()[name]
    for line in lines:
        key = coded(line[0])[0]
        field = next(field for known, field in fields.items() if key == (field.alias or known))
        assert field.is_required() == ("required" in " ".join(line[1:2])), key
        if (
            "default" in " ".join(header)
            and isinstance(field.default, int | str | Decimal)
            and field.default not in ("", 0)
        ):
            assert str(field.default) in line[1], key


def test_the_deadlines_are_as_stated() -> None:
    stated = {coded(row[0])[0]: float(row[1]) for row in rows("keys: DeadlinesShape")}
    assert stated == {name: getattr(Deadlines(), name) for name in Deadlines.__slots__}


def test_the_facts_and_their_operators_are_as_stated() -> None:
    stated = {coded(row[0])[0]: coded(row[1])[0].split() for row in rows("facts")}
    assert stated == {name: list(TAKES[fact.kind]) for name, fact in FACTS.items()}
    assert firsts("operators") == list(OPERATORS)
    assert firsts("has") == list(HAS)


def test_the_settings_are_as_stated() -> None:
    def written(default: object) -> str:
        match default:
            case None:
                return ""
            case bool():
                return "false"
        return str(getattr(default, "value", default))

    commands: Any = typer.main.get_command(app)
    params = [param for param in commands.commands["serve"].params if param.name != "help"]
    expected = [(param.opts[0], param.envvar, written(param.default)) for param in params]
    stated = [(*coded(row[0]), *coded(row[1]), "".join(coded(row[2]))) for row in rows("settings")]
    assert stated == expected


def test_the_ledger_is_as_stated() -> None:
    assert firsts("ledger") == list(NAMES)
    assert firsts("outcomes") == [ending.value for ending in Ending]
    assert firsts("certainty") == [certainty.value for certainty in Certainty]


def test_the_errors_are_as_stated() -> None:
    def below(kind: type[errors.FarthingError]) -> Iterator[type[errors.FarthingError]]:
        yield kind
        for child in kind.__subclasses__():
            yield from below(child)

    retryable = {kind.code: kind.retryable for kind in below(errors.FarthingError)}
    stated = {coded(row[0])[0]: (int(row[1]), row[3]) for row in rows("errors")}
    assert stated.pop("internal_error") == (500, "")
    assert stated == {code: (status, "yes" if retryable[code] else "no") for code, status in STATUS.items()}
    reasons = {kind.reason for kind in below(errors.ProviderError) if issubclass(kind, errors.ProviderError)}
    assert sorted(firsts("reasons")) == sorted({*reasons, "check_…"})
    assert set(Failure) == reasons
    assert set(Refusal) == {code for code in STATUS if not code.startswith("upstream_")}


def test_the_providers_are_as_stated() -> None:
    stated = {coded(row[0])[0]: (coded(row[1])[0], row[2].strip("`")) for row in rows("providers")}
    assert stated == {
        name: (url, "none" if name == "ollama" else key_variable(name)) for name, url in BASE_URLS.items()
    }


def test_the_faults_of_simulated_providers_are_as_stated() -> None:
    with pytest.raises(ValueError, match="there are: ") as raised:
        parse_fault("nonsense")
    words = str(raised.value).rpartition("there are: ")[2].rstrip(".").split(", ")
    assert [code.partition("=")[0] for row in rows("faults") for code in coded(row[0])] == words
    for word in firsts("faults"):
        parse_fault(word)


def test_the_layers_are_as_stated() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    assert [coded(row[0]) for row in rows("layers")] == [layer.split(" | ") for layer in layers]


def test_the_metrics_are_as_stated() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text("utf-8")
    assert page == with_table(page), "run `make metrics`"
    stated = {coded(row[0])[0]: (row[1], set(coded(row[2]))) for row in rows("metrics")}
    assert stated == every_metric()


def every_metric() -> dict[str, tuple[str, set[str]]]:
    """Return the types and labels of a scrape, once everything has happened that is counted."""
    metrics = Metrics(CollectorRegistry())
    metrics.budgets = [Level(Scope("task", "support", "day", 1), 0, 0)]
    attempt = Attempt("cheap", "openai/x", "failed", 500, Usage(1, 1), 1, Certainty.COUNTED, 1.0)
    soft = Level(Scope("task", "support", "day", 1, "warn"), 2, 0)
    metrics.record(
        msgspec.structs.replace(_outcome(Ending.ANSWERED, None, attempt), warnings=(soft,), verified="passed")
    )
    metrics.record(_outcome(Ending.REFUSED, "budget_exceeded", attempt))
    metrics.escalated("support", "cheap", "premium", "json")
    metrics.labelled("support", "shadow")
    metrics.breaker("cheap", "openai/x", True)
    metrics.store("redis", "hold", 0.001)
    metrics.policies("0123456789ab")
    gauges = ExperimentGauges(metrics.registry)
    part = {"name": "support/routine", "version": "1", "side": "canary", "model": "cheap", "checked": True}
    answered = msgspec.structs.replace(attempt, reason="answered")
    outcome = _outcome(Ending.ANSWERED, None, answered)
    gauges.record(msgspec.structs.replace(outcome, facts={"experiment": part, "agreement": 0.5}))
    gauges.dropped("support/routine", "queue_full")
    gauges.states([Watched(Experiment("support/routine", "1", Canary("cheap", 0.5)), State.RUNNING)])
    found = {}
    for family in metrics.registry.collect():
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found[family.name + ("_total" if family.type == "counter" else "")] = (family.type, labels)
    return found


def _outcome(ending: Ending, refusal: str | None, attempt: Attempt) -> Outcome:
    """Return an outcome that touches every metric of one."""
    return Outcome(
        id="1",
        at=datetime.fromtimestamp(0, UTC),
        account=None,
        task="support",
        rule="routine",
        policy_revision="",
        requested_model="auto",
        ending=ending,
        certainty=Certainty.COUNTED,
        routed_model="cheap",
        provider="openai",
        kind="routine",
        usage=Usage(1, 1, cached_tokens=1),
        difficulty=0.5,
        held_nusd=2,
        charged_nusd=2,
        baseline_nusd=3,
        overhead_nusd=1,
        over_budget_nusd=1,
        attempts=(attempt,),
        refusal=refusal,
        first_token_s=0.1,
    )


def test_the_endpoints_are_as_stated(proxy: Proxy) -> None:
    stated = {tuple(coded(row[0])[0].split()): row[1] for row in rows("endpoints")}
    listed = proxy.http.get("/nowhere").json()["error"]["message"].rpartition("There is: ")[2].rstrip(".")
    under_admin = proxy.http.get("/admin/nowhere", headers=ADMIN).json()["error"]["message"]
    names = under_admin.rpartition(": ")[2].rstrip(".").split(", ")
    assert {path for _, path in stated} == {*listed.split(", "), *("/admin/" + name for name in names)}
    rating = {"request_id": proxy.ask(max_tokens=5).headers["x-farthing-request-id"], "score": 1}
    for (method, path), key in stated.items():
        body = msgspec.json.encode(rating) if path == "/v1/feedback" else CHAT
        answer = proxy.http.request(method, path, headers=ADMIN, content=body)
        assert answer.status_code == 200, (path, answer.text)
        assert (proxy.http.request(method, path).status_code == 401) == (key == "the admin key"), path


def test_the_headers_are_as_stated(proxy: Proxy) -> None:
    def ours(answer: Any) -> set[str]:
        return {name for name in answer.headers if name.startswith("x-farthing-")}

    whole, streamed = proxy.ask(max_tokens=5), proxy.ask(max_tokens=5, stream=True)
    assert ours(whole) == set(firsts("response headers"))
    later = {coded(row[0])[0] for row in rows("response headers") if "whole answers only" in row[1]}
    assert ours(whole) - ours(streamed) == later
    for header in firsts("request headers"):
        answer = proxy.ask(max_tokens=5, headers={header: "no such thing"})
        assert answer.status_code == 400, header
        assert header in answer.json()["error"]["message"]


def test_a_dry_run_is_as_stated(proxy: Proxy) -> None:
    found = proxy.ask(headers={"x-farthing-dry-run": "true"}).json()
    assert firsts("explain") == [
        "task", "rule", "model", "estimate_usd", "checks_usd", "ceiling_usd", "budget_usd", "budget", "downgraded",
        "refusal", "policy_revision", "facts", "difficulty", "rules", "candidates",
    ]  # fmt: skip
    assert sorted(firsts("explain")) == sorted(found)
    inner = {coded(row[0])[-1]: coded(row[1]) for row in rows("explain")}
    assert inner["rules"] == list(found["rules"][0])
    assert inner["candidates"] == list(found["candidates"][0])


def test_the_report_of_a_replay_is_as_stated() -> None:
    beside = {"since", "policy_revision", "against_revision", "limits_met"}
    assert sorted(code for row in rows("replay") for code in coded(row[0])) == sorted({*Tally().report(), *beside})


def test_a_line_of_the_log_is_as_stated(proxy: Proxy, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "farthing.outcome"):
        proxy.ask(max_tokens=5)
        record = next(record for record in caplog.records if record.name == "farthing.outcome")
    assert sorted(msgspec.json.decode(JsonLines().format(record))) == sorted(firsts("log"))
