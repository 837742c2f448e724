"""What all commands share, and the small ones: help, version, `keys` and `spend` without a proxy."""

from __future__ import annotations

import asyncio
import hashlib
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from msgspec import structs

from cli.running import Run
from router.cli.table import Column, columns_within, dollars
from router.ledger.open import open_store
from router.ledger.rows import Row, row_of
from router.values import Certainty, Ending, Outcome, Usage

COMMANDS = (
    "serve", "check", "test", "explain", "replay", "evaluate", "spend", "init", "demo", "schema",
    "keys", "keys new", "difficulty", "difficulty train", "difficulty show",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(farthing: Run, command: str) -> None:
    ran = farthing(*command.split(), "--help")
    assert ran.status == 0
    assert "Example: " in ran.out


def test_the_command_alone_prints_its_help(process: Run) -> None:
    ran = process()
    assert ran.status == 0
    assert all(command in ran.out for command in ("serve", "check", "demo", "keys"))


def test_it_tells_its_version(farthing: Run) -> None:
    ran = farthing("--version")
    assert ran.status == 0
    assert re.fullmatch(r"farthing \d+\.\d+\.\d+\S*\n", ran.out)


def test_an_unknown_command_is_bad_usage(farthing: Run) -> None:
    assert farthing("chekc").status == 2


def test_output_survives_a_terminal_that_knows_only_ascii(process: Run, tmp_path: Path) -> None:
    ran = process("explain", "-", stdin="Ciao", PYTHONIOENCODING="ascii")
    assert ran.status == 0
    assert ran.out.isascii()


def test_a_new_key_matches_the_line_for_accounts_yaml(process: Run) -> None:
    ran = process("keys", "new", "--account", "search-team")
    assert ran.status == 0
    key = re.search(r"^  (fk-[A-Za-z0-9_-]{32,})$", ran.out, re.MULTILINE)
    assert key
    line = yaml.safe_load(ran.out[ran.out.index("  search-team:") :])
    assert line == {"search-team": {"keys": [f"sha256:{hashlib.sha256(key[1].encode()).hexdigest()}"]}}


def test_keys_are_never_the_same(farthing: Run) -> None:
    made = [farthing("keys", "new", "--account", "a", "--json").json for _ in range(3)]
    assert len({one["key"] for one in made}) == 3
    assert all(one["sha256"] == f"sha256:{hashlib.sha256(one['key'].encode()).hexdigest()}" for one in made)


@pytest.mark.parametrize("name", ["", "-x", "a b", "ü", "a" * 65, 'x"]\n'])
def test_a_name_that_accounts_yaml_refuses_gets_no_key(farthing: Run, name: str) -> None:
    ran = farthing("keys", "new", f"--account={name}")
    assert (ran.status, ran.out) == (2, "")


def _outcome(number: int, at: datetime, task: str, charged_nusd: int) -> Outcome:
    return Outcome(
        id=f"{number:032x}",
        at=at,
        account=None,
        task=task,
        rule="otherwise",
        policy_revision="0" * 12,
        requested_model="auto",
        ending=Ending.ANSWERED,
        certainty=Certainty.REPORTED,
        routed_model="cheap",
        provider="openai",
        kind="routine",
        usage=Usage(input_tokens=1_000, output_tokens=100),
        charged_nusd=charged_nusd,
        baseline_nusd=10 * charged_nusd,
    )


@pytest.fixture
def recorded(tmp_path: Path) -> str:
    """The URL of a ledger with three requests, the oldest of ten days ago."""
    url = f"sqlite:///{tmp_path / 'recorded.db'}"
    now = datetime.now(UTC)
    store = open_store(url)
    rows = [
        row_of(_outcome(1, now - timedelta(days=10), "support", 5_000_000)),
        row_of(_outcome(2, now - timedelta(hours=1), "support", 2_000_000)),
        row_of(_outcome(3, now, "code", 1_600)),
    ]
    asyncio.run(store.write(rows))
    store.close()
    return url


def test_spend_sums_by_group_and_over_all(farthing: Run, recorded: str) -> None:
    report = farthing("spend", "--by", "task", "--json", "--ledger-url", recorded).json
    assert (report["total_usd"], report["baseline_usd"], report["saved_usd"]) == (0.0070016, 0.070016, 0.0630144)
    assert [(row["task"], row["requests"], row["cost_usd"]) for row in report["rows"]] == [
        ("support", 2, 0.007),
        ("code", 1, 0.0000016),
    ]


def test_spend_calls_what_a_refusal_lacks_none_as_metrics_do(farthing: Run, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'refused.db'}"
    answered = _outcome(1, datetime.now(UTC), "support", 0)
    refused = structs.replace(answered, ending=Ending.REFUSED, routed_model=None, provider=None, kind=None)
    store = open_store(url)
    asyncio.run(store.write([row_of(refused)]))
    store.close()
    (row,) = farthing("spend", "--by", "model,account,kind,provider", "--json", "--ledger-url", url).json["rows"]
    assert [row[name] for name in ("model", "account", "kind", "provider")] == ["none"] * 4


def test_spend_prints_a_row_a_group_and_a_total(process: Run, recorded: str) -> None:
    ran = process("spend", "--by", "task,model", FARTHING_LEDGER_URL=recorded)
    assert ran.status == 0
    rows = [line.split() for line in ran.out.splitlines() if line.split()]
    assert rows[2][:7] == ["support", "cheap", "2", "$0.007000", "$0.070000", "$0.063000", "90%"]
    assert ["total", "3", "$0.007002"] in [row[:3] for row in rows]
    assert "\x1b[" not in ran.out


SUPPORT = """version: 1
task: support
baseline: premium
route: [{use: cheap}]
"""
MODELS = """version: 1
models:
  cheap: {target: openai/gpt-4.1-nano}
  premium: {target: openai/gpt-4.1}
"""


def test_spend_of_a_task_is_that_task_s_alone(farthing: Run, recorded: str, tmp_path: Path) -> None:
    asked = ("spend", "--json", "--ledger-url", recorded)
    alone = farthing(*asked, "--task", "support").json
    assert (alone["total_usd"], [row["task"] for row in alone["rows"]]) == (0.007, ["support"])
    assert farthing(*asked, "--task", "support, code").json == farthing(*asked).json
    assert farthing(*asked, "--orphans", "--task", "code").json["orphans"] == []
    none = farthing(*asked, "--task", "")
    assert (none.status, "'' names no task" in none.err) == (2, True)
    wrong = farthing(*asked, "--task", "support", "--task", "cod")
    assert wrong.status == 2
    assert "no request of the task 'cod'. It has: code, support." in " ".join(wrong.err.replace("│", "").split())


def test_spend_says_which_tasks_name_no_baseline(farthing: Run, recorded: str, tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text(MODELS)
    (tmp_path / "support.yaml").write_text(SUPPORT)
    for task in ("code", "unused"):
        (tmp_path / f"{task}.yaml").write_text(SUPPORT.replace("support", task).replace("baseline: premium\n", ""))

    def said(by: str) -> list[str]:
        out = farthing("spend", "--ledger-url", recorded, "--policies", str(tmp_path), "--by", by).out
        return re.findall(r"^No baseline: (.*?)\.", out, re.MULTILINE)

    assert (said("task"), said("model")) == (["code"], ["code, unused"])
    (tmp_path / "code.yaml").write_text(SUPPORT.replace("support", "code"))
    assert said("task") == []


def test_spend_tells_the_baseline_at_the_length_of_its_own_answers(farthing: Run, process: Run, tmp_path: Path) -> None:
    policies, url = tmp_path / "policies", f"sqlite:///{tmp_path / 'compared.db'}"
    policies.mkdir()
    (policies / "models.yaml").write_text(MODELS)
    (policies / "support.yaml").write_text(SUPPORT)
    (policies / "default.yaml").write_text(SUPPORT.replace("support", "default"))

    def answer(number: int, task: str, model: str, output_tokens: int) -> Row:
        usage = Usage(input_tokens=1_000, output_tokens=output_tokens)
        # gpt-4.1 costs $2 for a million tokens of input and $8 for one of output.
        baseline_nusd = 1_000 * 2_000 + output_tokens * 8_000
        outcome = _outcome(number, datetime.now(UTC), task, 100_000 if model == "cheap" else baseline_nusd)
        return row_of(structs.replace(outcome, routed_model=model, usage=usage, baseline_nusd=baseline_nusd))

    rows = [answer(number, "support", "premium", 150 if number % 2 else 250) for number in range(10)]
    rows += [answer(10 + number, "support", "cheap", 100) for number in range(100)]
    rows += [answer(110 + number, "default", "cheap", 100) for number in range(100)]
    store = open_store(url)
    asyncio.run(store.write(rows))
    store.close()

    options = ("spend", "--ledger-url", url, "--policies", str(policies), "--by", "task")
    report = farthing(*options, "--json").json
    support = next(row for row in report["rows"] if row["task"] == "support")
    assert support["baseline_low_usd"] == support["baseline_usd"] == pytest.approx(10 * 0.0036 + 100 * 0.0028)
    assert support["baseline_high_usd"] == pytest.approx(110 * 0.0036)
    assert support["baseline_compared"] == 100
    default = next(row for row in report["rows"] if row["task"] == "default")
    assert (default["baseline_low_usd"], default["baseline_high_usd"]) == (None, None)
    assert report["baseline_high_usd"] - report["baseline_low_usd"] == pytest.approx(100 * 0.0008)

    printed = process(*options).out
    assert "$0.316000 to $0.396000" in printed
    assert "100 answers as long as the baseline models' own usually are" in printed
    without = farthing(*options[:3], "--policies", str(tmp_path / "none"))
    assert f"there is no folder of policies at {tmp_path / 'none'}" in without.out
    assert farthing(*options[:3], "--policies", str(tmp_path / "none"), "--json").json["baseline_low_usd"] is None


def test_what_cost_more_than_its_baseline_is_told_as_lost(farthing: Run, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'lost.db'}"
    store = open_store(url)
    asyncio.run(
        store.write([row_of(structs.replace(_outcome(1, datetime.now(UTC), "a", 100_000), baseline_nusd=40_000))])
    )
    store.close()
    assert farthing("spend", "--json", "--ledger-url", url).json["saved_usd"] == pytest.approx(-0.00006)
    assert "-$0.000060" in farthing("spend", "--ledger-url", url).out


def test_spend_since_leaves_out_what_is_older(farthing: Run, recorded: str) -> None:
    report = farthing("spend", "--since", "7d", "--json", "--ledger-url", recorded).json
    assert (report["requests"], report["total_usd"]) == (2, 0.0020016)


def test_spend_without_a_ledger_says_so(process: Run, tmp_path: Path) -> None:
    ran = process("spend", cwd=tmp_path)
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.startswith("farthing: There is no ledger at farthing.db")
    assert "--ledger-url" in ran.err, "who stands in another folder is told what to do"
    assert not list(tmp_path.iterdir()), "asking makes no ledger"


def test_a_ledger_url_that_is_a_bare_path_is_told_how_to_write_it(farthing: Run) -> None:
    ran = farthing("spend", "--ledger-url", "costs.db")
    assert (ran.status, ran.out) == (1, "")
    assert "costs.db://" not in ran.err, "that is no scheme"
    assert "sqlite:///" in ran.err


def test_a_ledger_in_a_folder_that_is_missing_is_told_to_make_it(process: Run, tmp_path: Path) -> None:
    folder = Path(__file__).parents[2] / "policies"
    url = "sqlite:///missing/costs.db"
    ran = process("serve", "--policies", folder, "--port", "0", "--ledger-url", url, cwd=tmp_path)
    assert (ran.status, ran.out) == (1, "")
    told = "The ledger missing/costs.db can't be opened: there is no folder missing, so make it."
    assert ran.err.splitlines()[-1] == f"farthing: {told}"


@pytest.mark.parametrize("wrong", [("--since", "yesterday"), ("--by", "colour")])
def test_spend_by_or_since_nonsense_is_bad_usage(farthing: Run, recorded: str, wrong: tuple[str, str]) -> None:
    assert farthing("spend", "--ledger-url", recorded, *wrong).status == 2


def test_a_narrow_terminal_loses_whole_columns_and_never_digits() -> None:
    columns = [
        Column("task"),
        Column("cost", number=True),
        Column("why", prose=True),
        Column("saved", number=True, spare=True),
        Column("overhead", number=True, spare=True),
    ]
    rows = [["support", "$0.000001", "a long reason in words, to be wrapped", "$0.000002", "$0.000003"]]
    assert columns_within(columns, rows, 200) == [0, 1, 2, 3, 4]
    assert columns_within(columns, rows, 64) == [0, 1, 2, 3, 4]
    assert columns_within(columns, rows, 63) == [0, 1, 2, 3]
    assert columns_within(columns, rows, 10) == [0, 1, 2]


@pytest.mark.parametrize(
    ("usd", "text"),
    [(0, "$0.000000"), (1234.5, "$1,234.500000"), (-0.25, "-$0.250000"), (1e-9, "<$0.000001"), (-1e-9, ">-$0.000001")],
)
def test_dollars_are_plain_to_the_millionth(usd: float, text: str) -> None:
    assert dollars(usd) == text
