"""accounts.yaml → who may call, what each may spend, and the budget that bounds everything together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from router.policy.fault import Place, Report, did_you_mean, nearest, shown
from router.policy.policy import Account, Budget
from router.policy.reading.document import Items, Leaf, Node, Table, at, entries_at, texts_at
from router.policy.reading.environment import report_strays
from router.policy.reading.names import Names, check_name, check_version
from router.policy.reading.shape import read_shape
from router.policy.schema.accounts import AccountsFile, AccountShape
from router.policy.schema.money import BudgetShape, TaskBudgetShape
from router.values import nusd_limit


@dataclass(frozen=True, slots=True)
class Accounts:
    """Who may call, and what all of them together may spend."""

    by_name: Mapping[str, Account]
    budget: Budget


NOBODY = Accounts(MappingProxyType({}), Budget())


def read_accounts(root: Table, names: Names, report: Report) -> Accounts:
    """Return the accounts; whatever is wrong is reported, and then there is nobody."""
    check_version(root, report)
    shape = read_shape(root, AccountsFile, report)
    report_strays(root, report)
    _check_digests(root, report)
    for entry in entries_at(root, "accounts").values():
        _check_tasks(entry.value, names, report)
    if shape is None or report.stops:
        return NOBODY
    accounts = {name: _account(name, account) for name, account in shape.accounts.items()}
    return Accounts(MappingProxyType(accounts), budget_of(shape.budget))


def _check_digests(root: Table, report: Report) -> None:
    owners: dict[str, tuple[str, Place]] = {}
    for name, entry in entries_at(root, "accounts").items():
        keys = at(entry.value, "keys")
        for key in keys.items if isinstance(keys, Items) else ():
            if not (isinstance(key, Leaf) and isinstance(key.value, str)):
                continue
            digest = key.value.lower()
            if digest in owners:
                owner, first = owners[digest]
                report.error(
                    key.place,
                    f'this key is already one of "{owner}" (line {first.line}); one key, one account',
                )
            else:
                owners[digest] = (name, key.place)


def _check_tasks(account: Node, names: Names, report: Report) -> None:
    """Report the tasks that are not there; beside one that is, a strange name may be that of a file to come."""
    tasks = [*texts_at(account, "tasks")]
    known = names.tasks or frozenset()
    to_come = any(task in known for task, _ in tasks)
    for task, place in tasks:
        if to_come and task not in known and nearest(task, known) is None:
            report.warning(place, f"there is no task {shown(task)} yet{did_you_mean(task, sorted(known))}")
        else:
            check_name(task, names.tasks, "task", place, report)


def _account(name: str, shape: AccountShape) -> Account:
    return Account(
        name=name,
        key_digests=tuple(bytes.fromhex(key.removeprefix("sha256:")) for key in shape.keys),
        budget=budget_of(shape.budget),
        requests_per_minute=shape.limits.requests_per_minute,
        tokens_per_minute=shape.limits.tokens_per_minute,
        tasks=None if shape.tasks is None else frozenset(shape.tasks),
    )


def budget_of(shape: BudgetShape) -> Budget:
    """Return the limits in nUSD, rounded down."""

    return Budget(
        per_request_nusd=None if shape.per_request_usd is None else nusd_limit(shape.per_request_usd),
        per_hour_nusd=None if shape.per_hour_usd is None else nusd_limit(shape.per_hour_usd),
        per_day_nusd=None if shape.per_day_usd is None else nusd_limit(shape.per_day_usd),
        per_month_nusd=None if shape.per_month_usd is None else nusd_limit(shape.per_month_usd),
        on_exceeded=shape.on_exceeded,
        hold=shape.hold if isinstance(shape, TaskBudgetShape) else "ceiling",
    )
