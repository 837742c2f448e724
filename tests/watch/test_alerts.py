"""Alerts: each fires where it should, stays quiet in the opposite, and tells a woken person what to do."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from pages import ROOT, anchors

from watch.prometheus_server import need_prometheus, promtool

FOLDER = ROOT / "grafana" / "alerts"
FILES = sorted(FOLDER.glob("*.yaml"))
CASES = sorted(Path(__file__).with_name("rules").glob("*.yaml"))
RUNBOOK = ROOT / "docs" / "alerts.md"
LONGEST_SUMMARY = 200


@pytest.fixture(autouse=True, scope="module")
def _here() -> None:
    need_prometheus()


@cache
def alerts() -> list[dict[str, Any]]:
    groups = [group for path in FILES for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def names() -> list[str]:
    return [alert["alert"] for alert in alerts()]


def test_prometheus_takes_the_rules() -> None:
    checked = promtool("check", "rules", *FILES)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_case_has_its_groups_in_the_order_of_the_files(path: Path) -> None:
    groups = [group["name"] for file in reversed(FILES) for group in yaml.safe_load(file.read_text())["groups"]]
    # promtool takes those that are not named in any order, and then alerts may see records of a minute ago.
    assert yaml.safe_load(path.read_text())["group_eval_order"] == groups


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_each_rule_does_what_it_should(path: Path) -> None:
    tested = promtool("test", "rules", path)
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize("name", names())
def test_an_alert_is_seen_to_fire_and_to_be_quiet(name: str) -> None:
    cases = [case for path in CASES for test in yaml.safe_load(path.read_text())["tests"] for case in
             test["alert_rule_test"] if case["alertname"] == name]  # fmt: skip
    assert any(case["exp_alerts"] for case in cases), "nothing shows that it fires"
    assert any(not case["exp_alerts"] for case in cases), "nothing shows that it can be quiet"


@pytest.mark.parametrize("alert", alerts(), ids=names())
def test_an_alert_says_what_happened_and_where_to_read_on(alert: dict[str, Any]) -> None:
    told = alert["annotations"]
    assert alert["labels"]["severity"] in ("page", "ticket")
    assert told["summary"].endswith(".")
    assert len(told["summary"]) < LONGEST_SUMMARY
    page, _, anchor = told["runbook_url"].partition("#")
    assert ROOT / page == RUNBOOK
    assert anchor == alert["alert"].lower()
    assert anchor in anchors(RUNBOOK)


def test_the_runbook_has_no_section_of_an_alert_that_is_gone() -> None:
    assert {anchor for anchor in anchors(RUNBOOK) if anchor.startswith("farthing")} == {
        name.lower() for name in names()
    }
