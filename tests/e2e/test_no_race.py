"""A thousand callers at once can't spend a nano-dollar more than there is, over one process or over several."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path

import aiohttp
import pytest
from proxy import Calls, ServeProcess, eventually, ledger_rows
from redis_server import running_redis

from e2e.test_ledger import exact_files
from router.providers.simulated import SimulatedProvider

CALLERS = 1_000
FITTING = 137
TOKENS = 64
EACH_NUSD = TOKENS * 600
TASK = f"task: race\nbudget: {{per_day_usd: {FITTING * EACH_NUSD / 1e9:.9f}}}\nroute: [{{use: exact}}]\n"
ROUNDS = int(os.environ.get("FARTHING_RACES", "1"))
WITHIN_S = 120.0


async def ask_at_once(calls: Calls) -> Counter[int]:
    """Send one request from each of the callers, each on a connection of its own; return how many got which status."""
    timeout = aiohttp.ClientTimeout(total=WITHIN_S)
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

        async def ask(number: int) -> int:
            body = {
                "model": "task:race",
                "max_tokens": TOKENS,
                "stream": number % 3 == 0,
                "messages": [{"role": "user", "content": "Tell me a long story."}],
            }
            async with session.post(f"{calls.base_url}/chat/completions", json=body) as answer:
                await answer.read()
                return answer.status

        return Counter(await asyncio.gather(*(ask(number) for number in range(CALLERS))))


@pytest.mark.parametrize("round_number", range(ROUNDS))
@pytest.mark.parametrize("workers", [1, 4])
def test_a_thousand_callers_spend_what_there_is_and_no_more(
    provider: SimulatedProvider, tmp_path: Path, workers: int, round_number: int
) -> None:
    with running_redis() as redis:
        store = ("--budgets-url", redis.url, "--workers", str(workers)) if workers > 1 else ()
        with ServeProcess(
            tmp_path, exact_files(provider, race=TASK), *store, environ={"TMPDIR": str(tmp_path)}
        ) as process:
            calls = process.ready()
            calls.http.headers["connection"] = "close"
            statuses = asyncio.run(ask_at_once(calls))
            assert statuses == {200: FITTING, 402: CALLERS - FITTING}

            def written() -> bool:
                rows = ledger_rows(calls.ledger)
                return len(rows) == CALLERS and all(row["outcome"] != "held" for row in rows)

            eventually(written, "every row to be settled", 30.0)
            rows = ledger_rows(calls.ledger)
            assert Counter(row["outcome"] for row in rows) == {"answered": FITTING, "refused": CALLERS - FITTING}
            assert sum(row["charged_nusd"] for row in rows) == FITTING * EACH_NUSD
            for gauge, nusd in (("spent", FITTING * EACH_NUSD), ("held", 0), ("remaining", 0)):
                measured = calls.metric_nusd(f"farthing_budget_{gauge}_usd", scope="task", name="race", window="day")
                assert measured == nusd, gauge
