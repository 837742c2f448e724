"""Loading a folder: every fault of its files is told in its place, all in one run."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from policy.broken_folder import WHOLE, cases, folder_with, stated
from policy.loading import HERE, lines, load, task
from router.errors import PolicyFaults
from router.policy.reading.document import LARGEST_FILE_BYTES
from router.policy.reading.load import load_files
from router.pricing import Catalogue


@pytest.mark.parametrize("broken", cases(), ids=lambda path: path.stem)
def test_a_broken_file_is_reported_as_it_states(catalogue: Catalogue, broken: Path) -> None:
    loaded = load_files(folder_with(broken), catalogue, {}, HERE)
    found = [str(fault) for fault in loaded.faults]
    expected = stated(broken)
    assert expected, "a broken file states its faults"
    # The catalogue's date is in its messages, so these are stated up to it.
    assert [
        line[: len(wanted) - 1] + "…" if wanted.endswith("…") else line
        for line, wanted in zip(found, expected, strict=True)
    ] == expected
    assert (loaded.set is None) == any(fault.stops for fault in loaded.faults)


def test_there_are_sixty_broken_files_and_no_message_tells_a_secret(catalogue: Catalogue) -> None:
    assert len(cases()) >= 60
    for broken in cases():
        for fault in load_files(folder_with(broken), catalogue, {}, HERE).faults:
            assert "verysecret" not in fault.message


def test_all_faults_of_all_files_come_in_one_run_and_in_order(catalogue: Catalogue) -> None:
    loaded = load(
        catalogue,
        {
            "z.yaml": task("route: [{use: nobody}]\n", "z"),
            "b.yaml": task("baseline: nobody\nroute: [{use: cheap, prefer: best}]\n", "b"),
            "models.yaml": WHOLE["models.yaml"] + b"  auto: {target: openai/gpt-4o}\n",
        },
    )
    assert [(fault.file, fault.line) for fault in loaded.faults] == [
        ("b.yaml", 3),
        ("b.yaml", 4),
        ("models.yaml", 7),
        ("z.yaml", 3),
    ]
    with pytest.raises(PolicyFaults) as raised:
        loaded.checked()
    assert raised.value.faults == tuple(lines(loaded))


def test_a_warning_does_not_keep_a_folder_from_being_used(catalogue: Catalogue) -> None:
    loaded = load(catalogue, {"s.yaml": task("match: {models: [cheap]}\nroute: [{use: cheap}]\n")})
    assert loaded.set is not None
    (said,) = lines(loaded)
    assert said.startswith('s.yaml:3:18: warning: "cheap" is in models.yaml')


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "1:1: error: the file is empty; it should begin with `version: 1`"),
        (b"# nothing\n", "1:1: error: the file is empty; it should begin with `version: 1`"),
        (b"version: 1\ntask: caf\xe9\n", "2:10: error: the file is not UTF-8: byte 0xe9"),
        (b"\xff\xfev\x00", "1:1: error: the file is not UTF-8: byte 0xff"),
        (b"a: " + b"x" * LARGEST_FILE_BYTES, f"1:1: error: the file is larger than {LARGEST_FILE_BYTES:,} bytes"),
        (b"a: " + b"[" * 100, "1:67: error: nested more than 64 deep"),
        (b"{" * 100_000, "1:2: error: a key must be text, not a list or a mapping"),
        (b"a: &a " + b"[x, x]\nb: &b " + b"[*a, *a]\n? *a\n: 1", "3:3: error: a key must be text, not an alias"),
    ],
)
def test_a_file_that_is_no_policy_at_all_is_a_fault(catalogue: Catalogue, data: bytes, said: str) -> None:
    assert f"s.yaml:{said}" in lines(load(catalogue, {"s.yaml": data}))


def test_aliases_that_multiply_are_refused_in_no_time(catalogue: Catalogue) -> None:
    laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 20)
    )
    started = time.perf_counter()
    loaded = load(catalogue, {"s.yaml": task() + laughs})
    assert time.perf_counter() - started < 2
    assert any("more than 250,000 values" in line for line in lines(loaded))


def test_a_byte_order_mark_moves_no_column(catalogue: Catalogue) -> None:
    loaded = load(catalogue, {"s.yaml": "\ufeff" + "vresion: 1\ntask: s\nroute: [{use: cheap}]\n"})
    assert any(line.startswith('s.yaml:1:1: error: unknown key "vresion"') for line in lines(loaded))


def test_columns_count_characters(catalogue: Catalogue) -> None:
    loaded = load(catalogue, {"s.yaml": task('route: [{name: é, use: "😀", prefer: x}]\n')})
    assert [(fault.line, fault.column) for fault in loaded.faults] == [(3, 16), (3, 24), (3, 37)]
