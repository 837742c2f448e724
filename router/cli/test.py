"""`farthing test`: do the `tests:` in the policies hold?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from router.cli.folder import DEFAULT_FOLDER, FolderArgument, JsonOption, read_folder
from router.cli.table import Column, console, plural, print_json, print_table

if TYPE_CHECKING:
    from router.policy.load import Loaded
    from router.policy.testing import Verdict


def test(folder: FolderArgument = DEFAULT_FOLDER, as_json: JsonOption = False) -> None:  # noqa: PT028 - a command
    """Run the tests that stand in the policies: no call is made, and the result is the same on every machine.

    Ends with status 1 where one fails, or where the policies are not valid.

    Example: farthing test policies
    """
    loaded = read_folder(folder)
    if loaded.set is None and as_json:
        print_json({"passed": 0, "failed": 0, "results": [], "faults": [str(fault) for fault in loaded.faults]})
        raise typer.Exit(1)
    verdicts = _verdicts(loaded)
    if as_json:
        print_json(_as_json(verdicts))
    else:
        _print(verdicts)
    if not all(verdict.passed for verdict in verdicts):
        raise typer.Exit(1)


def _verdicts(loaded: Loaded) -> list[Verdict]:
    from router.policy.testing import run_tests
    from router.tokens import Counter

    return list(run_tests(loaded.checked(), loaded.tests, Counter()))


def _as_json(verdicts: list[Verdict]) -> dict[str, object]:
    passed = sum(verdict.passed for verdict in verdicts)
    return {
        "passed": passed,
        "failed": len(verdicts) - passed,
        "results": [
            {
                "file": verdict.test.file,
                "line": verdict.test.place.line,
                "task": verdict.test.task,
                "name": verdict.test.name,
                "passed": verdict.passed,
                "message": verdict.message,
            }
            for verdict in verdicts
        ],
    }


def _print(verdicts: list[Verdict]) -> None:
    if not verdicts:
        print("There are no tests; add some under `tests:` in a task's file.")
        return
    print_table(
        (Column("task"), Column("test", prose=True), Column("result")),
        [(verdict.test.task, verdict.test.name, "passed" if verdict.passed else "FAILED") for verdict in verdicts],
    )
    failures = [verdict for verdict in verdicts if not verdict.passed]
    out = console()
    for verdict in failures:
        test = verdict.test
        out.print(f"{test.file}:{test.place.line}:{test.place.column}: {test.name}", soft_wrap=True, style="red")
        for difference in verdict.differences:
            out.print(f"    {difference}", soft_wrap=True)
    print(f"{len(verdicts) - len(failures)} passed, {len(failures)} failed of {plural(len(verdicts), 'test')}")
