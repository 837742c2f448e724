"""What a terminal of 80 columns shows: no line is broken by it, no word by us, and help says what it was written to."""

from __future__ import annotations

import sys
from inspect import cleandoc
from pathlib import Path
from typing import Any

import pytest
import typer
from proxy import Proxy

from cli.running import Run, on_terminal, plain
from router.cli import app
from router.cli.table import Column, print_table, say


def widest(text: str) -> str:
    """Return the longest line; a progress bar, which is gone at the end, is none."""
    return max((line.rpartition("\r")[2] for line in text.splitlines()), key=len)


def test_the_demo_fits(proxy: Proxy) -> None:
    shown = on_terminal("demo", "--url", proxy.url, "--requests", 48)
    assert "It cost" in shown
    assert len(widest(shown)) <= 80, widest(shown)


@pytest.mark.parametrize(
    "arguments",
    [
        ("spend",),
        ("spend", "--policies", "{premium}"),
        ("spend", "--by", "task,model,account,day"),
        ("replay", "--policies", "{premium}"),
    ],
)
def test_reports_fit(day: str, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "models.yaml").write_text("version: 1\nmodels: {premium: {target: anthropic/claude-sonnet-4-5}}\n")
    for task in ("support", "default"):
        (tmp_path / f"{task}.yaml").write_text(
            f"version: 1\ntask: {task}\nroute: [{{name: everything, use: premium}}]\n"
        )
    named = [argument.format(premium=tmp_path) for argument in arguments]
    shown = on_terminal(*named, FARTHING_LEDGER_URL=day)
    assert "$" in shown
    assert len(widest(shown)) <= 80, widest(shown)


def test_a_table_that_never_fits_is_shown_as_lists_of_whole_cells(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    columns = (Column("task"), Column("cost each (95 %)", number=True), Column("spare", number=True, spare=True))
    print_table(columns, [["support", "$0.000123 ($0.000100 to $0.000150)", "7"], ["none", "", "8"]])
    lines = [line.rstrip() for line in plain(capsys.readouterr().out).splitlines()]
    assert lines == [
        "task              support",
        "cost each (95 %)  $0.000123 ($0.000100",
        "                  to $0.000150)",
        "spare             7",
        "",
        "task              none",
        "spare             8",
        "",
    ]


def test_sentences_are_broken_between_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    say("Nothing is broken where nobody looks.")
    assert capsys.readouterr().out == "Nothing is broken where nobody looks.\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    say("Words are kept whole where somebody looks.")
    assert [line.rstrip() for line in plain(capsys.readouterr().out).splitlines()] == [
        "Words are kept whole",
        "where somebody",
        "looks.",
    ]


def commands(command: Any, name: str = "") -> dict[str, Any]:
    """Return every command by the words that call it."""
    found = {name: command}
    for word, below in getattr(command, "commands", {}).items():
        found |= commands(below, f"{name} {word}".strip())
    return found


COMMANDS = commands(typer.main.get_command(app))


def words(text: str) -> str:
    return " ".join(text.replace("│", " ").split())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_all_that_was_written(farthing: Run, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("COLUMNS", "2000")
    shown = words(farthing(*name.split(), "--help").out)
    for said in (getattr(parameter, "help", None) for parameter in COMMANDS[name].params):
        assert words((said or "").replace("\\[", "[")) in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_a_paragraph_of_help_is_broken_by_the_terminal_alone(
    farthing: Run, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("COLUMNS", "2000")
    shown = [line.strip() for line in farthing(*name.split(), "--help").out.splitlines()]
    command = COMMANDS[name]
    for paragraph in cleandoc(getattr(command.callback, "__doc__", None) or command.help).split("\n\n"):
        for line in paragraph.splitlines() if paragraph.startswith("Example: ") else [words(paragraph)]:
            assert line in shown
