"""The shape of budgets and of prices."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from pydantic import Field
from pydantic_core import PydanticCustomError

from router.policy.fault import shown
from router.policy.schema.kinds import Count, Dollars, Rate, Shape


def free(value: object) -> object:
    if value == "free":
        return FREE
    if not isinstance(value, dict):
        raise PydanticCustomError(
            "farthing", "{said}", {"said": f"must be `free` or a mapping of prices, not {shown(value)}"}
        )
    if not value:
        raise PydanticCustomError("farthing", "no price is given; `price: free` says that it costs nothing")
    return value


class BudgetShape(Shape):
    """Limits in dollars. Windows are calendar hours, days and months in UTC."""

    per_request_usd: Dollars | None = Field(None, description="The most one request may cost, every retry included.")
    per_hour_usd: Dollars | None = Field(None, description="The most one calendar hour may cost.")
    per_day_usd: Dollars | None = Field(None, description="The most one calendar day may cost.")
    per_month_usd: Dollars | None = Field(None, description="The most one calendar month may cost.")
    on_exceeded: Literal["downgrade", "reject", "warn"] = Field(
        "downgrade",
        description="Where the money does not suffice: `downgrade` looks for a cheaper model of the policy, "
        "`reject` refuses with 402, `warn` counts and says so and refuses nothing (per_request_usd still holds).",
    )


class TaskBudgetShape(BudgetShape):
    """What a task may spend, and how much each of its requests sets aside."""

    hold: Literal["ceiling", "expected"] = Field(
        "ceiling",
        description="`ceiling` sets aside the most a request may cost, so that no budget is ever passed; `expected` "
        "what nineteen in twenty of this task's answers cost, so that more can run at once.",
    )


class RatesShape(Shape):
    """Prices in dollars per million tokens. A class left out costs what providers take in its place."""

    cached_input_usd_per_mtok: Rate | None = Field(None, description="Input read from the provider's cache.")
    cache_write_usd_per_mtok: Rate | None = Field(None, description="Input written to the provider's cache.")
    cache_write_1h_usd_per_mtok: Rate | None = Field(None, description="Input written to the cache for an hour.")
    input_audio_usd_per_mtok: Rate | None = Field(None, description="Audio in the input.")
    cached_audio_usd_per_mtok: Rate | None = Field(None, description="Audio read from the provider's cache.")
    input_image_usd_per_mtok: Rate | None = Field(None, description="Images in the input.")
    reasoning_usd_per_mtok: Rate | None = Field(None, description="Output that is hidden reasoning.")
    output_audio_usd_per_mtok: Rate | None = Field(None, description="Audio in the output.")
    output_image_usd_per_mtok: Rate | None = Field(None, description="Images in the output.")


class PriceTierShape(RatesShape):
    """Prices of requests with a longer input; what is left out stays as it is below."""

    above_input_tokens: Count = Field(description="Holds for requests with more input tokens than this.")
    input_usd_per_mtok: Rate | None = Field(None, description="Input, where no other class applies.")
    output_usd_per_mtok: Rate | None = Field(None, description="Output, where no other class applies.")


class PriceShape(RatesShape):
    """Prices in dollars, in place of the catalogue's."""

    input_usd_per_mtok: Rate = Field(description="Input, where no other class applies.")
    output_usd_per_mtok: Rate = Field(description="Output, where no other class applies.")
    per_request_usd: Rate = Field(Decimal(0), description="A fee for each request.")
    per_search_usd: Rate | None = Field(None, description="A fee for each web search.")
    tiers: list[PriceTierShape] = Field([], description="Prices of requests with a longer input.")


FREE = PriceShape(input_usd_per_mtok=Decimal(0), output_usd_per_mtok=Decimal(0))
"""What `price: free` is read as."""
