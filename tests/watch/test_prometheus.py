"""A real Prometheus scrapes two workers through a restart: every panel and every rule finds what it asks for."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from pages import ROOT
from proxy import Calls, Proxy, ServeProcess, eventually, ledger_rows, running_provider
from redis_server import running_redis

from grafana.__main__ import BOARDS
from grafana.board import REVISIONS, Panel, Query
from router.values import NUSD_PER_USD
from watch.prometheus_server import Prometheus, need_prometheus, running_prometheus

RULES = sorted((ROOT / "grafana" / "alerts").glob("*.yaml"))
START_S = 60.0
DEMO_S = 200.0
VARIABLES = {"$__rate_interval": "20s", "$__range": "10m", "$task": ".*", "$model": ".*"}
WEEK_S = 7 * 86400
LAST_WEEK = {"farthing:estimate_ratio:mean6h": 0.4, 'task:farthing_cost_usd:rate1h{task="faulty"}': 0.000001}
"""What the rules recorded a week ago, when there was no proxy."""

MORE_MODELS = """
  unchecked: {{target: openai/gpt-4o-mini, base_url: "{url}"}}
  failing: {{target: openai/gpt-4o, base_url: "{url}", retries: 0}}
  silent: {{target: openai/gpt-4.1-nano, base_url: "{url}"}}
"""
FAULTY = """version: 1
task: faulty
baseline: premium
budget: {per_hour_usd: 1}
route:
  - name: checked
    when: {text: {contains: check}}
    use: unchecked
    verify: {json: true, escalate_to: standard}
  - name: unconfirmed
    when: {text: {contains: silent}}
    use: silent
  - name: failing
    use: [failing, standard]
"""
TRIED = """
task: tried
baseline: dear
budget: {per_hour_usd: 0.00003, on_exceeded: warn}
learn: {feedback: trusted}
route:
  - name: hard
    when: {difficulty: {gt: 0.99}}
    use: dear
  - name: unshadowed
    when: {text: {contains: poor}}
    use: cheap
    experiment:
      shadow: {model: dear, budget_per_day_usd: 0.00000001}
  - name: shadowed
    use: cheap
    verify: {min_chars: 1, buffer: true, escalate_to: dear}
    experiment:
      canary: {model: dear, share: 0.5}
      shadow: {model: dear, budget_per_day_usd: 5}
"""
TRIED_TEXTS = ("a poor shadow", *(f"conversation {number}" for number in range(4)))


@dataclass(frozen=True, slots=True)
class Watched:
    prometheus: Prometheus
    ledger: Path
    begun_s: float
    starts_s: list[float]

    def ledger_nusd(self) -> int:
        return sum(row["charged_nusd"] for row in ledger_rows(self.ledger))

    def counted_nusd(self) -> int:
        """Sum the raw samples: of each series what it rose by in each life of the proxy, from 0 on.

        increase() does not see a restart after which a series comes back with as much as it had, or more.
        """
        total = 0.0
        for series in self.prometheus.query('farthing_cost_usd_total{job="farthing"}[1h]'):
            before, before_s = 0.0, 0.0
            for at_s, text in series["values"]:
                if any(before_s < start_s < at_s for start_s in self.starts_s):
                    before = 0.0
                total += float(text) - before
                before, before_s = float(text), at_s
        return round(total * NUSD_PER_USD)

    def wait_for_a_scrape(self) -> None:
        """Wait until Prometheus has read what a proxy tells before its first request."""
        since_s = time.time()

        def read_at_s() -> float:
            found = self.prometheus.query('timestamp(farthing_policy_info{job="farthing"})')
            return max((float(series["value"][1]) for series in found), default=0.0)

        eventually(lambda: read_at_s() > since_s, "a scrape", START_S)

    def wait(self) -> None:
        """Wait until Prometheus has scraped what the ledger has."""
        try:
            eventually(self._agree, "counters and a ledger that agree", START_S)
        except AssertionError:
            held = [row["id"] for row in ledger_rows(self.ledger) if row["outcome"] == "held"]
            print(f"counted {self.counted_nusd()}, in the ledger {self.ledger_nusd()}, held {held}")
            raise

    def _agree(self) -> bool:
        held = [row for row in ledger_rows(self.ledger) if row["outcome"] == "held"]
        return not held and abs(self.counted_nusd() - self.ledger_nusd()) < 1000


@pytest.fixture(scope="module")
def more_files() -> dict[str, str]:
    return {"tried": TRIED}


@pytest.fixture(scope="module")
def watched(proxy: Proxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Two workers with the shipped policies and one that fails at times; a demo, a restart, a demo."""
    need_prometheus()
    folder = tmp_path_factory.mktemp("watched")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    targets = {"farthing": [f"127.0.0.1:{port}"], "alone": [f"127.0.0.1:{proxy.port}"]}
    with running_provider() as provider, running_redis() as redis:
        provider.faults.always("status=500", model="gpt-4o")
        provider.faults.always("no-usage", model="gpt-4.1-nano")
        shutil.copytree(ROOT / "policies", folder / "policies")
        with (folder / "policies" / "models.yaml").open("a") as models:
            models.write(MORE_MODELS.format(url=provider.base_url))
        (folder / "policies" / "faulty.yaml").write_text(FAULTY)
        options = ("--simulate", "always", "--workers", "2", "--budgets-url", redis.url, "--port", str(port))
        with running_prometheus(folder, targets, RULES, last_week()) as prometheus:
            watched = Watched(prometheus, folder / "ledger.db", time.time(), [])
            for seed, requests in ((1, 36), (2, 24)):
                with ServeProcess(folder, {}, *options) as process:
                    watched.starts_s.append(time.time())
                    calls = process.ready()
                    watched.wait_for_a_scrape()
                    try_models(proxy)
                    send_traffic(calls, seed, requests)
                    watched.wait()
            with ServeProcess(folder, {}, *options, "--breaker-failures", "2") as process:
                watched.starts_s.append(time.time())
                calls = process.ready()
                watched.wait_for_a_scrape()
                send_traffic(calls, 3, 12)
                fail_until_a_breaker_opens(calls, prometheus)
                watched.wait()
                yield watched


def last_week() -> str:
    """Return samples of each quarter of a minute, from ten minutes before this time last week to an hour after it."""
    now_s = int(time.time()) - WEEK_S
    lines = []
    for series, value in LAST_WEEK.items():
        lines.append(f"# TYPE {series.partition('{')[0]} gauge")
        lines += [f"{series} {value} {at_s}" for at_s in range(now_s - 600, now_s + 3600, 15)]
    return "\n".join([*lines, "# EOF", ""])


def ask(calls: Calls, task: str, text: str, max_tokens: int) -> httpx.Response:
    messages = [{"role": "user", "content": text}]
    body = {"model": f"task:{task}", "messages": messages, "max_tokens": max_tokens}
    answer = httpx.post(f"{calls.base_url}/chat/completions", json=body, timeout=START_S, trust_env=False)
    assert answer.status_code == 200, answer.text
    return answer


def fail_until_a_breaker_opens(calls: Calls, prometheus: Prometheus) -> None:
    """Ask a model that fails, as it has for the seconds that a breaker wants, until Prometheus has seen it open."""

    def is_open() -> bool:
        ask(calls, "faulty", "one that fails first", 1)
        return bool(prometheus.query('farthing_breaker_open{model="failing"} == 1'))

    eventually(is_open, "an open breaker", START_S)


def try_models(proxy: Proxy) -> None:
    """Have experiments, a soft budget that is used up, and an answer that somebody rates."""
    for text in TRIED_TEXTS:
        rated = ask(proxy, "tried", text, 5).headers["x-farthing-request-id"]
    rating = {"request_id": rated, "score": 0}
    learned = httpx.post(f"{proxy.base_url}/feedback", json=rating, timeout=START_S, trust_env=False)
    assert learned.status_code == 200, learned.text


def send_traffic(calls: Calls, seed: int, requests: int) -> None:
    command = [sys.executable, "-m", "router", "demo", "--url", calls.url, "--requests", str(requests)]
    for number in range(2):
        for text in ("check this", "a silent one", "one that fails first"):
            ask(calls, "faulty", text, 20 + number)
        demo = [*command, "--seed", str(10 * seed + number), "--concurrency", "8", "--json"]
        done = subprocess.run(demo, cwd=ROOT, capture_output=True, text=True, timeout=DEMO_S, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def filled_in(expr: str) -> str:
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    assert "$" not in expr.replace('"$1"', ""), expr
    return expr


def drawn() -> list[Any]:
    return [
        pytest.param(panel, query, id=f"{board.name}: {panel.title}, {number}")
        for board in BOARDS
        for row in board.rows
        for panel in row.panels
        for number, query in enumerate(panel.queries)
    ]


@pytest.mark.parametrize(("panel", "query"), drawn())
def test_a_panel_draws(watched: Watched, panel: Panel, query: Query) -> None:
    found = watched.prometheus.over_time(filled_in(query.expr), watched.begun_s)
    assert found, query.expr
    named = set(re.findall(r"{{(\w+)}}", query.legend))
    assert all(named <= series["metric"].keys() for series in found), found[0]["metric"]
    if panel.shape == "number" or not named:
        assert len(found) == 1 or panel.shape == "table"
    values = [float(value) for series in found for _, value in series["values"]]
    assert any(value == value for value in values), "nothing but NaN"  # noqa: PLR0124


def test_a_change_of_policies_is_marked(watched: Watched) -> None:
    found = watched.prometheus.over_time(REVISIONS, watched.begun_s)
    assert found
    assert all(series["metric"]["revision"] for series in found)


@pytest.mark.parametrize("name", ["task", "model"])
def test_there_is_something_to_choose_from(watched: Watched, name: str) -> None:
    found = watched.prometheus.query(f"group by ({name}) (farthing_requests_total)")
    assert len(found) >= 4


def test_every_rule_is_worked_out_without_an_error(watched: Watched) -> None:
    rules = watched.prometheus.rules()
    assert len(rules) == sum(path.read_text().count("- alert:") + path.read_text().count("- record:") for path in RULES)
    assert {rule["name"]: rule.get("lastError") for rule in rules if rule["health"] != "ok"} == {}


def watched_for() -> list[Any]:
    """Return every selector of every alert, with its offset: what must be there for the alert to see its trouble."""
    alerts = [rule for path in RULES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]
    selector = re.compile(r"((?:\w+:)?(?:farthing|up)(?!\w*\()[\w:]*(?:{[^}]*})?)(?:\[\w+\])?( offset 1w)?")
    return sorted(
        {
            (rule["alert"], name + (offset or ""))
            for rule in alerts
            if "alert" in rule
            for name, offset in selector.findall(rule["expr"])
        }
    )


@pytest.mark.parametrize(("alert", "selector"), watched_for())
def test_an_alert_has_something_to_look_at(watched: Watched, alert: str, selector: str) -> None:
    assert watched.prometheus.query(selector), f"{alert}: {selector}"


def test_every_recording_finds_something_with_the_labels_of_its_name(watched: Watched) -> None:
    for rule in watched.prometheus.rules():
        if rule["type"] == "recording":
            found = watched.prometheus.query(rule["name"])
            assert found, rule["name"]
            level = rule["name"].partition(":")[0]
            labels = set() if level == "farthing" else set(level.split("_"))
            assert all(series["metric"].keys() - {"__name__"} == labels for series in found), found[0]


def test_a_budget_is_watched_and_none_of_them_is_in_danger(watched: Watched) -> None:
    firing = {
        alert["labels"]["alertname"]
        for rule in watched.prometheus.rules()
        for alert in rule.get("alerts", ())
        if alert["state"] == "firing" and alert["labels"].get("name") != "tried"
    }
    print(firing)
    assert not any("At9" in name or "At100" in name or "Down" in name for name in firing)


def test_what_is_counted_is_what_the_ledger_has_through_restarts(watched: Watched) -> None:
    command = [sys.executable, "-m", "router", "spend", "--json", "--ledger-url", f"sqlite:///{watched.ledger}"]
    spent = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=START_S).stdout)
    counted_usd = watched.counted_nusd() / NUSD_PER_USD
    drawn_usd = sum(
        float(series["value"][1])
        for series in watched.prometheus.query('sum(increase(farthing_cost_usd_total{job="farthing"}[1h]))')
    )
    print(f"counted ${counted_usd:.9f}, ledger ${spent['total_usd']:.9f}, by increase() ${drawn_usd:.9f}")
    assert spent["total_usd"] > 0.05
    assert counted_usd == pytest.approx(spent["total_usd"], abs=1e-6)
    begun = [
        [series["metric"][name] for name in ("task", "rule", "model")]
        for series in watched.prometheus.query('farthing_cost_usd_total{job="farthing"}[1h]')
        if float(series["values"][0][1])
    ]
    assert begun == [], "series that begin with more than nothing"
    # It reckons what happened before the first sample and after the last one; it misses no series' first request.
    assert drawn_usd == pytest.approx(spent["total_usd"], rel=0.03)
    resets = watched.prometheus.query('sum(resets(farthing_requests_total{job="farthing"}[1h]))')
    assert float(resets[0]["value"][1]) > 0


def test_an_exemplar_leads_from_a_slow_request_to_its_row(watched: Watched, proxy: Proxy) -> None:
    name = 'gen_ai_server_request_duration_seconds_bucket{job="alone"}'
    found = eventually(partial(watched.prometheus.exemplars, name, watched.begun_s), "an exemplar")
    ids = {one["labels"]["request_id"] for series in found for one in series["exemplars"]}
    assert ids <= {row["id"] for row in proxy.rows()}
