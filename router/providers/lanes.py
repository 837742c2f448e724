"""Which lane carries a target, and with which key: the wire lane for OpenAI's format, litellm for all others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from router.policy.policy import PolicySet
from router.policy.target import Model, Target
from router.providers.contract import Provider
from router.providers.litellm import LitellmLane
from router.providers.openai import BASE_URLS, OpenAIWire

TRANSLATED = frozenset(
    {
        "ai21", "anthropic", "bedrock", "cohere", "cohere_chat", "databricks", "gemini", "huggingface",
        "replicate", "sagemaker", "vertex_ai", "watsonx",
    }
)  # fmt: skip
"""Providers whose own format is not OpenAI's, even behind a base_url."""


def is_wire(target: Target) -> bool:
    """Say whether a target speaks OpenAI's format."""
    if target.provider in TRANSLATED:
        return False
    return target.base_url is not None or target.provider in BASE_URLS


def key_variable(provider: str) -> str:
    """Return the environment variable that holds a provider's key, as its own SDK names it."""
    special = {"together_ai": "TOGETHER_API_KEY", "fireworks_ai": "FIREWORKS_API_KEY"}
    return special.get(provider, f"{provider.upper()}_API_KEY")


class Lanes:
    """The lanes of one event loop; call it with a target to get its lane."""

    def __init__(self) -> None:
        self._wire = OpenAIWire()
        self._litellm = LitellmLane()

    def __call__(self, target: Target) -> Provider:
        return self._wire if is_wire(target) else self._litellm

    async def warm(self, policies: PolicySet) -> None:
        """Import litellm now where a policy needs it, so that no request waits for that."""
        if not all(is_wire(target) for target in targets_of(policies)):
            await self._litellm.warm()

    async def aclose(self) -> None:
        await self._wire.aclose()
        await self._litellm.aclose()


def targets_of(policies: PolicySet) -> Iterable[Target]:
    """Return every target that can be called."""
    return (target for model in policies.models.values() if not model.absent for target in model.targets)


def with_keys(policies: PolicySet, environ: Mapping[str, str]) -> PolicySet:
    """Give each target that has no key of its own its provider's key from the environment, where that is set."""

    def keyed(target: Target) -> Target:
        key = target.api_key or (None if target.base_url else environ.get(key_variable(target.provider)))
        return replace(target, api_key=key) if key else target

    return _with_targets(policies, keyed)


def without_keys(policies: PolicySet) -> list[Target]:
    """Return the targets that are called without any key although their provider surely wants one."""
    keyless = ("ollama", "bedrock", "sagemaker", "vertex_ai")
    return [
        target
        for target in targets_of(policies)
        if not target.api_key and not target.base_url and target.provider not in keyless
    ]


def simulated(policies: PolicySet, root_url: str) -> PolicySet:
    """Point every target that has no base_url of its own at the simulated providers at `root_url`."""

    def redirected(target: Target) -> Target:
        if target.base_url:
            return target
        base_url = f"{root_url}/v1" if is_wire(target) else root_url
        return replace(target, base_url=base_url, api_key="simulated")

    return _with_targets(policies, redirected)


def _with_targets(policies: PolicySet, change: Callable[[Target], Target]) -> PolicySet:
    def changed(model: Model) -> Model:
        return replace(model, targets=tuple(change(target) for target in model.targets))

    return replace(policies, models={name: changed(model) for name, model in policies.models.items()})
