"""`check`, `test`, `schema` and `init`: the commands that are about a folder of policies."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from xml.etree import ElementTree

import pytest
from jsonschema import Draft202012Validator

from cli.running import DEFAULT, ROOT, Run


def _closed(required: tuple[str, ...], **properties: object) -> dict[str, object]:
    return {"type": "object", "required": required, "additionalProperties": False, "properties": properties}


_TEXT = {"type": "string", "minLength": 1}
_MESSAGE = _closed(("text",), text=_TEXT)
_COUNT = {"type": "integer", "minimum": 1}
SARIF = Draft202012Validator(
    _closed(
        ("version", "runs"),
        **{"$schema": {"type": "string", "format": "uri"}},
        version={"const": "2.1.0"},
        runs={
            "type": "array",
            "items": _closed(
                ("tool", "results"),
                tool=_closed(
                    ("driver",),
                    driver=_closed(
                        ("name",),
                        name=_TEXT,
                        semanticVersion=_TEXT,
                        rules={
                            "type": "array",
                            "uniqueItems": True,
                            "items": _closed(("id",), id=_TEXT, shortDescription=_MESSAGE),
                        },
                    ),
                ),
                columnKind={"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                originalUriBaseIds={
                    "type": "object",
                    "additionalProperties": _closed((), uri={"type": "string", "pattern": "^file:///.*/$"}),
                },
                results={
                    "type": "array",
                    "items": _closed(
                        ("message",),
                        ruleId=_TEXT,
                        ruleIndex={"type": "integer", "minimum": -1},
                        level={"enum": ["none", "note", "warning", "error"]},
                        message=_MESSAGE,
                        locations={
                            "type": "array",
                            "items": _closed(
                                (),
                                physicalLocation=_closed(
                                    ("artifactLocation",),
                                    artifactLocation=_closed(
                                        (),
                                        uri={"type": "string", "pattern": "^[^ \\\\]+$"},
                                        uriBaseId=_TEXT,
                                    ),
                                    region=_closed(("startLine",), startLine=_COUNT, startColumn=_COUNT),
                                ),
                            ),
                        },
                    ),
                },
            ),
        },
    )
)
"""What OASIS's schema of SARIF 2.1.0 says of the parts that are written here."""


def test_the_shipped_policies_have_no_fault(process: Run) -> None:
    ran = process("check", "policies")
    assert ran.status == 0
    assert ran.out.splitlines()[-1] == "policies/: 6 tasks, 5 models: no fault"


def test_check_tells_every_fault_in_one_run_sorted_with_its_place(farthing: Run, folder: Path) -> None:
    (folder / "default.yaml").write_text(DEFAULT.replace("baseline: premium", "baseline: dear\nbugdet: {}"))
    (folder / "support.yaml").write_text("version: 1\ntask: support\nroute:\n  - use: chaep\n")
    ran = farthing("check", folder)
    assert ran.status == 1
    lines = ran.out.splitlines()
    assert [line.split(": ")[0] for line in lines[:-1]] == [
        f"{folder / 'default.yaml'}:3:11",
        f"{folder / 'default.yaml'}:4:1",
        f"{folder / 'support.yaml'}:4:10",
    ]
    assert lines[-1] == f"{folder}/: 3 errors"


def test_a_warning_alone_is_no_failure(farthing: Run, folder: Path) -> None:
    (folder / "default.yaml").rename(folder / "other.yaml")
    (folder / "other.yaml").write_text(DEFAULT.replace("task: default", "task: other"))
    ran = farthing("check", folder)
    assert ran.status == 0
    assert "warning: " in ran.out
    assert ran.out.splitlines()[-1] == f"{folder}/: 1 task, 2 models: 1 warning"


def test_check_as_json(farthing: Run, folder: Path) -> None:
    whole = farthing("check", folder, "--json")
    assert (whole.status, whole.json) == (0, {"faults": [], "tasks": ["default"], "models": ["cheap", "premium"]})
    (folder / "models.yaml").write_text("version: 1\nmodels: {}\n")
    broken = farthing("check", folder, "--json")
    assert broken.status == 1
    fault = broken.json["faults"][0]
    assert fault.keys() == {"file", "line", "column", "level", "message"}
    assert (fault["level"], Path(fault["file"]).parent) == ("error", folder)


def test_strict_makes_a_warning_a_failure(farthing: Run, folder: Path) -> None:
    assert farthing("check", folder, "--strict").status == 0
    (folder / "_unused.yaml").write_text("version: 1\n")
    assert farthing("check", folder).status == 0
    assert farthing("check", folder, "--strict").status == 1


def test_check_as_sarif_gives_each_fault_its_place_in_the_project(farthing: Run, tmp_path: Path) -> None:
    folder = tmp_path / "our policies"
    assert farthing("init", folder).status == 0
    (folder / "code.yaml").write_text("version: 1\ntask: code\nroute: [{use: chaep}]\n")
    (folder / "_x.yaml").write_text("version: 1\n")
    ran = farthing("check", "our policies", "--sarif", cwd=tmp_path)
    assert ran.status == 1
    assert list(SARIF.iter_errors(ran.json)) == []
    (run,) = ran.json["runs"]
    assert run["originalUriBaseIds"] == {"%SRCROOT%": {"uri": f"{tmp_path.as_uri()}/"}}
    assert [
        (
            result["level"],
            run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"],
            result["locations"][0]["physicalLocation"],
        )
        for result in run["results"]
    ] == [
        (
            level,
            f"policy-{level}",
            {
                "artifactLocation": {"uri": f"our%20policies/{name}", "uriBaseId": "%SRCROOT%"},
                "region": {"startLine": line, "startColumn": column},
            },
        )
        for level, name, line, column in [("warning", "_x.yaml", 1, 1), ("error", "code.yaml", 3, 15)]
    ]
    elsewhere = farthing("check", folder, "--sarif").json
    assert list(SARIF.iter_errors(elsewhere)) == []
    assert elsewhere["runs"][0]["originalUriBaseIds"] == {"POLICIES": {"uri": f"{folder.as_uri()}/"}}
    place = elsewhere["runs"][0]["results"][1]["locations"][0]["physicalLocation"]["artifactLocation"]
    assert place == {"uri": "code.yaml", "uriBaseId": "POLICIES"}


def test_sarif_tells_of_the_folder_itself_without_a_line(farthing: Run, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    found = farthing("check", "none", "--sarif", cwd=tmp_path).json
    assert list(SARIF.iter_errors(found)) == []
    place = found["runs"][0]["results"][0]["locations"][0]["physicalLocation"]
    assert place == {"artifactLocation": {"uri": "none/", "uriBaseId": "%SRCROOT%"}}


def test_sarif_names_a_file_that_is_a_link_by_its_place_in_the_folder(process: Run, tmp_path: Path) -> None:
    folder = tmp_path / "project" / "policies"
    assert process("init", folder).status == 0
    shared = tmp_path / "shared.yaml"
    shared.write_text("version: 1\ntask: code\nroute: [{use: chaep}]\n")
    (folder / "code.yaml").unlink()
    (folder / "code.yaml").symlink_to(shared)
    for name in ("policies", folder):
        found = process("check", name, "--sarif", cwd=tmp_path / "project").json
        place = found["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]
        assert place == {"uri": "policies/code.yaml", "uriBaseId": "%SRCROOT%"}


def test_json_and_sarif_at_once_are_bad_usage(farthing: Run, folder: Path) -> None:
    assert farthing("check", folder, "--json", "--sarif").status == 2


@pytest.mark.parametrize("command", ["check", "test"])
def test_a_folder_that_is_not_there_is_bad_usage(farthing: Run, tmp_path: Path, command: str) -> None:
    ran = farthing(command, tmp_path / "nowhere")
    assert ran.status == 2
    assert "farthing init" in ran.err


def test_the_folder_comes_from_the_environment(process: Run, folder: Path, tmp_path: Path) -> None:
    ran = process("check", cwd=tmp_path, FARTHING_POLICIES=str(folder))
    assert (ran.status, ran.out) == (0, f"{folder}/: 1 task, 2 models: no fault\n")


def test_the_tests_of_the_shipped_policies_hold(farthing: Run) -> None:
    ran = farthing("test", "policies", "--json")
    assert ran.status == 0
    assert ran.json["failed"] == 0
    assert ran.json["passed"] == len(ran.json["results"]) >= 20
    assert all(result.keys() >= {"file", "name", "passed", "message"} for result in ran.json["results"])


def test_their_outcome_does_not_depend_on_what_this_machine_has(farthing: Run) -> None:
    with_local = farthing("test", "--json", FARTHING_LOCAL_URL="http://127.0.0.1:9/v1", FARTHING_TUNED_API_KEY="k")
    assert with_local.json == farthing("test", "--json").json


def test_a_failing_test_says_what_was_expected_and_what_came(farthing: Run, folder: Path) -> None:
    (folder / "default.yaml").write_text(DEFAULT.replace("rule: otherwise, use: cheap", "rule: long, use: premium"))
    ran = farthing("test", folder)
    assert ran.status == 1
    assert f"{folder / 'default.yaml'}:11:5: a greeting is cheap" in ran.out
    assert "expected rule long, got otherwise (long: input_tokens > 1000: no (is 8))" in ran.out
    assert "expected use premium, got cheap" in ran.out
    assert ran.out.splitlines()[-1] == "0 passed, 1 failed of 1 test"
    assert farthing("test", folder, "--json").json["failed"] == 1


def test_a_broken_folder_runs_no_test_and_tells_its_faults(farthing: Run, folder: Path) -> None:
    (folder / "default.yaml").write_text(DEFAULT.replace("use: cheap\n", "use: chaep\n", 1))
    ran = farthing("test", folder)
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.startswith(f"{folder / 'default.yaml'}:9:10: ")
    as_json = farthing("test", folder, "--json")
    assert as_json.status == 1
    assert len(as_json.json["faults"]) == 1


def _asked_from_a_file(folder: Path, name: str) -> None:
    text = DEFAULT.replace("request: {messages: [{role: user, content: Hello}]}", f"request: {name}")
    (folder / "default.yaml").write_text(text)


@pytest.mark.parametrize(
    "content",
    ['{"messages": [{"role": "user", "content": "Hello"}]}', '[{"role": "user", "content": "Hello"}]', "Hello\n"],
)
def test_a_request_may_stand_in_a_file_beside_the_policy(farthing: Run, folder: Path, content: str) -> None:
    (folder / "requests").mkdir()
    (folder / "requests" / "hello.json").write_text(content)
    _asked_from_a_file(folder, "requests/hello.json")
    assert farthing("test", folder, "--json").json["passed"] == 1


def test_a_request_in_words_is_told_from_a_file_that_is_missing(farthing: Run, folder: Path) -> None:
    _asked_from_a_file(folder, "Where is my parcel?")
    (result,) = farthing("test", folder, "--json").json["results"]
    assert result["message"].endswith("; a request in words is `{messages: [{role: user, content: …}]}`")


def test_a_request_file_that_is_missing_or_broken_fails_even_a_test_of_a_refusal(farthing: Run, folder: Path) -> None:
    _asked_from_a_file(folder, "hello.json")
    text = (folder / "default.yaml").read_text()
    expected = "{rule: otherwise, use: cheap, cost_usd: {lte: 0.001}}"
    assert expected in text
    (folder / "default.yaml").write_text(text.replace(expected, "{refused: invalid_request}"))
    ran = farthing("test", folder, "--json")
    assert (ran.status, ran.json["failed"]) == (1, 1)
    assert f"{folder / 'hello.json'} can't be read" in ran.json["results"][0]["message"]
    (folder / "hello.json").write_text('{"messages": [')
    assert "begins like JSON" in farthing("test", folder, "--json").json["results"][0]["message"]


def test_the_results_as_junit_name_the_file_the_test_and_the_difference(farthing: Run, folder: Path) -> None:
    (folder / "default.yaml").write_text(DEFAULT.replace("rule: otherwise", "rule: long"))
    file = folder / "results.xml"
    assert farthing("test", folder, "--junit", file).status == 1
    (suite,) = ElementTree.parse(file).getroot()
    assert suite.attrib == {"name": str(folder / "default.yaml"), "tests": "1", "failures": "1", "errors": "0"}
    assert (suite[0].get("name"), suite[0].get("classname"), suite[0].get("line")) == (
        "a greeting is cheap", "default", "11",
    )  # fmt: skip
    assert "expected rule long, got otherwise" in str(suite[0][0].text)


def test_broken_policies_are_errors_in_junit(farthing: Run, folder: Path) -> None:
    (folder / "default.yaml").write_text(DEFAULT.replace("use: cheap\n", "use: chaep\n", 1))
    file = folder / "results.xml"
    assert farthing("test", folder, "--junit", file).status == 1
    (suite,) = ElementTree.parse(file).getroot()
    assert (suite.get("tests"), suite.get("errors")) == ("1", "1")
    assert "chaep" in str(suite[0][0].get("message"))


@pytest.mark.parametrize(
    ("first", "told_first", "then", "told_then", "statuses"),
    [
        (DEFAULT, "1 passed, 0 failed", DEFAULT.replace("rule: otherwise", "rule: long"), "0 passed, 1 failed", {1}),
        (DEFAULT + "tsets: []\n", "Watching", DEFAULT, "1 passed, 0 failed", {0, 1}),
    ],
    ids=["a test that fails then", "a folder that is broken first"],
)
def test_watching_runs_the_tests_again_after_each_change(
    folder: Path, first: str, told_first: str, then: str, told_then: str, statuses: set[int]
) -> None:
    (folder / "default.yaml").write_text(first)
    command = [sys.executable, "-u", "-m", "router", "test", str(folder), "--watch"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        output = child.stdout

        def until(said: str) -> None:
            assert any(said in line for line in output), f"it never said {said!r}"

        too_late = threading.Timer(60, child.kill)
        too_late.start()
        seen = threading.Event()
        # The watch begins a moment after it says so, and an edit before that is not seen: hence edits until one is.
        editor = threading.Thread(target=_edited_until, args=(folder / "default.yaml", then, seen))
        try:
            until(told_first)
            editor.start()
            until(told_then)
            seen.set()
            editor.join()
            child.send_signal(signal.SIGINT)
            # An interrupt may come in the midst of one more run, which then has not passed.
            assert child.wait(30) in statuses
            errors = child.stderr.read()
            assert "Traceback" not in errors
            assert ("tsets" in errors) == ("tsets" in first)
        finally:
            seen.set()
            too_late.cancel()
            child.kill()


def _edited_until(file: Path, text: str, seen: threading.Event) -> None:
    number = 0
    while not seen.wait(0.2):
        number += 1
        file.write_text(f"{text}# {number}\n")


def test_schema_prints_what_is_shipped_for_editors(farthing: Run) -> None:
    ran = farthing("schema")
    assert ran.status == 0
    assert ran.json == json.loads((ROOT / "policies" / "schema.json").read_text("utf-8"))


def test_init_writes_a_folder_that_passes_check_and_test(farthing: Run, tmp_path: Path) -> None:
    made = tmp_path / "new" / "policies"
    ran = farthing("init", made)
    assert ran.status == 0
    assert f"wrote {made / 'default.yaml'}" in ran.out
    assert {path.name for path in made.iterdir()} == {path.name for path in (ROOT / "policies").iterdir()}
    assert farthing("check", made).status == 0
    assert farthing("test", made).status == 0


def test_init_leaves_out_what_was_added_to_the_checkout(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "router", tmp_path / "router", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "policies", tmp_path / "policies")
    (tmp_path / "policies" / "accounts.yaml").write_text("version: 1\n")
    (tmp_path / "policies" / "mails.yaml").write_text(DEFAULT.replace("task: default", "task: mails"))
    command = [sys.executable, "-m", "router", "init", "made"]
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    subprocess.run(command, cwd=tmp_path, env=environ, check=True, capture_output=True, timeout=60)
    shipped = {path.name for path in (ROOT / "policies").iterdir()}
    assert {path.name for path in (tmp_path / "made").iterdir()} == shipped


def test_init_never_touches_a_folder_that_holds_policies(farthing: Run, folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    ran = farthing("init", folder)
    assert ran.status == 1
    assert "default.yaml, models.yaml" in ran.err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_init_keeps_every_other_file_that_is_there(farthing: Run, tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text("mine")
    assert farthing("init", tmp_path).status == 0
    assert (tmp_path / "schema.json").read_text() == "mine"
    assert (tmp_path / "models.yaml").exists()
