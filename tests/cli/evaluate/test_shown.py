"""`farthing evaluate`: its tables, its picture, and how far it is."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import combinations
from pathlib import Path

import pytest

from cli.evaluate.sets import evaluated
from cli.running import Run, on_terminal
from router.cli.progress import Work
from router.cli.table import progress_bar

SVG = "{http://www.w3.org/2000/svg}"


def test_the_table_and_the_picture_show_the_same(farthing: Run, folder: Path, labelled: Path, tmp_path: Path) -> None:
    ran = farthing("evaluate", labelled, "--policies", folder, "--task", "support", "--plot", tmp_path / "plot.svg")
    assert "by the policy of the task 'support': cheap or premium." in " ".join(ran.out.split())
    assert "always premium" in ran.out
    assert "random, same spend" in ran.out
    drawn = ET.parse(tmp_path / "plot.svg").getroot()
    assert drawn.tag.endswith("svg")
    assert "this policy" in (tmp_path / "plot.svg").read_text()


def test_the_tables_fit_a_terminal(folder: Path, labelled: Path) -> None:
    shown = on_terminal("evaluate", labelled, "--policies", folder, "--task", "support")
    assert "  95 %" in shown
    assert "APGR is the share of the gap" in shown
    assert max(len(line.rpartition("\r")[2]) for line in shown.splitlines()) <= 80


class Clock:
    """Seconds as the test says."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_long_work_tells_its_share_where_no_terminal_shows_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with progress_bar() as bar:
        for number in Work(bar, clock).over("Deciding", range(200), 200):
            clock.now_s = number / 10
    assert capsys.readouterr().err.splitlines() == [
        "farthing: Deciding: 25 % of 200",
        "farthing: Deciding: 50 % of 200",
        "farthing: Deciding: 75 % of 200",
    ]


def test_short_work_is_silent_where_no_terminal_shows_a_bar(farthing: Run, folder: Path, labelled: Path) -> None:
    assert farthing("evaluate", labelled, "--policies", folder, "--task", "support").err == ""


@pytest.mark.parametrize("task", ["cheapest", "support"])
def test_no_text_of_the_picture_lies_over_another(
    farthing: Run, folder: Path, labelled: Path, tmp_path: Path, task: str
) -> None:
    file = tmp_path / "plot.svg"
    evaluated(farthing, labelled, folder, "--plot", file, task=task)
    texts = [
        (text.text, float(text.get("x", 0)), float(text.get("y", 0))) for text in ET.parse(file).iter(f"{SVG}text")
    ]
    assert {"always cheap", "this policy", "dollars"} <= {said for said, _, _ in texts}
    for (said, x, y), (other, other_x, other_y) in combinations(texts, 2):
        # At 12 px a letter is about 6 px wide and a line 12 high.
        apart_x = x + 6 * len(said or "") <= other_x or other_x + 6 * len(other or "") <= x
        assert apart_x or abs(y - other_y) >= 12, (said, other)


def test_a_picture_can_be_a_png(farthing: Run, folder: Path, labelled: Path, tmp_path: Path) -> None:
    file = tmp_path / "plot.png"
    assert farthing("evaluate", labelled, "--policies", folder, "--task", "support", "--plot", file).status == 0
    assert file.read_bytes().startswith(b"\x89PNG")
