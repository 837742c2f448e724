"""What tokens cost: prices as exact integers, from the bundled catalogue or from models.yaml.

A model whose price is not known raises; nothing here makes a model free that was not declared so.
"""

from router.pricing.catalogue import Catalogue
from router.pricing.listing import CatalogueEntry
from router.pricing.override import PriceOverride, TierOverride, override_price
from router.pricing.price import UNLIMITED_TOKENS, Ask, Bracket, Price, Rates, Schedule, SearchPrice
from router.pricing.region import region_of

__all__ = [
    "UNLIMITED_TOKENS",
    "Ask",
    "Bracket",
    "Catalogue",
    "CatalogueEntry",
    "Price",
    "PriceOverride",
    "Rates",
    "Schedule",
    "SearchPrice",
    "TierOverride",
    "override_price",
    "region_of",
]
