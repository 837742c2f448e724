"""Two judges of what a usage costs: litellm's `completion_cost` and `genai-prices`."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from pricing.prices import price_of
from router.pricing import Price
from router.values import Usage

PEAK = datetime(2026, 10, 21, 2, tzinfo=UTC)
"""A Wednesday, 02:00 UTC, when no provider gives its off-peak discount: ours are the dearer hours' prices."""


GENAI_PROVIDERS = {
    "anthropic": "anthropic",
    "azure": "azure",
    "bedrock": "aws",
    "cerebras": "cerebras",
    "deepseek": "deepseek",
    "fireworks_ai": "fireworks",
    "gemini": "google",
    "groq": "groq",
    "minimax": "minimax",
    "mistral": "mistral",
    "moonshot": "moonshotai",
    "novita": "novita",
    "openai": "openai",
    "perplexity": "perplexity",
    "together_ai": "together",
    "vertex_ai": "google",
    "xai": "x-ai",
    "zai": "zai",
}


class LeftOut(Exception):
    pass


@dataclass(frozen=True)
class Case:
    provider: str
    model: str
    usage: Usage

    @property
    def price(self) -> Price:
        return price_of(self.provider, self.model)

    @property
    def charge_nusd(self) -> int:
        return self.price.charge_nusd(self.usage)


class Judges:
    """litellm and genai-prices, asked for the same usage at the same moment, with no network."""

    def __init__(self) -> None:
        os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import genai_prices
            import litellm
            from genai_prices import data_snapshot
            from litellm import _internal_context
            from litellm.types import utils
        litellm.suppress_debug_info = True
        self.genai, self.litellm = genai_prices, litellm
        self.snapshot, self.context, self.types = data_snapshot.get_snapshot(), _internal_context, utils

    def price_nusd(self, case: Case) -> Decimal:
        """Return the exact price that both judges name, in nUSD.

        Raises:
            LeftOut: they don't agree, or one has no price for this; says which.
        """
        theirs = self._genai_nusd(case)
        try:
            ours = self._litellm_nusd(case)
        except Exception:  # litellm raises a bare Exception, or a kind of its own, for what it can't price
            raise LeftOut("litellm: no price") from None
        # A float of dollars is good to about 1e-6 nUSD here: anything more is a different price.
        if abs(ours - theirs) > Decimal("1e-4"):
            raise LeftOut("they differ")
        return theirs

    def _genai_nusd(self, case: Case) -> Decimal:
        used = case.usage
        counts = {
            "input_tokens": used.input_tokens,
            "output_tokens": used.output_tokens,
            "cache_read_tokens": used.cached_tokens,
            "cache_write_tokens": used.cache_write_tokens,
            "cache_write_5m_tokens": used.cache_write_tokens - used.cache_write_1h_tokens,
            "cache_write_1h_tokens": used.cache_write_1h_tokens,
            "input_audio_tokens": used.input_audio_tokens,
            "cache_audio_read_tokens": used.cached_audio_tokens,
            "input_image_tokens": used.input_image_tokens,
            "output_reasoning_tokens": used.reasoning_tokens,
            "output_audio_tokens": used.output_audio_tokens,
            "output_image_tokens": used.output_image_tokens,
            "web_searches": used.searches,
        }
        tier = used.service_tier
        context = {"processing": "batch"} if tier == "batch" else {"service_tier": tier} if tier != "default" else {}
        provider_id = GENAI_PROVIDERS[case.provider]
        try:
            _, model = self.snapshot.find_provider_model(case.model, None, provider_id, None)
            if context and not any(context.items() <= variant.when.items() for variant in model.price_variants or ()):
                raise LeftOut("genai-prices: no price for the tier")
            priced = self.genai.calc_price(
                self.genai.Usage(**{key: count for key, count in counts.items() if count}),
                case.model,
                provider_id=provider_id,
                genai_request_timestamp=PEAK,
                price_context=context or None,
            )
        except LookupError:
            raise LeftOut("genai-prices: no such model") from None
        except ValueError:
            raise LeftOut("genai-prices: can't tell the classes apart") from None
        if used.searches and priced.model_price.web_searches_kcount is None:
            raise LeftOut("genai-prices: no price for searches")
        return priced.total_price * 10**9

    def _litellm_nusd(self, case: Case) -> Decimal:
        used, kinds = case.usage, self.types
        prompt = kinds.PromptTokensDetailsWrapper(
            cached_tokens=used.cached_tokens,
            audio_tokens=used.input_audio_tokens,
            image_tokens=used.input_image_tokens,
            cache_creation_tokens=used.cache_write_tokens,
            web_search_requests=used.searches or None,
        )
        if used.cache_write_tokens:
            prompt.cache_creation_token_details = kinds.CacheCreationTokenDetails(
                ephemeral_5m_input_tokens=used.cache_write_tokens - used.cache_write_1h_tokens,
                ephemeral_1h_input_tokens=used.cache_write_1h_tokens,
            )
        if used.cached_audio_tokens:
            prompt.cached_tokens_details = kinds.CachedTokensDetails(
                audio_tokens=used.cached_audio_tokens,
                text_tokens=used.cached_tokens - used.cached_audio_tokens,
            )
        usage = kinds.Usage(
            prompt_tokens=used.input_tokens,
            completion_tokens=used.output_tokens,
            total_tokens=used.input_tokens + used.output_tokens,
            prompt_tokens_details=prompt,
            completion_tokens_details=kinds.CompletionTokensDetailsWrapper(
                reasoning_tokens=used.reasoning_tokens,
                audio_tokens=used.output_audio_tokens,
                image_tokens=used.output_image_tokens,
            ),
            server_tool_use=kinds.ServerToolUse(web_search_requests=used.searches) if used.searches else None,
        )
        told = {"call_type": "retrieve_batch"} if used.service_tier == "batch" else {"service_tier": used.service_tier}
        with self.context.pinned_billing_time(PEAK), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cost = self.litellm.completion_cost(
                completion_response=kinds.ModelResponse(model=case.model, usage=usage),
                model=f"{case.provider}/{case.model}",
                custom_llm_provider=case.provider,
                **told,
            )
        return Decimal(repr(cost)) * 10**9
