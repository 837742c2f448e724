"""Which model's provider has the beginning of a conversation cached: a bounded map from digests, of this process alone.

A digest stands for a whole prefix of messages, so that only a request that extends one that was answered is found. No
text is kept. Replicas may know of different conversations; what they don't know of counts as cold.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from msgspec import Struct

from router.chat import Chat
from router.pipeline import Answered
from router.policy.conversation import prefixes_of
from router.policy.policy import Policy
from router.policy.warm import Warm, caches, in_steps

WARM_FOR_S = 300.0
"""Providers keep a prompt for five minutes after its last use, some of them longer (OpenAI, Anthropic, 2025)."""
MOST_CONVERSATIONS = 50_000


class _Entry(Struct, frozen=True):
    warm: Warm
    until_s: float


class Warmth:
    """Told of answers by `note`, asked by `at`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()

    def at(self, chat: Chat, policy: Policy) -> Warm | None:
        """Return where the longest known beginning of a conversation is cached; None where none is."""
        if not self._entries:
            return None
        now_s = self._clock()
        for digest in reversed(prefixes_of(chat, policy.task)):
            entry = self._entries.get(digest)
            if entry is not None and entry.until_s > now_s:
                return entry.warm
        return None

    def note(self, answered: Answered) -> None:
        """Remember what the provider that answered has cached now; nothing where no rule would ask for it."""
        plan, outcome = answered.plan, answered.outcome
        if not plan.policy.sticks or outcome.usage is None or outcome.routed_model is None:
            return
        model = plan.policies.models[outcome.routed_model]
        if not caches(outcome.usage.input_tokens, outcome.provider or "", plan.facts.has) or len(model.targets) > 1:
            # Of several targets the next request may meet another one, which has nothing cached.
            return
        # As we count, for so is the next request's input counted, which is compared with it.
        tokens = in_steps(plan.facts.input_tokens_for(model.name))
        digest = prefixes_of(answered.arrival.body.chat, plan.policy.task)[-1]
        now_s = self._clock()
        self._entries[digest] = _Entry(Warm(model.name, tokens), now_s + WARM_FOR_S)
        self._entries.move_to_end(digest)
        while len(self._entries) > MOST_CONVERSATIONS or next(iter(self._entries.values())).until_s <= now_s:
            self._entries.popitem(last=False)
