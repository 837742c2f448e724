"""The processes under test: an upstream that answers at once, and a proxy with everything switched on."""

from __future__ import annotations

import hashlib
import http.client
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

KEY = "fk-bench"

MODELS = """\
version: 1
models:
  cheap: {{target: openai/gpt-4o-mini, base_url: "{url}"}}
  standard: {{target: openai/gpt-4.1-mini, base_url: "{url}"}}
  premium: {{target: openai/gpt-4o, base_url: "{url}"}}
"""
ACCOUNTS = """\
version: 1
budget: {{per_month_usd: 100000}}
accounts:
  bench:
    keys: ["sha256:{digest}"]
    budget: {{per_day_usd: 10000, per_month_usd: 50000}}
"""
TASK = """\
version: 1
task: {task}
baseline: premium
budget: {per_request_usd: 0.05, per_day_usd: 5000, on_exceeded: downgrade}
route:
  - name: long
    when: {input_tokens: {gt: 4000}}
    use: premium
  - name: pictures
    when: {has: images}
    use: [premium]
  - name: nearly-spent
    when: {budget_used_pct: {gte: 90}}
    use: cheap
  - name: routine
    when: {input_tokens: {lte: 2000}}
    use: [cheap, standard]
    prefer: cheapest
  - name: rest
    use: standard
"""


BY_DIFFICULTY = "  - {name: hard, when: {difficulty: {gte: 0.7}}, use: standard}\n"
BY_SHARE = "  - {name: rest, use: [cheap, standard], premium_share: 0.3}\n"


def write_policies(folder: Path, upstream_url: str) -> None:
    """Write accounts, models, six tasks, and one beside `support` for each way to look at difficulty."""
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    (folder / "models.yaml").write_text(MODELS.format(url=upstream_url))
    (folder / "accounts.yaml").write_text(ACCOUNTS.format(digest=digest))
    for task in ("default", "support", "search", "extract", "code", "legal"):
        (folder / f"{task}.yaml").write_text(TASK.replace("{task}", task))
    head, rules = TASK.split("route:\n")
    every_rule = {"by-difficulty": f"{BY_DIFFICULTY}{rules}", "by-share": BY_SHARE}
    for task, own in every_rule.items():
        (folder / f"{task}.yaml").write_text(f"{head.replace('{task}', task)}route:\n{own}")


@contextmanager
def instant_upstream(core: int) -> Iterator[str]:
    """Run the instant simulated provider on one core; give its base URL."""
    command = [sys.executable, "-m", "router.providers.simulated", "--instant", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=_pin(core))
    try:
        assert process.stdout
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.wait()


class Proxy:
    """A running proxy: its URL, how long it took to be ready, and its memory."""

    def __init__(self, process: subprocess.Popen[str], url: str, ready_s: float) -> None:
        self.process = process
        self.url = url
        self.ready_s = ready_s

    def rss_mb(self) -> float:
        """Return the resident memory in MB (10^6 bytes)."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def proxy(policies: Path, core: int, *options: str) -> Iterator[Proxy]:
    """Run `farthing serve` on one core, with these options, until it is ready."""
    command = [sys.executable, "-m", "router", "serve", "--policies", str(policies), "--port", "0"]
    command += options
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=_pin(core))
    try:
        assert process.stdout
        url = process.stdout.readline().split(" on ")[1].split()[0]
        host, port = url.removeprefix("http://").split(":")
        while True:
            connection = http.client.HTTPConnection(host, int(port))
            connection.request("GET", "/health/ready")
            if connection.getresponse().status == 200:
                break
        yield Proxy(process, url, time.perf_counter() - started)
    finally:
        process.terminate()
        process.wait()


def _pin(core: int) -> Callable[[], None]:
    return lambda: os.sched_setaffinity(0, {core})
