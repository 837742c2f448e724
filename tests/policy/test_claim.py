"""Which task a request belongs to, where the name that a caller gives is none."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from policy.broken_folder import WHOLE
from router.errors import InvalidRequest
from router.policy.claim import AUTO, claim
from router.policy.policy import PolicySet
from router.policy.reading.load import load_files
from router.pricing import Catalogue


@pytest.fixture(scope="module")
def policies() -> PolicySet:
    return load_files(WHOLE, Catalogue(), {}, Path()).checked()


def refused(policies: PolicySet, task: str) -> str:
    with pytest.raises(InvalidRequest) as told:
        claim(policies, AUTO, header_task=None, metadata={"task": task}, account=None, headers={})
    return told.value.message


@pytest.mark.parametrize("written", ["defualt", "Default"])
def test_a_misspelt_task_is_told_with_the_one_that_was_meant(policies: PolicySet, written: str) -> None:
    assert refused(policies, written) == (
        f"There is no task '{written}' (from metadata.task). Did you mean 'default'? Tasks: default."
    )


def test_a_name_as_long_as_a_body_keeps_nobody_waiting(policies: PolicySet) -> None:
    name = "ab" * 5_000_000
    started = time.thread_time()
    assert refused(policies, name).startswith("There is no task 'ababab")
    assert time.thread_time() - started < 0.5
