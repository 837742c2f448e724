"""A folder of YAML → one PolicySet, or every fault of every file. All bytes are read first, then used alone.

Whatever the files hold, nothing is raised. The set's revision names the files' bytes, not the environment's
values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from router.difficulty.weights import Weights, weights_of
from router.errors import PolicyFaults, UnusableFile
from router.policy.claim import DEFAULT_TASK
from router.policy.expectation import PolicyTest
from router.policy.fault import START, Fault, Report
from router.policy.policy import PolicySet
from router.policy.reading.accounts import NOBODY, read_accounts
from router.policy.reading.asides import Asides
from router.policy.reading.bursts import Bursts
from router.policy.reading.document import (
    LARGEST_FILE_BYTES,
    Table,
    at,
    entries_at,
    place_of,
    read_document,
    text_at,
    texts_at,
)
from router.policy.reading.foresight import Foresight, check_shared_limits
from router.policy.reading.models import ModelsReader
from router.policy.reading.names import Names
from router.policy.reading.sharing import ENDINGS, PolicyFile, Sharing, included_names, report_unincluded
from router.policy.reading.task import read_task
from router.policy.reading.unread import unread
from router.pricing import Catalogue

MODELS = "models"
ACCOUNTS = "accounts"
"""The names, without their ending, of the two files that are not a task's."""
WEIGHTS = "difficulty.json"
"""Weights of one's own, in place of those that Farthing came with."""
INCLUDE = b"include"
MOST_READS = 5
"""How often a folder that changes while it is read is read again."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a folder gave. `set` is None where a fault is an error; `faults` are sorted; some only warn."""

    set: PolicySet | None
    faults: tuple[Fault, ...]
    tests: tuple[PolicyTest, ...] = ()

    def checked(self) -> PolicySet:
        """Return the set.

        Raises:
            PolicyFaults: there is none; carries every fault.
        """
        if self.set is None:
            causes = tuple(str(fault) for fault in self.faults if fault.stops)
            raise PolicyFaults(tuple(str(fault) for fault in self.faults), causes)
        return self.set


def load_folder(folder: Path, catalogue: Catalogue, environ: Mapping[str, str]) -> Loaded:
    """Return what the files in `folder` say together: those that end in .yaml or .yml, dotfiles aside, and WEIGHTS.

    Others that look like policies are told of, as warnings.
    """
    files, faults = read_files(folder)
    passed_over = unread(folder, files)
    if faults:
        broken = {fault.file for fault in faults}
        found = load_files(files, catalogue, environ, folder).faults if files else ()
        told = (*faults, *passed_over, *(fault for fault in found if fault.file not in broken))
        return Loaded(None, tuple(sorted(told)))
    loaded = load_files(files, catalogue, environ, folder)
    return replace(loaded, faults=tuple(sorted((*loaded.faults, *passed_over))))


def load_files(files: Mapping[str, bytes], catalogue: Catalogue, environ: Mapping[str, str], folder: Path) -> Loaded:
    """Return what `files`, by name, say together; `folder` only stands before the names in faults."""
    folder_report = Report(str(folder))
    weights_report = Report(str(folder / WEIGHTS))
    weights = _weights(files[WEIGHTS], weights_report) if WEIGHTS in files else None
    opened = [_opened(name, data, folder) for name, data in sorted(files.items()) if name != WEIGHTS]
    models_file = _only(MODELS, opened)
    accounts_file = _only(ACCOUNTS, opened)
    task_files = [file for file in opened if file.stem not in (MODELS, ACCOUNTS) and not file.is_fragment]
    names = Names(
        models=_keys(models_file, MODELS) if models_file else None,
        tasks=_tasks(task_files),
        accounts=_keys(accounts_file, ACCOUNTS) if accounts_file else frozenset(),
    )
    _check_folder(models_file, task_files, names, folder_report)
    models = (
        ModelsReader(catalogue, environ, models_file.report).read(models_file.root)
        if models_file and models_file.root
        else {}
    )
    accounts = (
        read_accounts(accounts_file.root, names, accounts_file.report)
        if accounts_file and accounts_file.root
        else NOBODY
    )
    sharing = Sharing({file.name: file for file in opened}, names)
    tasks = [read_task(file.root, names, sharing.of(file), file.report) for file in task_files if file.root]
    for fragment in [*sharing.unused()]:
        report_unincluded(fragment)
        sharing.of(fragment)
    _check_task_names(task_files)
    _check_claims(task_files)
    if models:
        whole = [
            (file.root, task.policy, file.report)
            for file, task in zip([file for file in task_files if file.root], tasks, strict=True)
            if task and file.root and set(task.policy.models) <= models.keys()
        ]
        known = [policy for _, policy, _ in whole]
        bursts = Bursts(known, accounts, models)
        for root, policy, report in whole:
            Foresight(root, policy, models, report).look()
            if not report.stops:
                Asides(root, policy, models, accounts, report).look()
            bursts.check_task(root, policy, report)
        if accounts_file and accounts_file.root and known and not accounts_file.report.stops:
            check_shared_limits(accounts_file.root, known, models, accounts_file.report)
            bursts.check_accounts(accounts_file.root, accounts_file.report)

    reports = (folder_report, weights_report, *(file.report for file in opened))
    faults = tuple(sorted(fault for report in reports for fault in report.faults))
    if any(fault.stops for fault in faults):
        return Loaded(None, faults)
    complete = [task for task in tasks if task is not None]
    policies = PolicySet(
        revision=revision_of(files),
        models=models,
        policies=MappingProxyType({task.policy.task: task.policy for task in complete}),
        accounts=accounts.by_name,
        budget=accounts.budget,
        weights=weights,
    )
    return Loaded(policies, faults, tuple(test for task in complete for test in task.tests))


def revision_of(files: Mapping[str, bytes]) -> str:
    """Return the first 12 hex digits of a hash over the names and bytes of `files`."""
    digest = hashlib.sha256()
    for name, data in sorted(files.items()):
        for part in (name.encode("utf-8", "surrogateescape"), data):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:12]


def read_files(folder: Path) -> tuple[Mapping[str, bytes], tuple[Fault, ...]]:
    """Return the bytes of the policy files in `folder` by name, and a fault for each that can't be read.

    A folder that changes meanwhile is read again, so that no set is half old where that can be seen.
    """
    fragments: tuple[str, ...] = ()
    for _ in range(MOST_READS):
        before = _signature(folder, fragments)
        files, faults = _read_once(folder)
        known, fragments = fragments, tuple(name for name in files if "/" in name)
        if fragments == known and _signature(folder, fragments) == before:
            break
    return files, faults


def _signature(folder: Path, fragments: Sequence[str]) -> tuple[tuple[str, int, int, int], ...]:
    try:
        paths = [*sorted(path for path in folder.iterdir() if _is_policy(path)), *(folder / name for name in fragments)]
        stats = [(str(path), path.stat()) for path in paths]
    except OSError:
        return ()
    return tuple((name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def _is_policy(path: Path) -> bool:
    return path.name == WEIGHTS or (path.suffix in ENDINGS and not path.name.startswith("."))


def _read_once(folder: Path) -> tuple[Mapping[str, bytes], tuple[Fault, ...]]:
    files: dict[str, bytes] = {}
    faults: list[Fault] = []
    try:
        paths = sorted(path for path in folder.iterdir() if _is_policy(path))
    except OSError as error:
        make = "; name another, or make one with `farthing init`" if isinstance(error, FileNotFoundError) else ""
        return {}, (Fault(str(folder), *START, f"the folder can't be read: {error.strerror}{make}"),)
    for path in paths:
        try:
            if path.is_symlink() and not path.exists():
                faults.append(Fault(str(path), *START, "this is a link to a file that is not there"))
                continue
            if not path.is_file():
                faults.append(Fault(str(path), *START, "this is not a file"))
                continue
            with path.open("rb") as file:
                files[path.name] = file.read(LARGEST_FILE_BYTES + 1)
        except OSError as error:
            faults.append(Fault(str(path), *START, f"the file can't be read: {error.strerror}"))
    _read_fragments(folder, files)
    return files, tuple(faults)


def _read_fragments(folder: Path, files: dict[str, bytes]) -> None:
    """Add the files of subfolders that `files` include, and those that these include; who lacks one will say so."""
    todo = list(files)
    for name in todo:
        if INCLUDE not in files[name]:
            continue
        for path, _, _ in included_names(read_document(files[name], Report(name)), name):
            if path is None or path in files or not path.endswith(ENDINGS):
                continue
            try:
                if not (folder / path).is_file():
                    continue
                with (folder / path).open("rb") as file:
                    files[path] = file.read(LARGEST_FILE_BYTES + 1)
            except (OSError, ValueError):
                continue
            todo.append(path)


def _weights(data: bytes, report: Report) -> Weights | None:
    try:
        return weights_of(data, "this")
    except UnusableFile as error:
        report.error(START, str(error).removesuffix("."))
        return None


def _opened(name: str, data: bytes, folder: Path) -> PolicyFile:
    report = Report(str(folder / name))
    return PolicyFile(name, read_document(data, report), report)


def _only(stem: str, files: Sequence[PolicyFile]) -> PolicyFile | None:
    """Return the one file of this name, whichever its ending; a second one is a fault."""
    found = [file for file in files if file.stem == stem]
    for other in found[1:]:
        other.report.error(START, f"{found[0].name} is there as well; keep one of the two")
    return found[0] if found else None


def _keys(file: PolicyFile, key: str) -> frozenset[str] | None:
    return frozenset(entries_at(file.root, key)) if isinstance(at(file.root, key), Table) else None


def _tasks(files: Sequence[PolicyFile]) -> frozenset[str] | None:
    tasks = [text_at(file.root, "task") for file in files]
    return None if None in tasks else frozenset(task for task in tasks if task is not None)


def _check_folder(models: PolicyFile | None, tasks: Sequence[PolicyFile], names: Names, report: Report) -> None:
    if models is None:
        report.error(START, "models.yaml is missing; it names the models that can be routed to")
    if not tasks:
        report.error(START, "there is no task's file, like default.yaml; without one nothing can be routed")
    elif names.tasks is not None and DEFAULT_TASK not in names.tasks:
        report.warning(START, f'there is no task "{DEFAULT_TASK}", so a request that names none may be refused')


def _check_task_names(files: Sequence[PolicyFile]) -> None:
    """Report every task that an earlier file has already."""
    owners: dict[str, PolicyFile] = {}
    for file in files:
        task = text_at(file.root, "task")
        if task is None or file.root is None:
            continue
        if task in owners:
            place = place_of(file.root, ("task",))
            file.report.error(place, f'the task "{task[:60]}" is in {owners[task].name} already; one file, one task')
        owners.setdefault(task, file)


def _check_claims(files: Sequence[PolicyFile]) -> None:
    """Warn of a model that an earlier file's `match` claims under the same conditions or fewer."""
    owners: dict[str, list[tuple[PolicyFile, object]]] = {}
    for file in files:
        match = at(file.root, "match")
        conditions = {key: entry.value.plain() for key, entry in entries_at(match).items() if key != "models"}
        for model, place in texts_at(match, "models"):
            for owner, owned in owners.get(model, ()):
                if owned in ({}, conditions):
                    wrong = f'{owner.name} claims "{model[:60]}" first, so this never does'
                    file.report.warning(place, f"{wrong}; take the name out of one of them")
                    break
            owners.setdefault(model, []).append((file, conditions))
