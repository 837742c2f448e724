"""What replaying recorded requests costs: rows of a ledger in SQLite, decided again under policies with twenty rules.

Reads, decodes, decides, prices and tallies as `farthing replay` does, on one core; the memory is that of all of it.
"""

from __future__ import annotations

import asyncio
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

from msgspec import structs
from rich.table import Table

from bench.decide import FACTS, policies_of
from router.ledger.contract import Store
from router.ledger.open import open_store
from router.ledger.report import records_since
from router.ledger.rows import Row, row_of
from router.policy.backtest.recorded import read
from router.policy.backtest.replay import Player
from router.policy.backtest.tally import Tally
from router.policy.decide import Route, decide
from router.policy.policy import PolicySet
from router.policy.purse import purse_of
from router.policy.record import recorded_circumstances, recorded_decision, recorded_facts
from router.values import Attempt, Certainty, Ending, Outcome, Usage

ROWS = 100_000
BATCH = 5_000


def measure_replaying(rows: int = ROWS) -> Table:
    """Measure a replay of so many rows under the policies that made them."""
    policies = policies_of(10)
    with tempfile.TemporaryDirectory() as folder, closing(open_store(f"sqlite:///{folder}/ledger.db")) as store:
        asyncio.run(_fill(store, policies, rows))
        started, used = time.perf_counter(), time.process_time()
        tally, player = Tally(), Player(policies)
        for page in records_since(store, None):
            for record in page:
                request = read(record)
                assert request is not None
                tally.add(record, request.as_recorded(), player.play(request))
        took_s, used_s = time.perf_counter() - started, time.process_time() - used
    report = tally.report()
    assert (report["requests"], report["changed_decisions"]) == (rows, 0)
    assert report["recorded_usd"] == report["replayed_usd"]
    table = Table(title=f"Replaying {rows:,} rows of SQLite")
    for heading in ("a row", "a million rows", "processor time for them", "memory"):
        table.add_column(heading, justify="right")
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    million = 1e6 / rows
    table.add_row(
        f"{took_s / rows * 1e6:.1f} µs", f"{took_s * million:.0f} s", f"{used_s * million:.0f} s", f"{memory_mb:.0f} MB"
    )
    return table


async def _fill(store: Store, policies: PolicySet, rows: int) -> None:
    batch: list[Row] = []
    for outcome in _outcomes(policies, rows):
        batch.append(row_of(outcome))
        if len(batch) == BATCH:
            await store.write(batch)
            batch = []
    await store.write(batch)


def _outcomes(policies: PolicySet, rows: int) -> Iterator[Outcome]:
    """Yield answered requests of all tasks, of many lengths, as the proxy would have recorded them."""
    draw = random.Random(1)
    tasks = list(policies.policies.values())
    start = datetime(2026, 11, 1, tzinfo=UTC)
    for number in range(rows):
        policy = draw.choice(tasks)
        tokens = draw.randrange(50, 20_000)
        by_model = dict.fromkeys(policy.models, tokens)
        facts = structs.replace(FACTS, input_tokens=tokens, input_tokens_by_model=by_model, difficulty=draw.random())
        decision = decide(policies, policy, facts, purse=purse_of(policies, policy, None, None))
        assert isinstance(decision, Route)
        model = decision.candidates[0].model
        target = model.targets[0]
        usage = Usage(tokens, draw.randrange(20, 800))
        nusd = target.price.charge_nusd(usage)
        facts_json = recorded_facts(facts) | recorded_circumstances(policies, policy, facts, budgets=False)
        yield Outcome(
            id=f"{number:032x}",
            at=start + timedelta(seconds=number),
            account=None,
            task=policy.task,
            rule=decision.rule.name,
            policy_revision=policies.revision,
            requested_model="auto",
            ending=Ending.ANSWERED,
            certainty=Certainty.REPORTED,
            routed_model=model.name,
            provider=target.provider,
            kind=model.kind,
            usage=usage,
            charged_nusd=nusd,
            attempts=(Attempt(model.name, target.name, "answered", 200, usage, nusd, Certainty.REPORTED, 1.0),),
            facts=facts_json | recorded_decision(decision, None, named_task=True),
        )
