"""Prices of the catalogue, as the tests of pricing name them."""

from __future__ import annotations

import json
from decimal import Decimal
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from router.errors import UnpricedModel
from router.pricing import Catalogue, Price
from router.pricing.catalogue import FILE_NAME


@cache
def catalogue() -> Catalogue:
    return Catalogue()


def price_of(provider: str, model: str) -> Price:
    return catalogue().entry(provider, model).price


def usd(text: str) -> int:
    """Return dollars as nUSD, which must be whole."""
    nusd = Decimal(text) * 10**9
    assert nusd == int(nusd)
    return int(nusd)


@cache
def every_priced_model() -> tuple[tuple[str, str], ...]:
    """Every (provider, model) of the catalogue that has a price and talks, as models.yaml would name it."""
    kin = {"bedrock_converse": "bedrock", "cohere_chat": "cohere", "text-completion-openai": "openai"}
    listed = json.loads((Path(find_spec("litellm").submodule_search_locations[0]) / FILE_NAME).read_bytes())
    found = []
    for name, entry in listed.items():
        named = entry.get("litellm_provider", "")
        provider = kin.get(named, "vertex_ai" if named.startswith("vertex_ai") else named)
        try:
            priced = catalogue().entry(provider, name.removeprefix(f"{provider}/"))
        except UnpricedModel:
            continue
        if priced.name == name and priced.mode != "embedding":
            found.append((provider, name.removeprefix(f"{provider}/")))
    return tuple(found)
