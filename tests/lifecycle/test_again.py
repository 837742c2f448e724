"""Deciding again: what was tried and what was cached is in the ledger, so that a replay comes to the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from proxy import eventually, running_proxy

from lifecycle.conftest import files_for
from lifecycle.test_stick import LONG, TASK
from lifecycle.test_stick import MODELS as STICKY_MODELS
from router.providers.simulated import SimulatedProvider

BOTH = "{canary: {model: trial, share: 0.5}, shadow: {model: spare, budget_per_day_usd: 1}}"


def _replay(folder: Path, policies: Path) -> dict[str, Any]:
    ledger = f"sqlite:///{folder / 'ledger.db'}"
    command = [sys.executable, "-m", "router", "replay", "--policies", str(policies), "--ledger-url", ledger, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_replay_of_an_experiment_puts_everybody_on_the_side_they_were_on(
    provider: SimulatedProvider, tmp_path: Path
) -> None:
    with running_proxy(tmp_path, files_for(provider, BOTH)) as proxy:
        for number in range(12):
            assert proxy.ask(f"Where is {number}?").status_code == 200
        eventually(lambda: sum(row["outcome"] == "shadow" for row in proxy.rows()) == 12, "every shadow")
        charged_nusd = sum(row["charged_nusd"] for row in proxy.rows())
    same = _replay(tmp_path, tmp_path / "policies")
    assert (same["requests"], same["changed_decisions"]) == (12, 0)
    assert same["recorded_usd"] == same["replayed_usd"] == charged_nusd / 1e9

    default = tmp_path / "policies" / "default.yaml"
    default.write_text(default.read_text().replace("share: 0.5", "share: 1"))
    assert _replay(tmp_path, tmp_path / "policies")["mix"] == {"trial": 1.0}


def test_a_replay_of_a_warm_cache_stays_where_it_was(provider: SimulatedProvider, tmp_path: Path) -> None:
    files = {"models": STICKY_MODELS.format(url=provider.base_url, cached=0.2), "default": TASK}
    with running_proxy(tmp_path, files) as proxy:
        asked = [{"role": "user", "content": LONG}]
        proxy.row_of(proxy.ask(messages=asked, max_tokens=5))
        more = [*asked, {"role": "assistant", "content": "Yes."}, {"role": "user", "content": "And then?"}]
        row = proxy.row_of(proxy.ask(messages=more, max_tokens=5))
        assert row["facts"]["warm"]["stays"] is True
    assert _replay(tmp_path, tmp_path / "policies")["changed_decisions"] == 0
