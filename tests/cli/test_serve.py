"""What `serve` says when it starts, in a process of its own."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
from proxy import ServeProcess, eventually

FILES = {"models": "models: {m: {target: openai/gpt-4o-mini}}\n", "default": "task: default\nroute: [{use: m}]\n"}


TRIALS = {
    "models": """
models:
  m: {target: openai/gpt-4o-mini}
  new: {target: openai/gpt-4.1, api_key: "${NEW_KEY}", optional: true}
""",
    "default": """
task: default
learn: {shadow: {model: new, budget_per_day_usd: 1, grade: agree}}
route:
  - use: m
    experiment: {canary: {model: new, share: 0.5}}
""",
}


def logged(folder: Path, files: Mapping[str, str] = FILES, **environ: str) -> list[str]:
    """Return the messages that a proxy with this environment logs until it serves, and is stopped."""
    with ServeProcess(folder, files, "--simulate", "always", environ=environ) as process:
        process.ready()
        process.child.terminate()
        _, said = process.child.communicate(timeout=30)
    return [json.loads(line)["message"] for line in said.splitlines() if line.startswith("{")]


def test_a_mistyped_variable_is_warned_of_with_what_was_meant(tmp_path: Path) -> None:
    said = logged(tmp_path, FARTHING_PROT="4109", FARTHING_ADMINKEY="a-secret", FARTHING_BUDGET_URL="redis://x")
    assert [message for message in said if "FARTHING_" in message] == [
        "FARTHING_ADMINKEY is no setting, so it is not heeded; did you mean FARTHING_ADMIN_KEY?",
        "FARTHING_BUDGET_URL is no setting, so it is not heeded; did you mean FARTHING_BUDGETS_URL?",
        "FARTHING_PROT is no setting, so it is not heeded; did you mean FARTHING_PORT?",
    ]
    assert not any(re.search("a-secret|4109|redis", message) for message in said)


def test_variables_that_others_set_are_not_warned_of(tmp_path: Path) -> None:
    kubernetes = {
        "FARTHING_SERVICE_HOST": "10.0.0.1",
        "FARTHING_SERVICE_PORT": "80",
        "FARTHING_PORT_80_TCP": "tcp://10.0.0.1:80",
        "FARTHING_PORT_80_TCP_ADDR": "10.0.0.1",
    }
    said = logged(tmp_path, FARTHING_REPLICAS="2", FARTHING_KEY="fk-x", FARTHING_OUR_TEAM="search", **kubernetes)
    assert not [message for message in said if "FARTHING_" in message]


def test_a_model_on_trial_that_is_left_out_is_warned_of(tmp_path: Path) -> None:
    assert logged(tmp_path, TRIALS) == [
        "The experiment of default/otherwise can't try 'new', which is left out: NEW_KEY is not set.",
        "What default learns from can't try 'new', which is left out: NEW_KEY is not set.",
    ]


def test_a_model_on_trial_that_is_there_is_not_warned_of(tmp_path: Path) -> None:
    assert logged(tmp_path, TRIALS, NEW_KEY="sk-new") == []


@pytest.mark.parametrize(("log_level", "told"), [("warning", ["info"]), ("error", [])])
def test_policies_in_force_are_told_to_who_hears_of_warnings(tmp_path: Path, log_level: str, told: list[str]) -> None:
    said: list[str] = []
    with ServeProcess(tmp_path, FILES, "--simulate", "always", environ={"FARTHING_LOG_LEVEL": log_level}) as process:
        calls = process.ready()
        assert process.child.stderr is not None
        hearing = threading.Thread(target=said.extend, args=(process.child.stderr,))
        hearing.start()
        before = calls.http.get("/health/ready").json()["policy_revision"]
        edited = "version: 1\ntask: default\nroute: [{name: new, use: m}]\n"
        (tmp_path / "policies" / "default.yaml").write_text(edited)
        eventually(lambda: calls.http.get("/health/ready").json()["policy_revision"] != before, "the edit in force")
        if told:
            eventually(lambda: any("are in force" in line for line in said), "the log's line")
        process.child.terminate()
        hearing.join(30)
    assert [json.loads(line)["level"] for line in said if "are in force" in line] == told
