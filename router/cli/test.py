"""`farthing test`: do the `tests:` in the policies hold?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from router.cli.folder import DEFAULT_FOLDER, FolderArgument, JsonOption, read_folder
from router.cli.table import Column, console, plural, print_json, print_table

if TYPE_CHECKING:
    from router.policy.reading.load import Loaded
    from router.policy.testing import Verdict


def test(
    folder: FolderArgument = DEFAULT_FOLDER,
    junit: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the results as JUnit XML too, for a CI's report.")
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Run them again whenever a file of the folder changes, until Ctrl-C.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run the tests that stand in the policies: no call is made, and the result is the same on every machine.

    Ends with status 1 where one fails, or where the policies are not valid.

    Example: farthing test policies
    Example: farthing test policies --junit results.xml
    """
    if watch and as_json:
        raise typer.BadParameter("give --watch or --json, not both")
    passed = _watched(folder, junit) if watch else _run(folder, junit, as_json=as_json)
    if not passed:
        raise typer.Exit(1)


def _run(folder: Path, junit: Path | None, *, as_json: bool) -> bool:
    """Run the tests once, and say whether the policies are valid and all of them hold.

    Raises:
        PolicyFaults: the policies are not valid, and no JSON was asked for.
    """
    loaded = read_folder(folder)
    verdicts = _verdicts(loaded) if loaded.set is not None else []
    if junit is not None:
        from router.cli.junit import write_junit

        write_junit(junit, loaded, verdicts)
    if as_json:
        faults = {} if loaded.set is not None else {"faults": [str(fault) for fault in loaded.faults]}
        print_json(_as_json(verdicts) | faults)
    else:
        loaded.checked()
        _print(verdicts)
    return loaded.set is not None and all(verdict.passed for verdict in verdicts)


def _watched(folder: Path, junit: Path | None) -> bool:
    """Run the tests now and after each change until interrupted; say how the last run ended."""
    import sys
    from contextlib import suppress

    from watchfiles import watch

    passed = _run_and_tell(folder, junit)
    print(f"Watching {folder}; Ctrl-C ends it.", flush=True)
    # An interrupt may come in the midst of a run, which then has not passed, as well as between two.
    with suppress(KeyboardInterrupt):
        for _ in watch(folder):
            print(flush=True)
            passed = False
            try:
                passed = _run_and_tell(folder, junit)
            except typer.BadParameter as error:
                print(error.message, file=sys.stderr, flush=True)
    return passed


def _run_and_tell(folder: Path, junit: Path | None) -> bool:
    """Run the tests once; where the policies are not valid, say what is wrong, for they are being edited."""
    import sys

    from router.errors import PolicyFaults

    try:
        return _run(folder, junit, as_json=False)
    except PolicyFaults as error:
        for fault in error.faults:
            print(fault, file=sys.stderr)
        return False
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


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
