"""Loading a folder: which of its files count, and what is told of one that can't be used."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from policy.broken_folder import WHOLE
from policy.loading import lines, load, task
from router.difficulty.weights import shipped_weights
from router.policy.reading.load import load_folder
from router.pricing import Catalogue


def test_only_yaml_files_count(catalogue: Catalogue, tmp_path: Path) -> None:
    for name, data in WHOLE.items():
        (tmp_path / name).write_bytes(data)
    for name in (".hidden.yaml", "a.yaml~", ".a.yaml.swp", "notes.txt", "#a.yaml#", "4913"):
        (tmp_path / name).write_text(": broken")
    assert load_folder(tmp_path, catalogue, {}).set is not None


def _warnings(catalogue: Catalogue, folder: Path, files: dict[str, str]) -> dict[str, str]:
    """Put files beside a whole folder; return what is told, by name. The folder serves all the same."""
    for name, data in WHOLE.items():
        (folder / name).write_bytes(data)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    loaded = load_folder(folder, catalogue, {})
    assert loaded.set is not None
    assert all(fault.level == "warning" and (fault.line, fault.column) == (1, 1) for fault in loaded.faults)
    return {Path(fault.file).relative_to(folder).as_posix(): fault.message for fault in loaded.faults}


def test_a_policy_whose_name_keeps_it_from_being_read_is_warned_of(catalogue: Catalogue, tmp_path: Path) -> None:
    names = {
        "support.yaml.txt": "support.yaml",
        "Sales.yml.TXT": "Sales.yaml",
        "LEGAL.YAML": "LEGAL.yaml",
        "spaced.yaml ": "spaced.yaml",
        "swapped.yalm": "swapped.yaml",
        "accounts.json": "accounts.yaml",
        "Models.txt": "models.yaml",
        "accounts": "accounts.yaml",
    }
    said = "this is not read, for its name does not end in .yaml; rename it to"
    assert _warnings(catalogue, tmp_path, dict.fromkeys(names, task())) == {
        name: f'{said} "{meant}"' for name, meant in names.items()
    }


def test_a_policy_in_a_subfolder_that_nothing_includes_is_warned_of(catalogue: Catalogue, tmp_path: Path) -> None:
    rules = "route: [{when: {condition: early}, use: cheap}, {use: premium}]\n"
    moved = (
        "this is in a subfolder and no file includes it, so it is not read; move it into the folder itself, or begin "
    )
    moved += "its name or its folder's with a dot where it is set aside"
    assert _warnings(
        catalogue,
        tmp_path,
        {
            "teams/support.yaml": task(),
            "teams/eu/accounts.yml": "# Who may call.\nversion: 1\naccounts: {}\n",
            "shared/late.yaml": "version: 1\nconditions: {late: {hour: {gte: 22}}}\n",
            "shared/used.yaml": "version: 1\nconditions: {early: {hour: {lt: 6}}}\n",
            "user.yaml": task(f"include: shared/used.yaml\n{rules}"),
        },
    ) == {
        "teams/support.yaml": moved,
        "teams/eu/accounts.yml": moved,
        "shared/late.yaml": "no file includes this fragment, so it is not read",
    }


def test_what_is_set_aside_or_is_no_policy_is_passed_over_in_silence(catalogue: Catalogue, tmp_path: Path) -> None:
    names = (
        *("README.md", "notes.txt", "LICENSE", "schema.json", "weights.json", "requests.jsonl", "models.md"),
        *("accounts.yaml.example", "old.yaml.bak", "support.yaml~", ".support.yaml", ".support.yaml.swp", "#a.yaml#"),
        *("support.yaml.orig", "support.yaml.disabled", "support.yaml.j2"),
        *(".git/support.yaml", "..2026_11_22/support.yaml", "teams/.support.yaml", "teams/README.md"),
    )
    elsewhere = {"deploy/compose.yaml": "services:\n  proxy:\n    models: [x]\n", "ci/test.yml": "jobs: {}\n"}
    assert _warnings(catalogue, tmp_path, dict.fromkeys(names, task()) | elsewhere) == {}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("{}", "Object missing required field `format`"),
        (b"\xff", "JSON is malformed: invalid character (byte 0)"),
        ('{"x": ' + "[" * 100_000, "maximum recursion depth exceeded while deserializing an object"),
    ],
)
def test_a_file_of_weights_that_can_not_be_used_is_a_fault(catalogue: Catalogue, data: str | bytes, said: str) -> None:
    assert lines(load(catalogue, {"difficulty.json": data})) == [
        f"difficulty.json:1:1: error: this is not a file of weights ({said}). Make one with farthing difficulty train"
    ]


def test_a_module_of_checks_that_exits_when_it_is_imported_is_a_fault(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "checks_that_exit.py").write_text("import sys\nsys.exit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    rules = 'route: [{use: cheap, verify: {python: "checks_that_exit:is_fine", buffer: true}}]\n'
    (told,) = lines(load(catalogue, {"support.yaml": task(rules)}))
    assert told == (
        "support.yaml:3:39: error: checks_that_exit:is_fine can't be imported: SystemExit: 0; "
        "put its folder on PYTHONPATH"
    )


CHECKS = """
import functools

def is_fine(request, answer):
    return True

async def is_fine_later(request, answer):
    return True

def yields(request, answer):
    yield True

async def yields_later(request, answer):
    yield True

class Counted:
    def __call__(self, request, answer):
        yield True

class Checked:
    def __init__(self, request, answer):
        self.passed = False

    @staticmethod
    def of_answer(request, answer):
        return True

class Judged(Checked):
    def __bool__(self):
        return self.passed

counted = Counted()
partly = functools.partial(yields, {})
bound = functools.partial(lambda least, request, answer: True, 3)

def with_a_store(check):
    @functools.wraps(check)
    def asked(request, answer):
        return check({}, request, answer)
    return asked

@with_a_store
def decorated(store, request, answer):
    return True

def of_answer_alone(answer):
    return True

def with_a_limit(request, answer, least=3, *, most=9):
    return True

def by_name(*, request, answer):
    return True

LIMIT = 3
"""
YIELDS = "is a generator: what it returns counts as true, so that every answer would pass; `return` True or False"
CLASS = "is a class without `__bool__`: each of it counts as true, so that every answer would pass; name a function"
TWO = "can't be called with a request and an answer: it must take two arguments"


@pytest.mark.parametrize(
    ("check", "said"),
    [
        ("yields", YIELDS),
        ("yields_later", YIELDS),
        ("counted", YIELDS),
        ("partly", YIELDS),
        ("Checked", CLASS),
        ("of_answer_alone", TWO),
        ("by_name", TWO),
        ("LIMIT", "is no function"),
    ],
)
def test_a_check_of_ones_own_that_can_not_tell_answers_apart_is_a_fault(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: str, said: str
) -> None:
    (tmp_path / "own_checks_at_load.py").write_text(CHECKS)
    monkeypatch.syspath_prepend(tmp_path)
    rules = f'route: [{{use: cheap, verify: {{python: "own_checks_at_load:{check}", buffer: true}}}}]\n'
    assert lines(load(catalogue, {"support.yaml": task(rules)})) == [
        f"support.yaml:3:39: error: own_checks_at_load:{check} {said}"
    ]


@pytest.mark.parametrize(
    "check", ["is_fine", "is_fine_later", "Checked.of_answer", "Judged", "bound", "with_a_limit", "decorated"]
)
def test_a_check_of_ones_own_may_be_whatever_takes_both_and_says_yes_or_no(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: str
) -> None:
    (tmp_path / "own_checks_at_load.py").write_text(CHECKS)
    monkeypatch.syspath_prepend(tmp_path)
    rules = f'route: [{{use: cheap, verify: {{python: "own_checks_at_load:{check}", buffer: true}}}}]\n'
    assert lines(load(catalogue, {"support.yaml": task(rules)})) == []


def test_a_text_that_is_almost_a_comparison_holds_nothing_up(catalogue: Catalogue) -> None:
    almost = "= 1   " * 11 + "!"  # each comparison more took four times as long
    rules = f"route: [{{when: {{language: '{almost}'}}, use: cheap}}, {{use: cheap}}]\n"
    started = time.perf_counter()
    (told,) = lines(load(catalogue, {"support.yaml": task(rules)}))
    assert time.perf_counter() - started < 0.5
    assert "`language` is two or three small letters" in told


@pytest.mark.parametrize(
    ("name", "value"),
    [("step", 1e6), ("step", -1.0), ("spread", 0.0), ("spread", -1.0), ("reference", [1.0, *[0.0] * 100])],
)
def test_weights_that_no_training_gives_are_a_fault(
    catalogue: Catalogue, name: str, value: float | list[float]
) -> None:
    weights = replace(shipped_weights(), **{name: value})
    (told,) = lines(load(catalogue, {"difficulty.json": msgspec.json.encode(weights)}))
    assert told.startswith("difficulty.json:1:1: error: this is a damaged file of weights")


def test_a_folder_that_is_missing_or_empty_is_a_fault(catalogue: Catalogue, tmp_path: Path) -> None:
    missing = load_folder(tmp_path / "none", catalogue, {})
    (fault,) = lines(missing)
    assert fault.startswith(f"{tmp_path / 'none'}:1:1: error: the folder can't be read: No such file or directory")
    assert fault.endswith("make one with `farthing init`")
    empty = load_folder(tmp_path, catalogue, {})
    assert empty.set is None
    assert any("models.yaml is missing" in fault.message for fault in empty.faults)


def test_what_is_no_file_is_a_fault_and_never_waited_for(catalogue: Catalogue, tmp_path: Path) -> None:
    for name, data in WHOLE.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "folder.yaml").mkdir()
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "gone.yaml").symlink_to(tmp_path / "nowhere")
    found = {(Path(fault.file).name, fault.message) for fault in load_folder(tmp_path, catalogue, {}).faults}
    assert found == {
        ("folder.yaml", "this is not a file"),
        ("pipe.yaml", "this is not a file"),
        ("gone.yaml", "this is a link to a file that is not there"),
    }


def test_two_spellings_of_one_file_are_a_fault(catalogue: Catalogue) -> None:
    loaded = load(catalogue, {"models.yml": WHOLE["models.yaml"]})
    assert lines(loaded) == ["models.yml:1:1: error: models.yaml is there as well; keep one of the two"]


def test_a_folder_without_a_default_task_is_warned_about(catalogue: Catalogue) -> None:
    loaded = load(catalogue, {"a-first.yaml": task(name="other")})
    assert lines(loaded) == ['.:1:1: warning: there is no task "default", so a request that names none may be refused']
