"""`farthing explain`: where would this request go, what may it cost, and why not elsewhere?"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli.folder import DEFAULT_FOLDER, FolderOption, JsonOption, read_folder
from router.cli.table import Column, dollars, print_json, print_table, say

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from router.chat import ChatBody
    from router.pipeline.plan import Arrival, Plan
    from router.policy.policy import Account, PolicySet

UNUSED = "Budgets of hours, days and months are taken as unused here; a running proxy tells their state (see --help)."


def explain(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE|-",
            help="A chat-completions request as JSON, its list of messages, or plain text, which is taken for one "
            "user message. - reads standard input.",
            show_default=False,
        ),
    ],
    task: Annotated[str | None, typer.Option(help="As the header x-farthing-task.")] = None,
    model: Annotated[str | None, typer.Option(help="In place of the request's own model.")] = None,
    account: Annotated[str | None, typer.Option(help="Whose request it is.")] = None,
    budget_usd: Annotated[str | None, typer.Option(help="As the header x-farthing-budget-usd.")] = None,
    header: Annotated[
        list[str] | None, typer.Option(help="A request header, as NAME:VALUE; may be given again.")
    ] = None,
    policies: FolderOption = DEFAULT_FOLDER,
    as_json: JsonOption = False,
) -> None:
    """Say where a request would go, what it may cost, and why not elsewhere. No call is made.

    Budgets of hours, days and months bound it as if they were unused; a running proxy answers with their state to the
    header x-farthing-dry-run: true.

    Example: echo "Where is my parcel?" | farthing explain --task support -
    """
    from router.policy.request import request_body

    body = request_body(_read(file), model)
    loaded = read_folder(policies).checked()
    headers = dict(_header(text) for text in header or ())
    if task is not None:
        headers["x-farthing-task"] = task
    if budget_usd is not None:
        headers["x-farthing-budget-usd"] = budget_usd
    arrival = _arrival(body, _account(loaded, account), headers)
    plan = _foreseen(arrival, loaded)
    if as_json:
        print_json(plan.explained())
        return
    _print(plan.explained())
    if plan.scopes:
        say(UNUSED)


def _read(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        with open(file, "rb") as opened:  # noqa: PTH123 - the error below names the path as it was typed
            return opened.read()
    except OSError as error:
        raise typer.BadParameter(f"{file} can't be read: {error.strerror}.", param_hint="FILE") from None


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise typer.BadParameter(f"{text[:80]!r} is not NAME:VALUE.", param_hint="--header")
    return name.strip().lower(), value.strip()


def _account(policies: PolicySet, name: str | None) -> Account | None:
    if name is None:
        return None
    if name not in policies.accounts:
        known = ", ".join(policies.accounts) or "none; add accounts.yaml"
        raise typer.BadParameter(f"There is no account '{name}'. There is: {known}.", param_hint="--account")
    return policies.accounts[name]


def _arrival(body: ChatBody, account: Account | None, headers: Mapping[str, str]) -> Arrival:
    from router.errors import InvalidRequest
    from router.pipeline.plan import Arrival
    from router.policy.purse import BUDGET_HEADER, asked_nusd

    try:
        budget = headers.get(BUDGET_HEADER)
        budget_nusd = None if budget is None else asked_nusd(budget)
    except InvalidRequest as error:
        raise typer.BadParameter(error.message, param_hint="--budget-usd") from None
    return Arrival(
        id="explain",
        at_s=time.time(),
        started=time.perf_counter(),
        body=body,
        account=account,
        headers=headers,
        task=headers.get("x-farthing-task"),
        budget_nusd=budget_nusd,
    )


def _foreseen(arrival: Arrival, policies: PolicySet) -> Plan:
    """Decide as a proxy would whose budgets nobody has drawn on."""
    import asyncio

    from router.budgets.memory import MemoryBudgets
    from router.pipeline.plan import plan_for
    from router.tokens import Counter

    async def foreseen() -> Plan:
        budgets = MemoryBudgets(lambda: arrival.at_s)
        plan = await plan_for(arrival, policies, Counter(), budgets)
        levels = await budgets.peek(plan.scopes)
        return plan.seeing(levels).foreseen(levels, lambda each: each.ceiling_nusd, arrival.at_s)

    return asyncio.run(foreseen())


def _print(explained: dict[str, Any]) -> None:
    facts = [(name, _said(value)) for name, value in explained["facts"].items() if value is not None]
    print_table((Column("fact"), Column("value", prose=True)), facts)
    print_table(
        (Column("rule"), Column("held"), Column("why", prose=True)),
        [(rule["name"], _said(rule["held"]), rule["why"]) for rule in explained["rules"]],
    )
    print_table(
        (
            Column("candidate"),
            Column("fits"),
            Column("estimate", number=True),
            Column("at most", number=True),
            Column("longest answer", number=True, spare=True),
            Column("why", prose=True),
        ),
        [_candidate(candidate) for candidate in explained["candidates"]],
    )
    say(_verdict(explained), style="bold")
    for line in _asides(explained):
        say(line)


def _candidate(candidate: dict[str, Any]) -> tuple[str, ...]:
    fits = candidate["fits"]
    return (
        candidate["model"],
        _said(fits),
        dollars(candidate["estimate_usd"]) if fits else "-",
        dollars(candidate["ceiling_usd"]) if fits else "-",
        f"{candidate['max_output_tokens']:,} tokens" if fits else "-",
        candidate["reason"],
    )


def _verdict(explained: dict[str, Any]) -> str:
    where = f"Task {explained['task']}, rule {explained['rule']}"
    if refusal := explained["refusal"]:
        return f"{where}: refused ({refusal['code']}). {refusal['message']}"
    budget = explained["budget_usd"]
    limit = f"; {explained['budget']} leaves {dollars(budget)}" if budget is not None else "; no budget limits it"
    checks = f" ({dollars(explained['checks_usd'])} of it for its checks)" if explained["checks_usd"] else ""
    ceiling = dollars(explained["ceiling_usd"])
    costs = f"about {dollars(explained['estimate_usd'])}{checks}, {'an answer ' if checks else ''}never above {ceiling}"
    instead = ", because the rule's own models are too dear or can't take it" if explained["downgraded"] else ""
    return f"{where} → {explained['model']}{instead}: {costs}{limit}."


def _asides(explained: dict[str, Any]) -> Iterator[str]:
    """Yield what the estimates leave out, and what has a hand in the decision beside its rule."""
    if explained["checks_usd"]:
        yield (
            "The table's estimates are of an answer alone; its checks come on top, and an escalation is in no estimate."
        )
    if weighed := explained.get("by_money"):
        yield f"By {weighed['by']}: {weighed['reason']}."
    if trial := explained.get("experiment"):
        canary = f"; the canary has {trial['canary_share']:.4g} of all" if trial["canary_share"] is not None else ""
        mirrored = f"; {trial['shadow_share']:.4g} are mirrored" if trial["shadow_share"] is not None else ""
        yield f"Experiment {trial['name']}: this conversation is on the side {trial['side']}{canary}{mirrored}."
    if stick := explained.get("stick"):
        yield f"The conversation {stick['reason']}."


def _said(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:g}"
        case list():
            return ", ".join(str(item) for item in value) or "nothing"
        case dict():
            return ", ".join(f"{name} {_said(item)}" for name, item in value.items()) or "nothing"
    return str(value)
