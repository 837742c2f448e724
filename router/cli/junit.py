"""The results of `farthing test` as JUnit XML, which every CI reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, ElementTree, SubElement

import typer

if TYPE_CHECKING:
    from router.policy.reading.load import Loaded
    from router.policy.testing import Verdict


def write_junit(file: Path, loaded: Loaded, verdicts: list[Verdict]) -> None:
    """Write one test suite for each policy file; where the policies are not valid, one whose errors are the faults.

    Raises:
        BadParameter: the file can't be written.
    """
    root = Element("testsuites", name="farthing")
    if loaded.set is None:
        count = str(len(loaded.faults))
        suite = SubElement(root, "testsuite", name="policies", tests=count, failures="0", errors=count)
        for fault in loaded.faults:
            case = SubElement(suite, "testcase", name=f"{fault.file}:{fault.line}", classname="policies")
            SubElement(case, "error", message=_printable(str(fault)))
    for policy_file in dict.fromkeys(verdict.test.file for verdict in verdicts):
        _add_suite(root, policy_file, [verdict for verdict in verdicts if verdict.test.file == policy_file])
    try:
        ElementTree(root).write(file, encoding="utf-8", xml_declaration=True)
    except OSError as error:
        raise typer.BadParameter(f"{file} can't be written: {error.strerror}.", param_hint="--junit") from None


def _add_suite(root: Element, policy_file: str, verdicts: list[Verdict]) -> None:
    failures = str(sum(not verdict.passed for verdict in verdicts))
    suite = SubElement(root, "testsuite", name=policy_file, tests=str(len(verdicts)), failures=failures, errors="0")
    for verdict in verdicts:
        test = verdict.test
        case = SubElement(suite, "testcase", name=_printable(test.name), classname=test.task)
        case.set("file", test.file)
        case.set("line", str(test.place.line))
        if not verdict.passed:
            failure = SubElement(case, "failure", message=_printable(verdict.message))
            failure.text = _printable("\n".join(verdict.differences))


def _printable(text: str) -> str:
    """Return a text as XML can hold it: control characters and halves of surrogate pairs become question marks."""
    return (
        "".join(char if char in "\t\n" or (char.isprintable() or char > "\x9f") else "?" for char in text)
        .encode("utf-8", "replace")
        .decode()
    )
