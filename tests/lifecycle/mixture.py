"""A simulated mixture of easy and hard subjects, and what a task that learns from it is asked and told."""

from __future__ import annotations

import hashlib
import random
import re
from dataclasses import dataclass
from typing import Any

import httpx
from proxy import Calls

from router.chat import Chat
from router.difficulty.measure import Curve, Prompt
from router.ledger.labels import LabelRow
from router.ledger.open import open_store

HARD = ("the tax on an invoice", "a refund of the tax", "an invoice after a refund", "interest on an invoice")
EASY = ("the address of a parcel", "a parcel at the door", "a door code in the address", "the weight of a parcel")
CHEAP, PREMIUM = "gpt-4.1-nano", "gpt-4.1"
JUDGE = "gpt-4o-mini"


@dataclass(frozen=True, slots=True)
class Mixture:
    """Answers "case 17 …" rightly or wrongly: the cheap model knows little of money. The judge grades what it says."""

    def __call__(self, chat: Chat, model: str) -> str | None:
        text = chat.last_user_text()
        found = re.search(r"case (\d+)", text)
        if found is None:
            return None
        if model == JUDGE:
            return "1" if f"The answer is {found[1]}." in text else "0"
        return f"The answer is {int(found[1]) if self.is_right(model, text) else int(found[1]) + 1}."

    def is_right(self, model: str, text: str) -> bool:
        share = 0.97 if model == PREMIUM else 0.15 if any(word in text for word in HARD) else 0.96
        digest = hashlib.blake2b(f"{model} {text}".encode(), digest_size=6).digest()
        return int.from_bytes(digest) / 2**48 < share

    def gain(self, text: str) -> float:
        return float(self.is_right(PREMIUM, text)) - float(self.is_right(CHEAP, text))


MIXTURE = Mixture()


def texts(count: int, seed: int) -> list[str]:
    dice = random.Random(seed)
    found = []
    for at in range(count):
        about = dice.choice(HARD if dice.random() < 0.4 else EASY)
        found.append(f"This is case {seed * 100_000 + at}. A customer writes about {about}. What should our reply be?")
    return found


def files(learn: str, *, route: str = "", url: str) -> dict[str, str]:
    route = route or "  - {name: hard, when: {difficulty: {gte: 0.6}}, use: premium}\n  - {name: rest, use: cheap}\n"
    return {
        "models": f"models:\n  cheap: {{target: openai/{CHEAP}, base_url: {url}}}\n"
        f"  judge: {{target: openai/{JUDGE}, base_url: {url}}}\n"
        f"  premium: {{target: openai/{PREMIUM}, base_url: {url}}}\n",
        "default": f"task: default\nlearn: {learn}\nroute:\n{route}",
    }


def shadow(grade: str, *, share: float = 1, explore: float = 0, feedback: str = "checked") -> str:
    """Return a `learn:` whose second answers are graded so, in YAML's flow style."""
    asked = f"model: premium, share: {share}, budget_per_day_usd: 5, {grade}"
    return f"{{shadow: {{{asked}}}, explore: {explore}, feedback: {feedback}}}"


def agree(share: float = 1, explore: float = 0, feedback: str = "checked") -> str:
    return shadow("grade: agree, agree: {by: number}", share=share, explore=explore, feedback=feedback)


def labels_in(url: str, task: str = "default") -> list[LabelRow]:
    """Return a task's labels in the ledger at `url`, in their order."""
    return open_store(url, read_only=True).labels(task, 0, 10_000)


def labels(proxy: Calls, task: str = "default") -> list[LabelRow]:
    return labels_in(f"sqlite:///{proxy.ledger}", task)


def rate(proxy: Calls, request_id: str, score: Any, **members: Any) -> httpx.Response:
    return proxy.http.post("/v1/feedback", json={"request_id": request_id, "score": score}, **members)


def asked(proxy: Calls, text: str) -> httpx.Response:
    answer = proxy.ask(text, max_tokens=16)
    assert answer.status_code == 200, answer.text
    return answer


def score(proxy: Calls, text: str) -> float:
    """Return the score of a request, without a trace."""
    told = proxy.ask(text, headers={"x-farthing-dry-run": "true"}).json()
    return float(told["difficulty"]["score"])


def recovered(proxy: Calls, unseen: list[str]) -> float:
    prompts = [Prompt(score(proxy, text), 0.0, MIXTURE.gain(text), 0.0, 1.0) for text in unseen]
    found = Curve(prompts).apgr(by_usd=False)
    assert found is not None
    return found
