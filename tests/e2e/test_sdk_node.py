"""The official openai npm package takes the proxy for OpenAI. Installed once from the lock, into `.cache/`."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cache import CACHE, alone_in
from proxy import Proxy

HERE = Path(__file__).parent / "node"
PACKAGE = ("package.json", "package-lock.json", ".npmrc")
MISSING = [tool for tool in ("node", "npm") if shutil.which(tool) is None]

pytestmark = pytest.mark.skipif(
    bool(MISSING) and not os.environ.get("CI"),
    reason=f"{' and '.join(MISSING)} not found: install Node.js 20 or newer to test the npm package",
)


@pytest.fixture(scope="module")
def installed() -> Path:
    """Return a folder with the SDK and the script that uses it."""
    assert not MISSING, f"CI has no {' and '.join(MISSING)}"
    lock = (HERE / "package-lock.json").read_bytes()
    folder = CACHE / "e2e-node" / hashlib.sha256(lock).hexdigest()[:12]
    with alone_in(folder):
        if not (folder / "installed").exists():
            for name in PACKAGE:
                shutil.copy(HERE / name, folder)
            subprocess.run(["npm", "ci", "--ignore-scripts"], cwd=folder, check=True, timeout=300)
            (folder / "installed").touch()
        shutil.copy(HERE / "client.mjs", folder)
    return folder


@pytest.fixture(scope="module")
def answers(installed: Path, proxy: Proxy) -> dict[str, Any]:
    """What the SDK got, by question; see client.mjs."""
    command = ["node", "client.mjs", proxy.base_url]
    done = subprocess.run(command, cwd=installed, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_lock_names_no_registry() -> None:
    lock = json.loads((HERE / "package-lock.json").read_text())
    assert [name for name, package in lock["packages"].items() if "resolved" in package] == []
    assert all("integrity" in package for name, package in lock["packages"].items() if name)


def test_a_whole_answer_is_typed(answers: dict[str, Any]) -> None:
    assert answers["whole"]["object"] == "chat.completion"
    assert answers["whole"]["usage"]["completion_tokens"] == 20


def test_a_stream_is_put_together(answers: dict[str, Any]) -> None:
    assert answers["streamed"]["said"]["0"] == answers["whole"]["choices"][0]["message"]["content"]
    assert answers["streamed"]["usage"] is None


def test_a_stream_ends_with_its_usage_where_asked(answers: dict[str, Any]) -> None:
    assert answers["streamedUsage"]["usage"]["completion_tokens"] == 20


@pytest.mark.parametrize("kind", ["whole", "streamed"])
def test_a_tool_is_called_with_its_arguments(answers: dict[str, Any], kind: str) -> None:
    message = answers["tool"]["choices"][0]["message"] if kind == "whole" else answers["streamedTool"]
    (call,) = message["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    assert json.loads(call["function"]["arguments"])["city"]


def test_three_answers_are_given_where_three_are_asked_for(answers: dict[str, Any]) -> None:
    assert len({choice["message"]["content"] for choice in answers["three"]["choices"]}) == 3
    assert answers["streamedThree"]["said"].keys() == {"0", "1", "2"}


def test_the_models_are_listed_and_the_headers_seen(answers: dict[str, Any]) -> None:
    assert {"auto", "cheap", "dear"} <= set(answers["models"])
    assert float(answers["headers"]["x-farthing-cost-usd"]) > 0


@pytest.mark.parametrize(
    ("question", "wanted"),
    [
        ("wrong", {"type": "BadRequestError", "status": 400, "code": "invalid_request", "param": "n"}),
        ("unknown", {"type": "NotFoundError", "status": 404, "code": "model_not_found", "param": "model"}),
        ("poor", {"type": "APIError", "status": 402, "code": "request_budget_exceeded", "param": None}),
    ],
)
def test_errors_are_typed(answers: dict[str, Any], question: str, wanted: dict[str, Any]) -> None:
    assert answers[question] == wanted


def test_a_stream_that_breaks_off_throws(answers: dict[str, Any]) -> None:
    assert answers["broken"]["code"] == "upstream_error"


def test_a_refusal_for_money_is_not_tried_again(answers: dict[str, Any], proxy: Proxy) -> None:
    refused = [row for row in proxy.rows() if row["refusal"] == "request_budget_exceeded"]
    assert len(refused) == 1
