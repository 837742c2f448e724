"""What a set of policies that was read needs before it is in force: accounts, keys, and budgets that are filled."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator

from router.errors import NotAdmitted, PolicyFaults, StoreUnavailable
from router.policy.policy import PolicySet
from router.providers.lanes import simulated, with_keys, without_keys
from router.settings import Settings
from router.web.books import Books

RESTORED_WITHIN_S = 10.0

log = logging.getLogger("farthing")


class Admission:
    """Admits sets of policies. Made in the event loop of the budgets; once there are books, called in a thread."""

    def __init__(self, settings: Settings, simulated_url: str | None) -> None:
        """`simulated_url` is where simulated providers stand in for the real ones."""
        self._settings = settings
        self._simulated_url = simulated_url
        self._loop = asyncio.get_running_loop()
        self.books: Books | None = None
        """None at the start: they are opened for the first set."""

    def admit(self, policies: PolicySet) -> PolicySet:
        """Complete a set that was read: keys from the environment, simulated providers where they stand in.

        Raises:
            NotAdmitted: its new budgets can't be started now.
            PolicyFaults: it has no accounts although others than this machine can reach the proxy.
        """
        settings = self._settings
        if not policies.accounts and not settings.loopback_only:
            message = (
                f"there are no accounts, so the proxy is open and may only listen on 127.0.0.1, not on "
                f"{settings.host}; make one with `farthing keys new --account NAME`"
            )
            raise PolicyFaults((f"{settings.policies}: {message}",))
        if self.books is not None:
            self._restore_new(self.books, policies)
        policies = with_keys(policies, os.environ)
        for trial, model in _tried(policies):
            if absent := policies.models[model].absent:
                log.warning("%s can't try '%s', which is left out: %s.", trial, model, absent)
        if self._simulated_url:
            return simulated(policies, self._simulated_url)
        for target in without_keys(policies):
            log.warning("%s has no API key, so calls to it will fail.", target.name)
        return policies

    def _restore_new(self, books: Books, policies: PolicySet) -> None:
        """Start the budgets that an edit adds from what the ledger says was spent.

        Raises:
            NotAdmitted: the ledger or the store of budgets is away, so that the new ones would start from nothing.
        """
        try:
            if added := books.spending.added_by(policies):
                asyncio.run_coroutine_threadsafe(books.budgets.restore(added), self._loop).result(RESTORED_WITHIN_S)
        except StoreUnavailable as error:
            folder = self._settings.policies
            raise NotAdmitted((f"{folder}: new budgets can't be started: {error.message}",)) from error


def _tried(policies: PolicySet) -> Iterator[tuple[str, str]]:
    """Yield each experiment and each `learn.shadow`, in words, with a model that it tries.

    An `optional` model that is away changes nothing else that anyone would wait for: requests go to the next one.
    """
    for policy in policies.policies.values():
        for rule in policy.rules:
            for model in rule.experiment.models if rule.experiment else ():
                yield f"The experiment of {policy.task}/{rule.name}", model
        if policy.learn and policy.learn.shadow:
            yield f"What {policy.task} learns from", policy.learn.shadow.model
