"""The dashboards as Grafana gets them: what is committed is what the code builds, and each panel explains itself."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from pages import ROOT, coded, rows

from grafana.__main__ import BOARDS, FOLDER
from grafana.board import Board, as_json
from grafana.health import WHOSE

GRAFANA = ROOT / "grafana"


def built(board: Board) -> Any:
    return json.loads(as_json(board))


def panels(board: Board) -> list[Any]:
    return [panel for panel in built(board)["panels"] if panel["type"] != "row"]


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_what_is_committed_is_what_the_code_builds(board: Board) -> None:
    assert (FOLDER / f"{board.name}.json").read_text() == as_json(board), "run `make dashboards`"


def test_no_dashboard_is_committed_that_the_code_does_not_build() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == {board.name for board in BOARDS}


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_a_dashboard_leads_to_the_others_and_can_be_narrowed_down(board: Board) -> None:
    made = built(board)
    assert made["uid"] == f"farthing-{board.name}"
    assert [link["tags"] for link in made["links"]] == [["farthing"]]
    assert made["links"][0]["includeVars"]
    assert made["links"][0]["keepTime"]
    assert "farthing" in made["tags"]
    assert [variable["name"] for variable in made["templating"]["list"]] == ["datasource", "task", "model"]
    assert [note["name"] for note in made["annotations"]["list"]] == ["Policies"]


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_every_panel_has_a_description_a_unit_thresholds_and_a_place_of_its_own(board: Board) -> None:
    places = set()
    for panel in panels(board):
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"], panel["title"]
        assert {panel["datasource"]["uid"], *(one["datasource"]["uid"] for one in panel["targets"])} == {
            "${datasource}"
        }
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        squares = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert places.isdisjoint(squares), panel["title"]
        places |= squares


def test_every_metric_that_is_asked_for_exists() -> None:
    known = set()
    for row in rows("metrics"):
        name = coded(row[0])[0]
        known.update({f"{name}_{part}" for part in ("bucket", "sum", "count")} if row[1] == "histogram" else {name})
    texts = [as_json(board) for board in BOARDS]
    texts += [path.read_text() for path in (GRAFANA / "alerts").glob("*.yaml")]
    asked = {
        name for text in texts for name in re.findall(r"(?<![\w:])(?:farthing|gen_ai)_[a-z_]+_[a-z]+(?!\w*[:=])", text)
    }
    labels = {label for row in rows("metrics") for label in coded(row[2])}
    assert asked - labels - known <= COMING
    assert len(asked & known) > 20


WHOLE = {
    "Saved per hour": "model",
    "Saved": "model",
    "Saved by task": "model",
    "Bought no answer": "model",
    "Cached part of the input": "task",
}
"""Panels that set a metric against one that does not know the model, or the task, and so can't heed that choice."""


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_the_choice_of_tasks_and_models_is_heeded_wherever_a_metric_knows_them(board: Board) -> None:
    labels_of = {coded(row[0])[0]: coded(row[2]) for row in rows("metrics")}
    variables = {"task": "$task", "model": "$model", "gen_ai_request_model": "$model"}
    heeded = 0
    for one in [one for row in board.rows for one in row.panels]:
        for query in one.queries:
            for name, matchers in re.findall(r"\b((?:farthing|gen_ai)_\w+)({[^}]*})?", query.expr.replace(WHOSE, "")):
                for label in labels_of.get(re.sub("_(bucket|sum|count)$", "", name), labels_of.get(name, ())):
                    if label in variables and WHOLE.get(one.title) != label:
                        assert f'{label}=~"{variables[label]}"' in matchers, f"{one.title}: {name}"
                        heeded += 1
    assert heeded >= 5


COMING: set[str] = set()
"""Metrics that CONTRACT names and the proxy does not tell yet."""


def test_grafana_is_told_where_all_of_it_is() -> None:
    source = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yaml").read_text())["datasources"][0]
    provider = yaml.safe_load((GRAFANA / "provisioning/dashboards/farthing.yaml").read_text())["providers"][0]
    assert source["type"] == "prometheus"
    assert source["isDefault"]
    assert provider["options"]["path"] == "/etc/grafana/dashboards"
