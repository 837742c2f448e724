"""`python -m bench.real_input FILE.jsonl.gz…`: real prompts by the official SDK, every answer held against the ledger.

Each line of a file is an object with a `prompt`; `bench.errands` says what is made of it. Every request is first asked
for as a dry run, so that what explain says is held against what happens.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import msgspec
from openai import APIConnectionError, APIStatusError, AsyncOpenAI
from prometheus_client.parser import text_string_to_metric_families

from bench.errands import LOCAL, Errand, errands_of, read_prompts
from router.cli.table import Column, dollars, percent, print_table
from router.values import NUSD_PER_USD, nusd_cost, usd

LOCAL_CALLERS = 4
"""At once; the model has two slots, and more would measure its queue."""
LOCAL_LIMIT_TOKENS = 48
LEAST_LOCAL = 50
SILENT_TOKENS = 4
"""So small a model now and then ends at once; the mark that ends its turn takes three tokens."""
SETTLED_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Heard:
    """What the caller heard of one request. Amounts are in nUSD; None where an answer does not tell."""

    errand: Errand
    id: str | None
    planned: dict[str, Any]
    code: str | None = None
    status: int = 200
    cost_nusd: int | None = None
    baseline_nusd: int | None = None
    model: str | None = None
    attempts: int | None = None
    tokens: tuple[int, int] | None = None
    finishes: tuple[str | None, ...] = ()
    said_something: bool = False
    retry_told: bool = True
    """Whether the answer leaves a retry to the SDK."""


@dataclass(slots=True)
class Checks:
    """How often each claim held, and the first cases where it did not."""

    held: Counter[str] = field(default_factory=Counter)
    broken: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def that(self, claim: str, *, holds: bool, case: object) -> None:
        self.held[claim] += holds
        if not holds:
            self.broken[claim].append(str(case))

    def print(self) -> None:
        for claim in sorted({*self.held, *self.broken}):
            failures = self.broken.get(claim, [])
            count = f"{self.held[claim]:,} of {self.held[claim] + len(failures):,}"
            print(f"{'ok    ' if not failures else 'BROKEN'} {claim}: {count}")
            for case in failures[:5]:
                print(f"         {case[:400]}")


class _Tail(httpx.AsyncByteStream):
    """Passes a response on and keeps its end, where the comment is that the SDK skips."""

    def __init__(self, inner: httpx.AsyncByteStream) -> None:
        self._inner = inner
        self.end = b""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._inner:
            self.end = (self.end + part)[-1024:]
            yield part

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Transport(httpx.AsyncHTTPTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = response.extensions["tail"] = _Tail(response.stream)
        return response


class Caller:
    """The official SDK, without retries of its own: each request is one row."""

    def __init__(self, url: str, callers: int) -> None:
        limits = httpx.Limits(max_connections=callers + LOCAL_CALLERS)
        self.http = httpx.AsyncClient(transport=_Transport(limits=limits))
        self._chat = AsyncOpenAI(
            base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=600, http_client=self.http
        ).chat.completions.with_raw_response
        self._gate = asyncio.Semaphore(callers)
        self._local_gate = asyncio.Semaphore(LOCAL_CALLERS)

    async def heard(self, errand: Errand) -> Heard:
        """Ask where it would go, then send it."""
        async with self._gate:
            dry = errand.headers | {"x-farthing-dry-run": "true"}
            planned = await self._chat.create(**errand.body | {"stream": False}, extra_headers=dry)
            plan = planned.http_response.json()
        body = errand.body
        if plan["model"] == LOCAL:
            body = body | {"max_tokens": LOCAL_LIMIT_TOKENS}
        async with self._local_gate if plan["model"] == LOCAL else self._gate:
            try:
                answer = await self._chat.create(**body, extra_headers=errand.headers)
                return await (_streamed if body.get("stream") else _whole)(errand, plan, answer)
            except APIStatusError as error:
                told = error.response.headers.get("x-should-retry") != "false"
                id_ = error.response.headers.get("x-farthing-request-id")
                return Heard(errand, id_, plan, error.code, error.status_code, retry_told=told)
            except APIConnectionError as error:
                return Heard(errand, None, plan, f"connection: {error}", 0)


async def _whole(errand: Errand, plan: dict[str, Any], answer: Any) -> Heard:
    headers, completion = answer.headers, answer.parse()
    choices = completion.choices
    return Heard(
        errand,
        headers["x-farthing-request-id"],
        plan,
        cost_nusd=_nusd(headers["x-farthing-cost-usd"]),
        baseline_nusd=_nusd(headers["x-farthing-baseline-usd"]),
        model=headers["x-farthing-model"],
        attempts=int(headers["x-farthing-attempts"]),
        tokens=(completion.usage.prompt_tokens, completion.usage.completion_tokens),
        finishes=tuple(choice.finish_reason for choice in choices),
        said_something=all(choice.message.content or choice.message.tool_calls for choice in choices),
    )


async def _streamed(errand: Errand, plan: dict[str, Any], answer: Any) -> Heard:
    said, finishes, usage = False, [], None
    async for chunk in answer.parse():
        usage = chunk.usage or usage
        for choice in chunk.choices:
            said = said or bool(choice.delta.content or choice.delta.tool_calls)
            finishes += [choice.finish_reason] if choice.finish_reason else []
    end: bytes = answer.http_response.extensions["tail"].end
    comment = dict(re.findall(r"(\w+)=(\S+)", end.decode().rpartition(": farthing ")[2]))
    return Heard(
        errand,
        answer.headers["x-farthing-request-id"],
        plan,
        cost_nusd=_nusd(comment["cost_usd"]),
        baseline_nusd=_nusd(comment["baseline_usd"]),
        model=comment["model"],
        attempts=int(comment["attempts"]),
        tokens=(usage.prompt_tokens, usage.completion_tokens) if usage else None,
        finishes=tuple(finishes),
        said_something=said,
    )


def _nusd(text: str) -> int:
    return nusd_cost(Decimal(text))


def check_answer(checks: Checks, heard: Heard, row: sqlite3.Row | None) -> None:
    """Hold one answer against its row, and against what the dry run said."""
    errand, plan = heard.errand, heard.planned
    case = f"{heard.id} {errand.task} status {heard.status} {heard.code or ''}"
    checks.that("each is answered, or refused with 402", holds=heard.status in {200, 402}, case=case)
    checks.that("each has its row in the ledger", holds=row is not None, case=case)
    if row is None:
        return
    case += f" {dict(row)}"
    checks.that("task and rule are those of the dry run", holds=_pair(plan) == (row["task"], row["rule"]), case=case)
    checks.that("none went above its budget", holds=row["over_budget_nusd"] == 0, case=case)
    checks.that("none is left held", holds=row["outcome"] != "held", case=case)
    if heard.status != 200:
        refusal = (plan["refusal"] or {}).get("code")
        checks.that("a refusal is the one that the dry run told", holds=refusal == heard.code, case=case)
        checks.that("a refusal costs nothing", holds=(row["outcome"], row["charged_nusd"]) == ("refused", 0), case=case)
        checks.that("a refusal tells the SDK not to try again", holds=not heard.retry_told, case=case)
        return
    told = (heard.cost_nusd, heard.baseline_nusd, heard.model)
    written = (row["charged_nusd"], row["baseline_nusd"], row["routed_model"])
    checks.that("cost, baseline and model told equal the row's", holds=told == written, case=f"{told} {case}")
    attempts = len(msgspec.json.decode(row["attempts"]))
    checks.that("attempts told equal the row's", holds=heard.attempts == attempts, case=case)
    if attempts == 1:
        checks.that("one attempt goes where the dry run said", holds=plan["model"] == heard.model, case=case)
        ceiling = nusd_cost(Decimal(str(plan["ceiling_usd"] or 0)))
        checks.that("one attempt costs at most its ceiling", holds=row["charged_nusd"] <= ceiling, case=case)
    if heard.tokens:
        counted = (row["input_tokens"], row["output_tokens"])
        checks.that("usage told equals the row's", holds=heard.tokens == counted, case=f"{heard.tokens} {case}")
    ours = msgspec.json.decode(row["facts"])["input_tokens_by_model"].get(row["routed_model"])
    low = ours is not None and ours < row["input_tokens"]
    checks.that("no input was counted below what the provider reported", holds=not low, case=f"{ours} {case}")
    checks.that("the provider's usage was priced", holds=row["certainty"] == "reported", case=case)
    checks.that("an answer ends with a reason", holds=bool(heard.finishes) and all(heard.finishes), case=case)
    silent = row["routed_model"] == LOCAL and row["output_tokens"] <= SILENT_TOKENS
    checks.that("an answer says something", holds=heard.said_something or silent, case=case)


def _pair(plan: dict[str, Any]) -> tuple[str, str]:
    return plan["task"], plan["rule"]


Totals = dict[str, int]


async def metrics_of(http: httpx.AsyncClient, url: str) -> Totals:
    """Read /metrics once nothing is under way: the sums that the ledger must agree with, dollars in nUSD."""
    until = time.perf_counter() + SETTLED_WITHIN_S
    while True:
        totals: defaultdict[str, float] = defaultdict(float)
        scraped = (await http.get(f"{url}/metrics")).raise_for_status()
        for family in text_string_to_metric_families(scraped.text):
            for sample in family.samples:
                name = sample.name
                if name == "gen_ai_client_token_usage_sum":
                    name = f"{sample.labels['gen_ai_token_type']}_tokens"
                totals[name] += sample.value
        idle = not totals["farthing_ledger_queue"] and not totals["farthing_inflight_requests"]
        if idle or time.perf_counter() > until:
            break
        await asyncio.sleep(0.1)
    money = {name: round(totals[f"farthing_{name}_usd_total"] * NUSD_PER_USD) for name in _MONEY.values()}
    counts = {"requests": round(totals["farthing_requests_total"])}
    return money | counts | {name: round(totals[name]) for name in ("input_tokens", "output_tokens")}


_MONEY = {"charged_nusd": "cost", "baseline_nusd": "baseline_cost", "overhead_nusd": "overhead_cost"}


def ledger_totals(ledger: sqlite3.Connection) -> Totals:
    names = [*_MONEY, "input_tokens", "output_tokens"]
    sums = ", ".join(f"coalesce(sum({name}), 0)" for name in names)
    row = ledger.execute(f"SELECT count(*), {sums} FROM requests").fetchone()
    return dict(zip(["requests", *(_MONEY.get(name, name) for name in names)], row, strict=True))


def check_totals(checks: Checks, metrics: Totals, ledger: Totals) -> None:
    for name, value in ledger.items():
        unit = " nUSD" if name in _MONEY.values() else ""
        case = f"metrics {metrics[name]:,}{unit}, ledger {value:,}{unit}"
        checks.that(f"/metrics and the ledger agree on {name}", holds=metrics[name] == value, case=case)
        print(f"{name}: {case}")


# -- the report ------------------------------------------------------------------------------------------------------

COLUMNS = (
    Column("task"),
    Column("model"),
    *(Column(name, number=True) for name in ("requests", "refused", "failed", "in", "out")),
    *(Column(name, number=True) for name in ("cost", "baseline", "saved", "saved %")),
)
GROUPED = """
    SELECT {group}, count(*), sum(outcome = 'refused'), sum(outcome = 'failed'), coalesce(sum(input_tokens), 0),
           coalesce(sum(output_tokens), 0), sum(charged_nusd), sum(baseline_nusd)
    FROM requests {tail}
"""


def print_mix(ledger: sqlite3.Connection) -> None:
    by = GROUPED.format(group="task, coalesce(routed_model, '-')", tail="GROUP BY 1, 2 ORDER BY 1, 8 DESC")
    rows = [_cells(row) for row in ledger.execute(by)]
    print_table(COLUMNS, rows, total=_cells(ledger.execute(GROUPED.format(group="'total', ''", tail="")).fetchone()))


def _cells(row: Sequence[Any]) -> list[str]:
    cost, baseline = (float(usd(value)) for value in row[7:9])
    money = [dollars(cost), dollars(baseline), dollars(baseline - cost), percent(baseline - cost, baseline)]
    return [*row[:2], *(f"{value:,}" for value in row[2:7]), *money]


@contextmanager
def proxy(policies: Path, ledger: Path) -> Iterator[str]:
    """Run a proxy with simulated providers and the local model; give its URL once that model is ready."""
    command = [sys.executable, "-m", "router", "serve", "--local", "--simulate", "always", "--port", "0"]
    command += ["--policies", str(policies), "--ledger-url", f"sqlite:///{ledger}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        first = process.stdout.readline()
        if not first:
            sys.exit("The proxy did not start.")
        url = first.split(" on ")[1].split()[0]
        for line in process.stdout:
            if line.startswith(("The local model is ready", "The local model has ended")):
                break
        yield url
    finally:
        process.terminate()
        process.wait()


async def run(
    url: str, ledger_file: Path, errands: Sequence[Errand], callers: int, told: Callable[[str], None]
) -> bool:
    """Send everything, print what came of it, and say whether all was as it should be."""
    checks, caller = Checks(), Caller(url, callers)
    async with caller.http:
        ledger = sqlite3.connect(f"file:{ledger_file}?mode=ro", uri=True)
        ledger.row_factory = sqlite3.Row
        started = time.perf_counter()
        done = Counter[int]()

        async def one(errand: Errand) -> Heard:
            heard = await caller.heard(errand)
            done[heard.status] += 1
            if done.total() % 250 == 0:
                told(f"{done.total():,} of {len(errands):,} after {time.perf_counter() - started:.0f} s: {dict(done)}")
            return heard

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(errand)) for errand in errands]
        duration_s = time.perf_counter() - started
        metrics = await metrics_of(caller.http, url)
    for heard in (task.result() for task in tasks):
        check_answer(checks, heard, ledger.execute("SELECT * FROM requests WHERE id = ?", (heard.id,)).fetchone())
    print_mix(ledger)
    streams = sum(bool(errand.body.get("stream")) for errand in errands)
    print(f"{len(errands):,} requests, {streams:,} of them streams, in {duration_s:.0f} s with {callers} callers.")
    by_local = sum(task.result().model == LOCAL for task in tasks)
    checks.that(
        f"at least {LEAST_LOCAL} were answered by the local model", holds=by_local >= LEAST_LOCAL, case=by_local
    )
    print(f"{by_local} were answered by the local model.")
    check_totals(checks, metrics, ledger_totals(ledger))
    checks.print()
    return not any(checks.broken.values())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.real_input", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.jsonl.gz")
    parser.add_argument("--most", type=int, default=1000, help="of each file, at even distances")
    parser.add_argument("--callers", type=int, default=64, help="how many requests at once")
    parser.add_argument("--policies", type=Path, default=Path("policies"), help="for the proxy that is started")
    parser.add_argument("--url", help="a proxy that runs, with a fresh ledger, instead of one that is started")
    parser.add_argument("--ledger", type=Path, help="that proxy's SQLite file")
    given = parser.parse_args()
    if (given.url is None) != (given.ledger is None):
        parser.error("--url and --ledger go together")
    if missing := [str(path) for path in given.files if not path.is_file()]:
        parser.error(f"there is no file {missing[0]}")
    errands = [errand for path in given.files for errand in errands_of(read_prompts(path, given.most))]

    def told(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as folder:
        if given.url:
            fine = asyncio.run(run(given.url.rstrip("/"), given.ledger, errands, given.callers, told))
        else:
            ledger = Path(folder) / "ledger.db"
            with proxy(given.policies, ledger) as url:
                fine = asyncio.run(run(url, ledger, errands, given.callers, told))
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
