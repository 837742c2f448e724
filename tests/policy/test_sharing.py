"""Named conditions and fragments: what a name stands for, and every way in which sharing can go wrong."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from policy.broken_folder import WHOLE
from router.policy.facts import Facts
from router.policy.reading.load import Loaded, load_folder
from router.pricing import Catalogue


def load(catalogue: Catalogue, folder: Path, files: dict[str, str]) -> Loaded:
    for name, text in {**{name: data.decode() for name, data in WHOLE.items()}, **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"version: 1\n{text}" if name in files else text)
    return load_folder(folder, catalogue, {})


def lines(loaded: Loaded, folder: Path) -> list[str]:
    return [str(fault).removeprefix(f"{folder}/") for fault in loaded.faults]


TASK = "task: s\ninclude: {}\nroute:\n  - when: {{condition: {}}}\n    use: cheap\n  - use: premium\n"


def test_a_named_condition_holds_as_what_it_stands_for_and_says_its_name(catalogue: Catalogue, tmp_path: Path) -> None:
    body = (
        "task: s\nconditions:\n  late: {any: [{hour: {gte: 22}}, {hour: {lt: 6}}]}\n  late-and-long: "
        "{condition: late, input_tokens: {gt: 100}}\nroute:\n  - when: {condition: [late-and-long, late], stream: true}"
        "\n    use: cheap\n  - use: premium\n"
    )
    loaded = load(catalogue, tmp_path, {"s.yaml": body})
    assert lines(loaded, tmp_path) == []
    policy = loaded.checked().policies["s"]
    assert policy.needs == {"hour", "input_tokens", "stream"}
    when = policy.rules[0].when
    assert when.holds(Facts(input_tokens=101, hour=23, stream=True))
    assert not when.holds(Facts(input_tokens=101, hour=21, stream=True))
    assert when.explain(Facts(input_tokens=5, hour=5)).startswith(
        "condition late-and-long: no (condition late: yes (hour ≥ 22: no (is 5) or hour < 6: yes (is 5)) and "
    )


@pytest.mark.parametrize("name", ["_shared.yaml", "shared/night.yaml", "shared/deep/night.yml"])
def test_a_fragment_brings_conditions_and_prompts(catalogue: Catalogue, tmp_path: Path, name: str) -> None:
    fragment = "conditions: {night: {hour: {gte: 22}}}\nprompts: {cheap: {system: Be short.}}\n"
    loaded = load(catalogue, tmp_path, {"s.yaml": TASK.format(name, "night"), name: fragment})
    assert lines(loaded, tmp_path) == []
    policy = loaded.checked().policies["s"]
    assert policy.prompts == {"cheap": "Be short."}
    assert policy.rules[0].when.holds(Facts(input_tokens=1, hour=22))


def test_a_fragment_s_path_is_taken_from_the_file_that_names_it(catalogue: Catalogue, tmp_path: Path) -> None:
    files = {
        "s.yaml": TASK.format("a/one.yaml", "night"),
        "a/one.yaml": "include: [two.yaml, ../_three.yaml]\nconditions: {night: {condition: [late, big]}}\n",
        "a/two.yaml": "conditions: {late: {hour: {gte: 22}}}\n",
        "_three.yaml": "include: a/two.yaml\nconditions: {big: {condition: late, input_tokens: {gt: 5}}}\n",
    }
    assert lines(load(catalogue, tmp_path, files), tmp_path) == []


def test_a_change_of_a_fragment_is_another_revision(catalogue: Catalogue, tmp_path: Path) -> None:
    files = {"s.yaml": TASK.format("a/x.yaml", "night"), "a/x.yaml": "conditions: {night: {hour: {gte: 22}}}\n"}
    first = load(catalogue, tmp_path, files).checked().revision
    files["a/x.yaml"] = "conditions: {night: {hour: {gte: 21}}}\n"
    assert load(catalogue, tmp_path, files).checked().revision != first


def test_a_file_in_a_subfolder_counts_only_where_it_is_included(catalogue: Catalogue, tmp_path: Path) -> None:
    files = {"s.yaml": "task: s\nroute: [{use: cheap}]\n"}
    first = load(catalogue, tmp_path, files).checked().revision
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "s.yaml").write_text(": broken")
    assert load_folder(tmp_path, catalogue, {}).checked().revision == first


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"s.yaml": TASK.format("../x.yaml", "night")},
         ['s.yaml:3:10: error: "../x.yaml" is outside the folder of policies; keep what is shared inside']),
        ({"s.yaml": TASK.format("_a.yaml", "night"), "_a.yaml": "include: _b.yaml\n", "_b.yaml": "conditions: {"},
         [("_b.yaml:3:1: error: not valid YAML: did not find expected node content while parsing a flow node, "
          "begun on line 3")]),
        ({"s.yaml": "task: s\ninclude: /etc/hostname.yaml\nroute: [{use: cheap}]\n"},
         ['s.yaml:3:10: error: "/etc/hostname.yaml" is outside the folder of policies; keep what is shared inside']),
        ({"s.yaml": "task: s\ninclude: a/../../x.yaml\nroute: [{use: cheap}]\n"},
         ['s.yaml:3:10: error: "a/../../x.yaml" is outside the folder of policies; keep what is shared inside']),
        ({"s.yaml": "task: s\ninclude: [_shraed.yaml]\nroute: [{use: cheap}]\n", "_shared.yaml": ""},
         ["_shared.yaml:1:1: warning: no file includes this fragment, so it does nothing",
          's.yaml:3:11: error: there is no file "_shraed.yaml"; did you mean "_shared.yaml"?']),
        ({"s.yaml": "task: s\ninclude: a-first.yaml\nroute: [{use: cheap}]\n"},
         ['s.yaml:3:10: error: "a-first.yaml" is no fragment: begin its name with _, or put it into a subfolder']),
        ({"s.yaml": "task: s\ninclude: a/1.yaml\nroute: [{use: cheap}]\n", "a/1.yaml": "include: 2.yaml\n",
          "a/2.yaml": "include: 1.yaml\n"},
         ["a/2.yaml:2:10: error: this includes itself: a/1.yaml → a/2.yaml → a/1.yaml"]),
        ({"s.yaml": TASK.format("_a.yaml", "night"), "_a.yaml": "conditions: {night: {hour: 25}}\nroute: []\n"},
         ["_a.yaml:2:28: error: `hour` is from 0 to 23, so 25 says nothing",
          "_a.yaml:3:1: error: a fragment has no `route`; a task's file has, and its name has no _"]),
        ({"s.yaml": TASK.format("_a.yaml", "night") + "conditions: {night: {hour: 1}}\n",
          "_a.yaml": "conditions: {night: {hour: 2}}\n"},
         ['s.yaml:8:14: error: the condition "night" is in _a.yaml already']),
        ({"s.yaml": TASK.format("_a.yaml", "night") + "prompts: {cheap: {system: x}}\n",
          "_a.yaml": "conditions: {night: {hour: 2}}\nprompts: {cheap: {system: y}}\n"},
         ['s.yaml:8:11: error: the prompt for "cheap" is in _a.yaml already']),
        ({"s.yaml": TASK.format("_a.yaml", "night"), "_a.yaml": "conditions: {night: {condition: big}}\n"},
         ['_a.yaml:2:33: error: unknown condition "big" (known: night)']),
    ],
)  # fmt: skip
def test_sharing_gone_wrong_is_told_in_its_place(
    catalogue: Catalogue, tmp_path: Path, files: dict[str, str], said: list[str]
) -> None:
    assert lines(load(catalogue, tmp_path, files), tmp_path) == said


def test_names_of_names_end_somewhere(catalogue: Catalogue, tmp_path: Path) -> None:
    chain = "".join(f"  c{n}: {{condition: c{n + 1}}}\n" for n in range(500)) + "  c500: {hour: 1}\n"
    doubling = "  d0: {hour: 1}\n" + "".join(f"  d{n}: {{condition: [d{n - 1}, d{n - 1}]}}\n" for n in range(1, 19))
    rules = "route: [{when: {condition: [c0, d18]}, use: cheap}, {use: cheap}]\n"
    said = lines(load(catalogue, tmp_path, {"s.yaml": f"task: s\nconditions:\n{chain}{doubling}{rules}"}), tmp_path)
    assert any("conditions rest on each other more than 20 deep" in line for line in said)
    assert "s.yaml:515:9: error: more than 1,000 comparisons, names put in" in said


def test_fragments_of_fragments_end_somewhere(catalogue: Catalogue, tmp_path: Path) -> None:
    files = {f"a/{n}.yaml": f"include: {n + 1}.yaml\n" for n in range(100)}
    said = lines(
        load(catalogue, tmp_path, {"s.yaml": "task: s\ninclude: a/0.yaml\nroute: [{use: cheap}]\n", **files}), tmp_path
    )
    assert "a/18.yaml:2:10: error: files include each other more than 20 deep" in said


def test_five_thousand_rules_are_read_in_seconds(catalogue: Catalogue, tmp_path: Path) -> None:
    rules = "".join(f"  - {{when: {{input_tokens: {n}, hour: {{lt: 9}}}}, use: cheap}}\n" for n in range(5_000))
    started = time.perf_counter()
    loaded = load(catalogue, tmp_path, {"s.yaml": f"task: s\nroute:\n{rules}  - use: cheap\n"})
    took_s = time.perf_counter() - started
    print(f"{took_s:.1f} s")
    assert loaded.set is not None
    assert took_s < 60
