"""Operators' checks that hang: what they keep of the proxy, and for how long."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from proxy import running_provider, running_proxy

from router.pipeline.own_checks import MOST_THREADS, Hung, OwnChecks
from router.providers.simulated import Simulation

WITHIN_S = 0.2
POLICY = """
task: default
route: [{use: cheap, verify: {python: "e2e.test_own_checks:hangs_where_told"}}]
"""
MODELS = """
models: {{cheap: {{target: openai/gpt-4o-mini, base_url: "{url}", retries: 0}}}}
"""
go_on = threading.Event()


def hangs_where_told(request: dict[str, Any], answer: dict[str, Any]) -> bool:
    return "hang" not in request["messages"][-1]["content"] or go_on.wait(60)


class Hanging:
    """A check that hangs until it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.began = 0

    def __call__(self, request: dict[str, Any], answer: dict[str, Any]) -> bool:
        self.began += 1
        return self.let_go.wait(60)


def fine(request: dict[str, Any], answer: dict[str, Any]) -> bool:
    return True


async def later_yes() -> AsyncIterator[bool]:
    yield True


@pytest.mark.anyio
@pytest.mark.parametrize(
    "said",
    [
        (True for _ in "a generator"),
        later_yes(),
        fine,
    ],
)
async def test_an_answer_of_a_check_that_is_true_whatever_it_says_has_not_passed(
    caplog: pytest.LogCaptureFixture, said: object
) -> None:
    assert not await OwnChecks().passes(lambda request, answer: said, {}, {})
    assert "is neither true nor false" in caplog.text


@pytest.mark.anyio
async def test_a_check_that_hangs_fails_at_once_when_its_threads_are_used_up_and_no_other_does(
    caplog: pytest.LogCaptureFixture,
) -> None:
    counted: Counter[Hung] = Counter()
    checks = OwnChecks(lambda hung: counted.update([hung]), within_s=WITHIN_S, most_threads=2)
    hanging = Hanging()
    try:
        asked = await asyncio.gather(*(checks.passes(hanging, {}, {}) for _ in range(3)))
        assert (asked, hanging.began, counted) == ([False] * 3, 2, {"late": 3})
        for _ in range(10):
            async with asyncio.timeout(WITHIN_S / 2):
                assert not await checks.passes(hanging, {}, {})
        assert (hanging.began, counted) == (2, {"late": 3, "skipped": 10})
        told = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert ["fails at once" in record.getMessage() for record in told] == [True]
        assert await checks.passes(fine, {}, {})
    finally:
        hanging.let_go.set()
    async with asyncio.timeout(30):
        while not await checks.passes(hanging, {}, {}):
            await asyncio.sleep(0)
    assert hanging.began > 2


@pytest.mark.anyio
async def test_a_caller_who_hangs_up_leaves_the_thread_to_the_check_until_it_ends() -> None:
    checks, hanging = OwnChecks(within_s=60, most_threads=1), Hanging()
    first = asyncio.create_task(checks.passes(hanging, {}, {}))
    async with asyncio.timeout(30):
        while not hanging.began:
            await asyncio.sleep(0)
        first.cancel()
        second = asyncio.create_task(checks.passes(hanging, {}, {}))
        await asyncio.wait([first])
        assert hanging.began == 1
        hanging.let_go.set()
        assert await second
    assert hanging.began == 2


@pytest.mark.anyio
async def test_a_check_that_gets_no_thread_of_the_system_has_failed_and_is_asked_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    checks = OwnChecks(within_s=WITHIN_S, most_threads=1)
    before = threading.stack_size(1 << 56)  # more than any address space, however freely memory is promised
    try:
        assert not await checks.passes(fine, {}, {})
    finally:
        threading.stack_size(before)
    assert "can't start new thread" in caplog.text
    assert await checks.passes(fine, {}, {})


def test_hung_checks_leave_the_proxy_its_threads_and_are_counted(tmp_path: Path) -> None:
    with (
        running_provider(Simulation()) as provider,
        running_proxy(tmp_path, {"models": MODELS.format(url=provider.base_url), "default": POLICY}) as proxy,
    ):
        try:
            asking = [threading.Thread(target=proxy.ask, args=("hang",)) for _ in range(MOST_THREADS + 1)]
            for thread in asking:
                thread.start()
            for thread in asking:
                thread.join()
            assert proxy.ask("go on").headers["x-farthing-verified"] == "failed"
            late, skipped = (proxy.metric("farthing_hung_checks_total", result=each) for each in ("late", "skipped"))
            assert (late, skipped) == (MOST_THREADS + 1, 1)
        finally:
            go_on.set()
