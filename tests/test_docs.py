"""The examples of the documentation are run, what it names exists, and its links lead somewhere.

A block in `sh`, `python` or `js` is run against a proxy; `…` in a block of `text`, which follows one in `sh`, stands
for anything. Blocks in `bash` and `ini` are for a machine's administrator: they are parsed, and the `farthing` commands
in them as well. `test_docs_tables.py` compares the tables.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from e2e.test_sdk_node import MISSING, installed  # noqa: F401 - a fixture
from pages import PAGES, ROOT, Block, anchors, blocks, coded, rows
from proxy import Proxy, running_provider, running_proxy

from router.cli import app
from router.policy.reading.load import Loaded, load_files
from router.policy.testing import run_tests
from router.pricing import Catalogue
from router.tokens import Counter

URL = "http://127.0.0.1:4100"
ADMIN_KEY = "an-admin-key"
WITHIN_S = 30


def of(*languages: str) -> list[Any]:
    return [pytest.param(block, id=str(block)) for block in blocks() if block.language in languages]


def is_make(block: Block) -> bool:
    """Say whether a block holds nothing but calls of make, which are not run here."""
    return all(line.startswith("make ") for line in block.text.splitlines())


# -- examples that are run ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a reader of the README has it: the shipped policies, and the one that the README has them write."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "policies", folder / "policies")
    for block in blocks():
        if block.page.name == "README.md" and block.language == "yaml":
            (folder / block.text.splitlines()[0].removeprefix("# ")).write_text(block.text)
    tools = folder / "bin"
    tools.mkdir()
    for name, command in (("farthing", "-m router"), ("python", "")):
        (tools / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {command} "$@"\n')
        (tools / name).chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def proxy(site: Path) -> Iterator[Proxy]:
    with (
        running_provider() as provider,
        running_proxy(site, {}, settings={"admin_key": ADMIN_KEY}, simulated_url=provider.root_url) as running,
    ):
        yield running


@pytest.fixture
def environ(site: Path, proxy: Proxy) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FARTHING_", "OPENAI_"))}
    return {
        **kept,
        "PATH": f"{site / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "FARTHING_URL": proxy.url,
        "FARTHING_LEDGER_URL": f"sqlite:///{proxy.ledger}",
        "FARTHING_ADMIN_KEY": ADMIN_KEY,
    }


def here(block: Block, proxy: Proxy) -> str:
    """Return a block's text with the test's own proxy in place of the usual one."""
    return block.text.replace(URL, proxy.url)


@pytest.mark.parametrize("block", [param for param in of("sh") if not is_make(param.values[0])])
def test_a_shell_example_works_and_prints_what_is_shown(
    block: Block, site: Path, proxy: Proxy, environ: dict[str, str]
) -> None:
    command = ["bash", "-euo", "pipefail", "-c", here(block, proxy)]
    done = subprocess.run(
        command, cwd=site, env=environ, capture_output=True, encoding="utf-8", timeout=WITHIN_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    following = blocks()[blocks().index(block) + 1 :]
    shown = following[0] if following and following[0].page == block.page else None
    for line in shown.text.splitlines() if shown and shown.language == "text" else ():
        pattern = ".*".join(map(re.escape, line.rstrip().split("…")))
        assert re.search(rf"(?m)^{pattern}\s*$", done.stdout), f"{line!r} is not in:\n{done.stdout}"


@pytest.mark.parametrize("block", of("python"))
def test_a_python_example_works(block: Block, proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    code = compile(here(block, proxy), str(block), "exec")
    exec(code, {"__name__": "__main__"})
    if "print(" in block.text and "except" not in block.text:
        assert capsys.readouterr().out.strip()


@pytest.mark.skipif(bool(MISSING) and not os.environ.get("CI"), reason="Node.js 20 or newer is not here")
@pytest.mark.parametrize("block", of("js"))
def test_a_node_example_works(block: Block, proxy: Proxy, installed: Path) -> None:  # noqa: F811 - the fixture
    script = installed / f"{block.page.stem}-{block.line}.mjs"
    script.write_text(here(block, proxy))
    done = subprocess.run(
        ["node", script], cwd=installed, capture_output=True, encoding="utf-8", timeout=WITHIN_S, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("block", of("sql"))
def test_a_query_works_on_a_ledger(block: Block, proxy: Proxy, tmp_path: Path) -> None:
    proxy.ask(max_tokens=5)
    assert proxy.rows()
    with closing(sqlite3.connect(proxy.ledger, isolation_level=None)) as connection:
        connection.execute(block.text.replace("farthing-copy.db", str(tmp_path / "copy.db")))


# -- examples that are parsed ------------------------------------------------------------------------------------------


FOREIGN = {"scrape_configs", "groups"}
"""Files of Prometheus."""


def loaded(block: Block) -> Loaded:
    """Read a block as the policy file that it is, or is a part of, beside what it needs to be whole."""
    keys = yaml.safe_load(block.text).keys()
    shipped = {path.name: path.read_bytes() for path in (ROOT / "policies").glob("*.yaml")}
    text = block.text if "version" in keys else f"version: 1\n{block.text}"
    if "models" in keys:
        model = next(iter(yaml.safe_load(block.text)["models"]))
        default = f"version: 1\ntask: default\nroute: [{{use: {model}}}]\n"
        files = {"models.yaml": text.encode(), "default.yaml": default.encode()}
    elif "accounts" in keys:
        files = {**shipped, "accounts.yaml": text.encode()}
    else:
        text += "" if "task" in keys else "task: example\n"
        text += "" if "route" in keys else "route:\n  - use: cheap\n"
        files = {**shipped, "example.yaml": text.encode()}
    return load_files(files, Catalogue(), {}, Path("policies"))


@pytest.mark.parametrize("block", of("yaml"))
def test_a_policy_example_has_no_fault_and_its_tests_hold(block: Block) -> None:
    if not FOREIGN.isdisjoint(yaml.safe_load(block.text)):
        return
    found = loaded(block)
    assert found.faults == ()
    own = [test for test in found.tests if test.file == "policies/example.yaml"]
    failed = [verdict for verdict in run_tests(found.checked(), own, Counter()) if not verdict.passed]
    assert failed == []
    assert bool(own) == ("tests:" in block.text)


def arguments(command: str) -> list[str]:
    """Return what follows `farthing` in a line of shell, up to a pipe, a redirection or a comment."""
    words = shlex.split(command, comments=True)
    end = next((index for index, word in enumerate(words) if word in ("|", ">", "&&")), len(words))
    return words[1:end]


_COMMANDS: Any = typer.main.get_command(app)


def commands() -> list[str]:
    """Return every `farthing …` command that a page names, in blocks and in its text."""
    found = set()
    names = "|".join(_COMMANDS.commands)
    for block in blocks():
        if block.language in ("sh", "bash", "ini"):
            found.update(re.findall(rf"(?m)(?:^|[|/] ?)(farthing (?:{names})\b.*)$", block.text))
    for page in PAGES:
        found.update(re.findall(r"`(farthing [a-z][^`]*)`", page.read_text("utf-8")))
    return sorted(found)


@pytest.mark.parametrize("command", commands())
def test_a_command_that_is_named_exists_with_its_options(command: str) -> None:
    words = [word for word in arguments(command) if not word.startswith("…")]
    found = _COMMANDS
    while hasattr(found, "commands") and words:
        assert words[0] in found.commands, f"there is no {words[0]}"
        found = found.commands[words.pop(0)]
    if words:
        found.make_context("farthing", words)


def test_every_make_target_that_is_named_exists() -> None:
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    named = set(re.findall(r"(?m)^make ([\w-]+)|`make ([\w-]+)[` ]", text))
    assert len(named) >= 4
    for targets in named:
        subprocess.run(["make", "--dry-run", "".join(targets)], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize("block", of("bash"))
def test_a_script_for_an_administrator_is_valid_shell(block: Block) -> None:
    subprocess.run(["bash", "-n", "-c", block.text], check=True)


@pytest.mark.parametrize("block", of("json"))
def test_a_block_of_json_is_json_lines(block: Block) -> None:
    for line in block.text.splitlines():
        json.loads(line)


def test_no_block_goes_unchecked() -> None:
    known = {"sh", "python", "js", "json", "sql", "yaml", "bash", "ini", "text", "promql", "caddyfile", ""}
    assert {block.language for block in blocks()} == known


# -- names and links ---------------------------------------------------------------------------------------------------


@cache
def sources() -> str:
    folders = (ROOT / "router", ROOT / "tests" / "e2e")
    paths = [*(path for folder in folders for path in folder.rglob("*.py")), *(ROOT / "policies").iterdir()]
    return "\n".join(path.read_text("utf-8") for path in paths)


def test_every_variable_and_header_that_is_named_is_known_to_the_code() -> None:
    for page in PAGES:
        text = page.read_text("utf-8")
        for name in re.findall(r"\bFARTHING_[A-Z_]+|\bx-farthing-[a-z-]+[a-z]|\bx-should-retry\b", text):
            suffix = name.removeprefix("x-farthing-")
            assert name in sources() or f'x-farthing-{suffix}"' in sources(), f"{page.name}: {name}"


def test_every_metric_that_is_named_exists() -> None:
    known = {code for row in rows("metrics") for cell in (row[0], row[2]) for code in coded(cell)}
    for page in PAGES:
        for name in re.findall(r"\b(?:farthing|gen_ai)_[a-z_]+", page.read_text("utf-8")):
            assert name in known, f"{page.name}: {name}"


def test_every_file_that_contributing_names_exists() -> None:
    text = (ROOT / ".github" / "CONTRIBUTING.md").read_text("utf-8")
    named = re.findall(r"`((?:router|tests|docs|policies|\.ci)/[\w./-]+)`", text)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_link_between_pages_leads_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
            if link.startswith("https://"):
                continue
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), f"{page.name}: {link}"
            assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


def test_the_readme_leads_to_every_page() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert [page.name for page in PAGES if page.name != "README.md" and page.name not in text] == []
