"""An answer that must pass its rule's checks: cheapest check first, and one escalation at most.

Every leg (the answer, a second answer, a judge's grade, the escalation) draws on the request's one allowance. A check
that can't be made, because the money does not suffice or the model that it asks fails, lets the answer pass and says
`unchecked`; an answer that failed is given all the same where no better one is to be had, and says `failed`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic

import anyio.to_thread
import msgspec
from msgspec import structs

from router.chat import ChatBody
from router.errors import FarthingError, ProviderError
from router.pipeline.failure import every_failed
from router.pipeline.held_back import HeldBack
from router.pipeline.judging import grade_of, judging
from router.pipeline.leg import Leg
from router.pipeline.logprobs import AnswerT, with_logprobs, without_logprobs
from router.pipeline.parts import Parts
from router.pipeline.run import NotAsked, Run
from router.policy.closed_answer import LOOKED_AT_CHARS, say_the_same
from router.policy.decide import Route
from router.policy.said import Said, Unreadable, said_in
from router.policy.verify import Agree, Judge, Unknown, Verdict, Verify, failing
from router.providers.contract import Answer, AnswerEmpty, Call, Provider
from router.values import Attempt

_ALONE: dict[str, bytes | None] = {"stream": None, "stream_options": None, "n": None}


class Cascade(Generic[AnswerT]):
    """One held request's way through the checks of its rule; `call` is how its candidates are asked."""

    def __init__(
        self,
        parts: Parts,
        run: Run,
        route: Route,
        verify: Verify,
        call: Callable[[Provider, Call], Awaitable[AnswerT]],
    ) -> None:
        self._parts = parts
        self._run = run
        self._route = route
        self._verify = verify
        self._call: Callable[[Provider, Call], Awaitable[AnswerT]] = call
        asked = bytes(run.body.fields.get("logprobs", b"")) == b"true"
        self._empty: AnswerEmpty | None = None
        """The first answer, where it is a whole one that holds nothing to give."""
        self._added_logprobs = verify.logprob_gte is not None and not asked
        if self._added_logprobs:
            run.body = with_logprobs(run.body)

    async def answer(self) -> tuple[AnswerT, Leg]:
        """Return the answer to give, and its leg, which is closed.

        Raises:
            FarthingError: as `Run.first_answer`.
        """
        answer, leg, ended, second = await self._first()
        verdict = await self._verdict(answer, second)
        if isinstance(verdict, str):
            answer, leg = await self._better(answer, leg, ended, verdict)
        else:
            self._run.record.verified = "passed" if verdict is None else "unchecked"
            because = verdict.because if verdict else None
            checked = structs.replace(ended, check=self._run.record.verified, because=because)
            self._run.record.amend(ended, checked)
        return (without_logprobs(answer) if self._added_logprobs else answer), leg

    async def _first(self) -> tuple[AnswerT, Leg, Attempt, Answer | ProviderError | NotAsked | None]:
        """Get the answer, and what came of a second one where nothing cheaper could spare it and the money allows."""
        run, agree = self._run, self._verify.agree
        if agree is None or not self._verify.agrees_only:
            answer, leg = await run.first_answer(self._route, self._first_call)
            return answer, leg, await self._ended(answer, leg), None
        failed: FarthingError | None = None
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            second = group.create_task(self._second(agree))
            try:
                answer, leg = await run.first_answer(self._route, self._first_call)
                ended = await self._ended(answer, leg)
            except FarthingError as error:
                # Raised inside, it would come out wrapped with whatever else went wrong.
                failed = error
                second.cancel()
        if failed is not None:
            raise failed
        busy_s = sum(attempt.duration_s for attempt in run.record.attempts) + run.record.waited_s
        run.record.overlap_s = max(0.0, busy_s - (time.perf_counter() - begun))
        return answer, leg, ended, second.result()

    async def _first_call(self, lane: Provider, call: Call) -> AnswerT:
        """Ask a candidate; where another model stands by, one that answers without a choice has failed a check."""
        try:
            return await self._call(lane, call)
        except AnswerEmpty as empty:
            if self._verify.escalate_to is None:
                raise
            self._empty = empty
            return empty.answer  # type: ignore[return-value]  # streams that are held back raise no such error

    async def _verdict(self, answer: AnswerT, second: Answer | ProviderError | NotAsked | None) -> Verdict:
        """Make the checks in the order of their cost, up to the first that fails."""
        verify, chat = self._verify, self._run.arrival.body.chat
        try:
            choices = answer.said() if isinstance(answer, HeldBack) else said_in(answer.body)
        except Unreadable:
            return "unreadable"
        verdict: Verdict
        if verify.json_schema or verify.tool_calls_valid:
            # A schema may take much longer than the loop can be kept from others.
            verdict = await anyio.to_thread.run_sync(failing, verify, choices, chat)
        else:
            verdict = failing(verify, choices, chat)
        checks: list[Callable[[], Awaitable[Verdict]]] = []
        if verify.own is not None:
            checks.append(lambda: self._own(answer, choices))
        if (agree := verify.agree) is not None:
            checks.append(lambda: self._agrees(agree, choices, second))
        if (judge := verify.judge) is not None:
            checks.append(lambda: self._judged(judge, choices))
        for check in checks:
            if isinstance(verdict, str):
                return verdict
            found = await check()
            # Of several that could not be made the first is told.
            verdict = verdict if found is None or (verdict and isinstance(found, Unknown)) else found
        return verdict

    async def _own(self, answer: AnswerT, choices: tuple[Said, ...]) -> Verdict:
        own = self._verify.own
        assert own is not None, "it is only made where there is one"
        request = msgspec.json.decode(self._run.arrival.body.rewritten({}))
        given = _plain(answer, choices)
        passed = await self._parts.own_checks.passes(own, request, given)
        return None if passed else "python"

    async def _agrees(
        self, agree: Agree, choices: tuple[Said, ...], second: Answer | ProviderError | NotAsked | None
    ) -> Verdict:
        if not isinstance(second, Answer | ProviderError):
            # Where the first answer's hold left no room for it beside, there may be some now that this is settled.
            second = await self._second(agree)
        if not isinstance(second, Answer):
            return _not_made("agree", second)
        try:
            said = said_in(second.body)
        except Unreadable:
            return Unknown("agree_unreadable")
        other = said[0] if said else Said()

        def all_the_same() -> bool:
            return all(say_the_same(choice, other, agree.by) for choice in choices)

        is_long = sum(len(each.text or "") for each in (other, *choices)) > 2 * LOOKED_AT_CHARS
        return None if (await anyio.to_thread.run_sync(all_the_same) if is_long else all_the_same()) else "agree"

    async def _second(self, agree: Agree) -> Answer | ProviderError | NotAsked:
        """Ask for the second answer: the same request, whole and once, whatever the caller wants of the first."""
        run = self._run
        body = ChatBody(run.arrival.body.rewritten(dict(_ALONE)))
        facts = structs.replace(run.plan.facts, n=1, stream=False)
        model = run.plan.policies.models[agree.model]
        return await run.aside(model, facts, body, "agree", prompt=run.plan.policy.prompts.get(model.name))

    async def _judged(self, judge: Judge, choices: tuple[Said, ...]) -> Verdict:
        run, model = self._run, self._run.plan.policies.models[judge.model]
        body, facts = await judging(judge, run.arrival.body.chat, choices, model, self._parts.counter)
        answer = await run.aside(model, facts, body, "judge")
        if not isinstance(answer, Answer):
            return _not_made("judge", answer)
        grade = grade_of(answer.body)
        if grade is None:
            return Unknown("judge_grade")
        return None if grade >= judge.gte else "judge"

    async def _better(self, answer: AnswerT, leg: Leg, ended: Attempt, failed: str) -> tuple[AnswerT, Leg]:
        """Ask the model that the rule escalates to; return its answer, or the first where it has none."""
        run, to = self._run, self._verify.escalate_to
        escalated = structs.replace(ended, reason=f"check_{failed}", check=failed)
        run.record.amend(ended, escalated)
        better = None
        if to is not None and to != leg.model.name:
            better = await run.escalate(run.plan.policies.models[to], self._call)
        if better is None:
            if self._empty is not None:
                raise every_failed(self._empty, run.record.attempts)
            run.record.verified = "failed"
            run.record.amend(escalated, structs.replace(ended, check=failed))
            return answer, leg
        run.record.verified = "escalated"
        self._parts.escalated(run.plan.policy.task, leg.model.name, better[1].model.name, failed)
        await self._ended(*better)
        return better

    async def _ended(self, answer: AnswerT, leg: Leg) -> Attempt:
        self._run.first_token(leg, answer.first_byte_s)
        reason = "cut" if isinstance(answer, HeldBack) and answer.cut else "answered"
        return await self._run.ended(leg, reason, answer.usage, answer.texts, reported_model=answer.reported_model)


def _not_made(check: str, why: ProviderError | NotAsked) -> Unknown:
    """Say that a check could not be made, for the model that it asks said nothing."""
    return Unknown(f"{check}_{why if isinstance(why, str) else 'failed'}")


def _plain(answer: Answer | HeldBack, choices: tuple[Said, ...]) -> dict[str, object]:
    """Return an answer as a chat.completion object, put together where it was a stream."""
    if isinstance(answer, Answer):
        whole: dict[str, object] = msgspec.json.decode(answer.body)
        return whole
    return {
        "object": "chat.completion",
        "model": answer.reported_model,
        "choices": [
            {
                "index": index,
                "finish_reason": said.finish_reason,
                "message": {
                    "role": "assistant",
                    "content": said.text,
                    "refusal": said.refusal,
                    "tool_calls": [
                        {"type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                        for call in said.calls
                    ]
                    or None,
                },
            }
            for index, said in enumerate(choices)
        ],
    }
