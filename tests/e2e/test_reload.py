"""Policies that change under load: no request fails, none sees two sets, and what is in force existed as a whole.

FARTHING_RELOAD_S=60 makes the load last a minute; it is 4 s otherwise.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import re
import shutil
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from proxy import WITHIN_S, Calls, Proxy, eventually, running_provider, running_proxy, write_policies
from redis_server import running_redis

from router.policy.policy import PolicySet
from router.policy.reading.load import load_folder, read_files, revision_of
from router.pricing import Catalogue
from router.web.background import keep_up
from router.web.reload import PolicyFolder

LASTS_S = float(os.environ.get("FARTHING_RELOAD_S", "4"))
MORE_S = 30.0
EVERY_S = 0.1
IN_FORCE_WITHIN_S = 2.0
CALLERS = 4
BROKEN = ("task: [\n", "", "version: 1\ntask: default\nroute: [{use: nothing}]\n", "\x00", "version: 1\nruote: 5\n")


def of_version(number: int) -> dict[str, str]:
    """Return a set that is only valid whole: a file of one version does not go with another's."""
    return {
        "models.yaml": f"version: 1\nmodels:\n  m{number}: {{target: openai/gpt-4.1-nano}}\n",
        "default.yaml": f"version: 1\ntask: default\nroute: [{{name: r{number}, use: m{number}}}]\n",
    }


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    files = {name.removesuffix(".yaml"): text.removeprefix("version: 1\n") for name, text in of_version(0).items()}
    with (
        running_provider() as provider,
        running_proxy(
            tmp_path, files, settings={"admin_key": "an-admin-key"}, simulated_url=provider.root_url
        ) as running,
    ):
        yield running


def rule_in_force(proxy: Calls) -> str:
    answer = proxy.ask(max_tokens=1)
    assert answer.status_code == 200, answer.text
    return str(answer.headers["x-farthing-rule"])


class Editor:
    """Edits a folder in the ways that people and programs do, and remembers every set that stood there."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.version = 0
        self.revisions: dict[str, int | None] = {}
        """The version of each set of files that there was; None where it was no whole one."""
        self._random = random.Random(seed)
        self._note(0)

    def edit(self) -> None:
        """Make one edit, in three of four cases a good one."""
        if self._random.random() < 0.25:
            self._write("default.yaml", self._random.choice(BROKEN))
            return
        self.version += 1
        files = list(of_version(self.version).items())
        self._random.shuffle(files)
        for place, (name, text) in enumerate(files, start=1):
            self._write(name, text, version=self.version if place == len(files) else None)

    def _write(self, name: str, text: str, version: int | None = None) -> None:
        path = self.folder / name
        if self._random.random() < 0.5:
            temporary = self.folder / f".{name}.swp"
            temporary.write_text(text)
            temporary.replace(path)
        else:
            path.write_text(text)
        self._note(version)

    def _note(self, version: int | None) -> None:
        files, _ = read_files(self.folder)
        self.revisions[revision_of(files)] = version


def test_no_request_fails_or_sees_two_sets_while_the_policies_change(proxy: Proxy) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    editor = Editor(proxy.policies, seed)
    over = threading.Event()
    found: list[tuple[int, str, str, str]] = []

    def call() -> None:
        while not over.is_set():
            answer = proxy.ask(max_tokens=1)
            rule, model = (answer.headers.get(f"x-farthing-{what}", "") for what in ("rule", "model"))
            found.append((answer.status_code, answer.headers["x-farthing-request-id"], rule, model))

    callers = [threading.Thread(target=call) for _ in range(CALLERS)]
    for caller in callers:
        caller.start()
    try:
        ends = time.perf_counter() + LASTS_S
        # Where chance has the folder broken at each moment it is read, the load lasts until it is not.
        while time.perf_counter() < ends or len({rule for _, _, rule, _ in found}) < 3:
            assert time.perf_counter() < ends + MORE_S, "no edit came into force"
            editor.edit()
            over.wait(EVERY_S)
    finally:
        over.set()
        for caller in callers:
            caller.join()

    assert {status for status, *_ in found} == {200}
    rows = {row["id"]: row for row in proxy.rows()}
    for _, request_id, rule, model in found:
        row = rows[request_id]
        version = editor.revisions[row["policy_revision"]]
        assert version is not None, "a set that was never whole was in force"
        assert (rule, model) == (row["rule"], row["routed_model"]) == (f"r{version}", f"m{version}")
    seen = {row["policy_revision"] for row in rows.values()}
    print(f"{len(found)} requests, {editor.version} good edits, {len(seen)} revisions in force")
    editor.edit()
    for name, text in of_version(9_999_999).items():
        (proxy.policies / name).write_text(text)
    started = time.perf_counter()
    eventually(lambda: rule_in_force(proxy) == "r9999999", "the last edit in force")
    assert time.perf_counter() - started < IN_FORCE_WITHIN_S


def test_a_config_map_is_swapped_as_kubernetes_does(proxy: Proxy) -> None:
    folder = proxy.policies
    for number in (1, 2, 3):
        data = folder / f"..2026_11_22_{number}"
        data.mkdir()
        for name, text in of_version(number).items():
            (data / name).write_text(text)
        (folder / "..data_tmp").symlink_to(data.name)
        (folder / "..data_tmp").replace(folder / "..data")
        for name in of_version(number):
            if not (folder / name).is_symlink():
                (folder / name).unlink()
                (folder / name).symlink_to(f"..data/{name}")
        started = time.perf_counter()
        eventually(lambda number=number: rule_in_force(proxy) == f"r{number}", "the new data in force")
        assert time.perf_counter() - started < IN_FORCE_WITHIN_S
        shutil.rmtree(folder / f"..2026_11_22_{number - 1}", ignore_errors=True)


def test_a_folder_behind_a_link_that_is_swapped_is_read_again(tmp_path: Path) -> None:
    for number in (0, 1):
        (tmp_path / f"release-{number}").mkdir()
        for name, text in of_version(number).items():
            (tmp_path / f"release-{number}" / name).write_text(text)
    (tmp_path / "policies").symlink_to("release-0")
    with running_provider() as provider, running_proxy(tmp_path, {}, simulated_url=provider.root_url) as proxy:
        assert rule_in_force(proxy) == "r0"
        (tmp_path / "next").symlink_to("release-1")
        (tmp_path / "next").replace(tmp_path / "policies")
        started = time.perf_counter()
        eventually(lambda: rule_in_force(proxy) == "r1", "the new release in force")
        assert time.perf_counter() - started < IN_FORCE_WITHIN_S


def test_a_rejected_edit_is_told_with_its_faults_until_it_is_mended(proxy: Proxy) -> None:
    def told() -> dict[str, object]:
        answer = proxy.http.get("/admin/policies", headers={"authorization": "Bearer an-admin-key"})
        return dict(answer.json())

    before = told()
    assert (before["rejected_at"], before["faults"]) == (None, [])
    proxy.rewrite(default="task: default\nroute: [{use: nothing}]\n")
    rejected = told()
    assert (rejected["revision"], rejected["since"]) == (before["revision"], before["since"])
    assert rejected["rejected_at"] is not None
    assert re.search(r"default\.yaml:3:15: .*unknown model", str(rejected["faults"]))
    proxy.rewrite(default="task: default\nroute: [{name: mended, use: m0}]\n")
    after = told()
    assert (after["rejected_at"], after["faults"]) == (None, [])
    assert after["revision"] != before["revision"]
    assert str(after["since"]) > str(before["since"])


@pytest.mark.parametrize("how", ["taken away", "emptied"])
def test_an_edit_without_accounts_does_not_open_a_proxy_that_has_some(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    accounts = f'accounts:\n  team: {{keys: ["sha256:{hashlib.sha256(b"fk-team").hexdigest()}"]}}\n'
    files = {"models": "models:\n  m: {target: openai/gpt-4.1-nano}\n", "default": "task: default\nroute: [{use: m}]\n"}
    settings = {"admin_key": "an-admin-key"}
    with (
        running_provider() as provider,
        running_proxy(
            tmp_path, files | {"accounts": accounts}, settings=settings, simulated_url=provider.root_url
        ) as proxy,
    ):

        def rejected() -> bool:
            return proxy.metric("farthing_policy_reloads_total", result="rejected") > 0

        assert proxy.ask(max_tokens=1).status_code == 401
        if how == "taken away":
            (proxy.policies / "accounts.yaml").unlink()
        else:
            write_policies(proxy.policies, {"accounts": "budget: {per_day_usd: 5}\n"})
        eventually(rejected, "a rejected edit")
        assert proxy.ask(max_tokens=1).status_code == 401
        assert proxy.ask(max_tokens=1, headers={"authorization": "Bearer fk-team"}).status_code == 200
        told = proxy.http.get("/admin/policies", headers={"authorization": "Bearer an-admin-key"}).json()
        assert told["accounts"] == ["team"]
        (fault,) = told["faults"]
        assert fault.startswith(f"{proxy.policies / 'accounts.yaml'}:1:1: ")
        assert "anyone on this machine could call without a key" in fault
        assert f"Policy edit rejected: {fault}" in caplog.messages
        proxy.rewrite(accounts=accounts)
        assert (
            proxy.http.get("/admin/policies", headers={"authorization": "Bearer an-admin-key"}).json()["faults"] == []
        )


@pytest.mark.anyio
async def test_an_edit_whose_reading_failed_is_read_again(tmp_path: Path) -> None:
    write_policies(tmp_path, {"models": "models:\n  m: {target: openai/gpt-4.1-nano}\n"})
    write_policies(tmp_path, {"default": "task: default\nroute: [{use: m}]\n"})
    failures = [TimeoutError("budgets that did not answer in time")]

    def admit(policies: PolicySet) -> PolicySet:
        if policies.policies["default"].rules[0].name == "next" and failures:
            raise failures.pop()
        return policies

    load = partial(load_folder, catalogue=Catalogue(), environ={})
    folder = PolicyFolder(tmp_path, load, admit, lambda revision: None, time.time)
    folder.read()
    changed = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        (watching,) = keep_up(tasks, [partial(folder.watch, lambda policies: changed.set())])
        write_policies(tmp_path, {"default": "task: default\nroute: [{name: next, use: m}]\n"})
        async with asyncio.timeout(WITHIN_S):
            await changed.wait()
        watching.cancel()
    assert (failures, folder.current().policies["default"].rules[0].name) == ([], "next")


def use(path: Path, model: str) -> None:
    write_policies(path, {"default": f"task: default\nroute: [{{use: {model}}}]\n"})


@asynccontextmanager
async def watched(path: Path) -> AsyncIterator[tuple[PolicyFolder, asyncio.Queue[str | None]]]:
    """Watch a folder whose task uses `m`, under a clock that stands still.

    The queue has the revision of each edit, None where it was rejected.
    """
    write_policies(path, {"models": "models:\n  m: {target: openai/gpt-4.1-nano}\n"})
    use(path, "m")
    told: asyncio.Queue[str | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def tell(revision: str | None) -> None:
        loop.call_soon_threadsafe(told.put_nowait, revision)

    load = partial(load_folder, catalogue=Catalogue(), environ={})
    folder = PolicyFolder(path, load, lambda policies: policies, tell, lambda: 1_795_262_400.0)
    revision = folder.read().revision
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(WITHIN_S):
        watching = tasks.create_task(folder.watch(lambda policies: None))
        assert await told.get() == revision
        yield folder, told
        watching.cancel()


@pytest.mark.anyio
async def test_each_rejected_edit_is_logged_however_soon_it_follows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with watched(tmp_path) as (folder, told):
        revision = folder.current().revision
        for model in ("first", "second"):
            use(tmp_path, model)
            assert await told.get() is None
        use(tmp_path, "m")
        assert await told.get() == revision
    rejected = [message for message in caplog.messages if message.startswith("Policy edit rejected")]
    assert [re.findall("first|second", message) for message in rejected] == [["first"], ["second"]]


@pytest.mark.anyio
async def test_only_what_stops_an_edit_is_logged_as_why_it_was_rejected(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_policies(tmp_path, {"_included_by_none": "conditions: {long: {input_tokens: {gt: 5}}}\n"})
    async with watched(tmp_path) as (folder, told):
        revision = folder.current().revision
        use(tmp_path, "gone")
        assert await told.get() is None
        rejected = folder.described()["faults"]
        use(tmp_path, "m")
        assert await told.get() == revision
    assert [bool(re.search(": warning: ", fault)) for fault in rejected] == [True, False]
    logged = [message for message in caplog.messages if message.startswith("Policy edit rejected")]
    assert logged == [f"Policy edit rejected: {rejected[1]}"]


def test_an_edit_that_waits_for_redis_comes_into_force_when_it_is_back(tmp_path: Path) -> None:
    files = {
        "models": "models:\n  m: {target: openai/gpt-4.1-nano}\n",
        "default": "task: default\nroute: [{use: m}]\n",
    }
    with (
        running_redis() as redis,
        running_provider() as provider,
        running_proxy(
            tmp_path,
            files,
            settings={"admin_key": "an-admin-key", "budgets_url": redis.url},
            simulated_url=provider.root_url,
        ) as proxy,
    ):
        redis.kill()
        proxy.rewrite(limited="task: limited\nbudget: {per_day_usd: 1}\nroute: [{use: m}]\n")
        (fault,) = policies_of(proxy)["faults"]
        assert "new budgets can't be started" in fault
        redis.start()
        eventually(lambda: "limited" in policies_of(proxy)["tasks"], "the edit in force, untouched")
        assert policies_of(proxy)["faults"] == []
        # It was tried again and again meanwhile, and told once.
        assert proxy.metric("farthing_policy_reloads_total", result="rejected") == 1


def policies_of(proxy: Calls) -> dict[str, Any]:
    found = proxy.http.get("/admin/policies", headers={"authorization": "Bearer an-admin-key"})
    assert found.status_code == 200, found.text
    return dict(found.json())


def test_an_open_proxy_may_be_given_accounts(proxy: Proxy) -> None:
    digest = hashlib.sha256(b"fk-team").hexdigest()
    proxy.rewrite(accounts=f'accounts:\n  team: {{keys: ["sha256:{digest}"]}}\n')
    assert proxy.ask(max_tokens=1).status_code == 401


def test_an_edit_in_force_is_logged_once_with_its_revision(proxy: Proxy, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "farthing.policies")
    proxy.rewrite(default="task: default\nroute: [{name: next, use: m0}]\n")
    revision = proxy.http.get("/health/ready").json()["policy_revision"]
    said = f"Policies {revision} are in force."
    eventually(lambda: said in caplog.messages, "the log's line")
    before = proxy.metric("farthing_policy_reloads_total")
    (proxy.policies / "default.yaml").touch()
    eventually(lambda: proxy.metric("farthing_policy_reloads_total") > before, "another look")
    proxy.rewrite(default="task: default\nroute: [{name: last, use: m0}]\n")
    last = proxy.http.get("/health/ready").json()["policy_revision"]
    eventually(lambda: f"Policies {last} are in force." in caplog.messages, "the log's next line")
    assert [record.levelname for record in caplog.records if record.message == said] == ["INFO"]
