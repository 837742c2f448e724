"""What files share: `conditions:` by name, and the fragments that `include:` brings in.

A fragment is a file whose name begins with `_`, or one in a subfolder; it is read only where a file includes it.
A name means the same in its own file, whoever includes that; no name is ever given twice.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from router.policy.condition import Condition
from router.policy.fault import START, Place, Report, did_you_mean, shown
from router.policy.reading.document import Node, Table, entries_at, is_empty, key_place, text_at, texts_at
from router.policy.reading.environment import report_strays
from router.policy.reading.names import Names, check_name, check_version
from router.policy.reading.shape import read_shape
from router.policy.reading.when import WhenCompiler
from router.policy.schema.task import FragmentFile

ENDINGS = (".yaml", ".yml")
DEEPEST = 20
"""Of names that rest on names, and of files that include files."""


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """One file as a tree, None where it can't be read, with the report of its faults."""

    name: str
    """Its path in the folder, with slashes."""
    root: Table | None
    report: Report

    @property
    def stem(self) -> str:
        return posixpath.splitext(self.name)[0]

    @property
    def is_fragment(self) -> bool:
        return is_fragment(self.name)


def is_fragment(name: str) -> bool:
    return "/" in name or name.startswith("_")


def included_names(root: Table | None, name: str) -> Iterator[tuple[str | None, str, Place]]:
    """Yield what the file `name` includes: its path in the folder (None where it leaves that), as written, where."""
    for written, place in texts_at(root, "include"):
        path = posixpath.normpath(posixpath.join(posixpath.dirname(name), written))
        inside = not written.startswith("/") and path.split("/")[0] != ".."
        yield (path if inside else None), written, place


@dataclass(slots=True)
class _Definition:
    """One named condition. It is compiled once, in the scope of its own file."""

    name: str
    place: Place
    node: Node
    scope: Scope
    state: str = "new"
    condition: Condition | None = None
    used: bool = False


@dataclass(slots=True)
class Scope:
    """What the rules of one file can name: its own conditions and prompts, and those it includes."""

    file: PolicyFile
    accounts: frozenset[str] | None
    definitions: dict[str, _Definition] = field(default_factory=dict)
    prompts: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Model → the system prompt and the file it is in."""
    includes: list[Scope] = field(default_factory=list)
    is_whole: bool = True
    """Whether all that it includes could be read; else a name that is not known may be in what could not."""
    under_way: list[str] = field(default_factory=list)
    """The conditions that are being compiled, each resting on the next; one list for the whole folder."""

    def knows(self, name: str) -> bool:
        return name in self.definitions

    def compiled(self, name: str, place: Place, report: Report) -> Condition | None:
        definition = self.definitions.get(name)
        if definition is None and not self.is_whole:
            return None
        if definition is None:
            hint = (
                did_you_mean(name, sorted(self.definitions)) if self.definitions else "; the file has no `conditions`"
            )
            report.error(place, f"unknown condition {shown(name)}{hint}")
            return None
        definition.used = True
        if definition.state == "under way":
            report.error(place, f"the condition {shown(name)} rests on itself")
            return None
        if len(self.under_way) >= DEEPEST:
            report.error(place, f"conditions rest on each other more than {DEEPEST} deep")
            return None
        return self._compiled(definition)

    def _compiled(self, definition: _Definition) -> Condition | None:
        if definition.state == "new":
            definition.state = "under way"
            scope = definition.scope
            compiler = WhenCompiler(scope.file.report, scope.accounts, scope)
            self.under_way.append(definition.name)
            definition.condition = compiler.compile(definition.node, definition.place)
            self.under_way.pop()
            definition.state = "done"
        return definition.condition

    def check_conditions(self) -> None:
        """Compile the file's own conditions, so that their faults are told whether a rule names them or not."""
        for definition in self.own():
            self._compiled(definition)

    def own(self) -> list[_Definition]:
        return [definition for definition in self.definitions.values() if definition.scope is self]


@dataclass(slots=True)
class Sharing:
    """The scopes of a folder's files; each file is looked at once, and what is wrong goes into its own report."""

    files: Mapping[str, PolicyFile]
    names: Names
    scopes: dict[str, Scope] = field(default_factory=dict)
    under_way: list[str] = field(default_factory=list)
    compiling: list[str] = field(default_factory=list)

    def of(self, file: PolicyFile) -> Scope:
        """Return what `file` can name."""
        if file.name in self.scopes:
            return self.scopes[file.name]
        scope = Scope(file, self.names.accounts, under_way=self.compiling)
        self.scopes[file.name] = scope
        self.under_way.append(file.name)
        self._take_own(scope)
        for path, written, place in included_names(file.root, file.name):
            fragment = self._fragment(path, written, place, file)
            if fragment is None:
                scope.is_whole = False
            else:
                included = self.of(fragment)
                scope.is_whole = scope.is_whole and included.is_whole and fragment.root is not None
                if included not in scope.includes:
                    scope.includes.append(included)
                    _take(scope, included, place)
        self.under_way.pop()
        if file.is_fragment:
            self._check_fragment(file)
        scope.check_conditions()
        return scope

    def unused(self) -> Iterator[PolicyFile]:
        """Yield the fragments that no file includes."""
        return (file for file in self.files.values() if file.is_fragment and file.name not in self.scopes)

    def _fragment(self, path: str | None, written: str, place: Place, file: PolicyFile) -> PolicyFile | None:
        """Return the file that an `include` names, or None with the fault told."""
        report = file.report
        if path is None:
            report.error(place, f"{shown(written)} is outside the folder of policies; keep what is shared inside")
        elif path in self.under_way:
            chain = " → ".join([*self.under_way[self.under_way.index(path) :], path])
            report.error(place, f"this includes itself: {chain}")
        elif len(self.under_way) >= DEEPEST:
            report.error(place, f"files include each other more than {DEEPEST} deep")
        elif not is_fragment(path) and path in self.files:
            report.error(place, f"{shown(path)} is no fragment: begin its name with _, or put it into a subfolder")
        elif path not in self.files:
            fragments = sorted(name for name in self.files if is_fragment(name))
            report.error(place, f"there is no file {shown(path)}{did_you_mean(path, fragments) if fragments else ''}")
        else:
            return self.files[path]
        return None

    def _check_fragment(self, file: PolicyFile) -> None:
        if file.root is None:
            return
        if text_at(file.root, "task") is not None or entries_at(file.root).get("route"):
            key = "task" if text_at(file.root, "task") is not None else "route"
            entry = entries_at(file.root)[key]
            file.report.error(entry.place, f"a fragment has no `{key}`; a task's file has, and its name has no _")
            return
        check_version(file.root, file.report)
        read_shape(file.root, FragmentFile, file.report)
        report_strays(file.root, file.report)
        for model, entry in entries_at(file.root, "prompts").items():
            check_name(model, self.names.models, "model", entry.place, file.report)

    def _take_own(self, scope: Scope) -> None:
        for name, entry in entries_at(scope.file.root, "conditions").items():
            if not is_empty(entry.value):
                scope.definitions[name] = _Definition(name, entry.place, entry.value, scope)
        for model, entry in entries_at(scope.file.root, "prompts").items():
            system = text_at(entry.value, "system")
            if system:
                scope.prompts[model] = (system, scope.file.name)


def _take(scope: Scope, included: Scope, place: Place) -> None:
    """Add what an included file offers; a name that is there already is a fault, told at the own one or the include."""
    report, root = scope.file.report, scope.file.root
    for name, definition in included.definitions.items():
        other = scope.definitions.setdefault(name, definition)
        if other is not definition:
            own = root is not None and other.scope is scope
            where = other.place if own else place
            report.error(where, f"the condition {shown(name)} is in {definition.scope.file.name} already")
    for model, (system, file) in included.prompts.items():
        prompt = scope.prompts.setdefault(model, (system, file))
        if prompt[1] != file:
            own = prompt[1] == scope.file.name and root is not None
            where = key_place(root, ("prompts", model)) if own and root is not None else place
            report.error(where, f"the prompt for {shown(model)} is in {file} already")


def report_unincluded(file: PolicyFile) -> None:
    """Warn of a fragment that does nothing."""
    file.report.warning(START, "no file includes this fragment, so it does nothing")
