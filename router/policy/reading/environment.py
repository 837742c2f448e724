"""`${VARIABLES}` in policy files: in `api_key` and `base_url` of models.yaml, and nowhere else.

So that a secret is never in a file, and so that nothing else of a policy depends on the machine it is read
on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from router.policy.fault import Report
from router.policy.reading.document import Items, Leaf, Node, Table
from router.policy.schema import kinds

VARIABLE = re.compile(kinds.VARIABLE)

_READ_IN = frozenset(("api_key", "base_url"))
_TEXT_OF_ITS_OWN = frozenset(("conditions", "prompts", "tests", "when"))
"""Where `${…}` is text like any other, say of a program that a prompt is about."""


def unset_in(text: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the variables in `text` that have no value, in their order; an empty one has none."""
    return tuple(name for name in VARIABLE.findall(text) if not environ.get(name))


def filled(text: str, environ: Mapping[str, str]) -> str:
    """Return `text` with its variables replaced; an unset one by nothing."""
    return VARIABLE.sub(lambda found: environ.get(found[1], ""), text)


def report_strays(node: Node, report: Report) -> None:
    """Report every variable that stands where none is read."""
    if isinstance(node, Leaf):
        if isinstance(node.value, str) and (found := VARIABLE.search(node.value)):
            report.error(node.place, f"{found[0]} is not read here; only `api_key` and `base_url` may hold variables")
    elif isinstance(node, Items):
        for item in node.items:
            report_strays(item, report)
    elif isinstance(node, Table):
        for key, entry in node.entries.items():
            if key not in _READ_IN and key not in _TEXT_OF_ITS_OWN:
                report_strays(entry.value, report)
