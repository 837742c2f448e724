"""The price catalogue that the litellm package ships, read as data and asked by provider and model.

litellm itself is never imported, and nothing is fetched. A model that is missing, or known only at another
provider, raises `UnpricedModel`; so does one whose entry does not price its tokens.
"""

from __future__ import annotations

import difflib
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import msgspec

from router.errors import UnpricedModel
from router.pricing.listing import REMEDY, CatalogueEntry, Fields, Listing

FILE_NAME: Final = "model_prices_and_context_window_backup.json"

_OTHER_NAMES: Final = {
    "azure": frozenset({"azure_text"}),
    "bedrock": frozenset({"bedrock_converse"}),
    "cohere": frozenset({"cohere_chat"}),
    "openai": frozenset({"text-completion-openai"}),
}
"""Of a provider, in the catalogue's `litellm_provider`; beside those like `vertex_ai-language-models`."""
_DATE: Final = re.compile(rb'(?<!deprecation_date": ")\b(20[2-9]\d)-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])\b')


class Catalogue:
    """Prices by provider and model, read from one file.

    Where a provider is cheaper at some hours (DeepSeek), the price is that of the dearer hours.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Read the catalogue at `path`, or the one in the installed litellm package.

        Raises:
            FileNotFoundError: it is not there.
            msgspec.DecodeError: it is not JSON.
        """
        self._path = path or _bundled_path()
        # The values stay undecoded: of some 4,000 entries a handful is asked for.
        self._entries = msgspec.json.decode(self._path.read_bytes(), type=dict[str, msgspec.Raw])

    def names(self) -> list[str]:
        """Return every name in the catalogue, in its order."""
        return list(self._entries)

    def entry(self, provider: str, model: str) -> CatalogueEntry:
        """Return what is known of `model` at `provider`.

        Raises:
            UnpricedModel: the catalogue has no such model at this provider, or no price of its tokens.
        """
        if listing := self._listing(provider, model):
            return listing.entry()
        raise self._unpriced(provider, model)

    def find(self, provider: str, model: str) -> CatalogueEntry | None:
        """Return what is known of a model that may well have a price of its own; None where that is nothing."""
        listing = self._listing(provider, model)
        try:
            return listing.entry() if listing else None
        except UnpricedModel:
            return None

    @cached_property
    def newest_date(self) -> date:
        """The newest date that the catalogue mentions (in names, sources and notes), and that is past.

        The package carries no date of its own: its files bear the time of installation. The catalogue can't
        be older than what it mentions, and it may be some weeks newer. Dates after the installation are
        announcements.
        """
        installed = datetime.fromtimestamp(self._path.stat().st_mtime, UTC).date()
        days = {day for found in _DATE.finditer(self._path.read_bytes()) if (day := _date(found)) is not None}
        return max((day for day in days if day <= installed), default=max(days, default=installed))

    def age_days(self, today: date) -> float:
        """Return how old the catalogue is at most, in days."""
        return float(max((today - self.newest_date).days, 0))

    def _listing(self, provider: str, model: str) -> Listing | None:
        for name in _names_to_try(provider, model):
            fields = self._fields(name)
            if fields is not None and _is_of(provider, fields.get("litellm_provider")):
                return Listing(name, provider, fields)
        return None

    def _fields(self, name: str) -> Fields | None:
        raw = self._entries.get(name)
        return None if raw is None else _ENTRY.decode(raw)

    def _unpriced(self, provider: str, model: str) -> UnpricedModel:
        own = [
            name.removeprefix(f"{provider}/")
            for name, raw in self._entries.items()
            if _is_of(provider, _provider_of(raw))
        ]
        near = [f"{provider}/{name}" for name in difflib.get_close_matches(model, own, n=3)]
        named_so = [name for name in self._entries if name == model or name.endswith(f"/{model}")]
        targets = [f"{_provider_of(self._entries[name])}/{name}" if name == model else name for name in named_so]
        elsewhere = sorted(targets, key=lambda target: -_likeness(target.partition("/")[0], provider))[:3]
        hints = f" Near it: {', '.join(dict.fromkeys(near))}." if near else ""
        hints += f" At other providers: {', '.join(elsewhere)}." if elsewhere else ""
        return UnpricedModel(
            f"No price for {provider}/{model}: the bundled catalogue (of {self.newest_date}) has no entry "
            f"for this model at this provider.{hints} {REMEDY}"
        )


_ENTRY: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)


class _Provider(msgspec.Struct):
    litellm_provider: str | None = None


_PROVIDER: msgspec.json.Decoder[_Provider] = msgspec.json.Decoder(_Provider)


def _provider_of(raw: msgspec.Raw) -> str | None:
    return _PROVIDER.decode(raw).litellm_provider


def _bundled_path() -> Path:
    spec = find_spec("litellm")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("The litellm package, which carries the price catalogue, is not installed.")
    return Path(spec.submodule_search_locations[0]) / FILE_NAME


def _date(found: re.Match[bytes]) -> date | None:
    try:
        return date(int(found[1]), int(found[2]), int(found[3]))
    except ValueError:
        return None


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def _names_to_try(provider: str, model: str) -> tuple[str, ...]:
    """Return the names a model may have in the catalogue; a fine-tune's own suffix is not part of it."""
    base = ":".join(model.split(":")[:2]) if model.startswith("ft:") else model
    return f"{provider}/{base}", base


def _is_of(provider: str, named: object) -> bool:
    if not isinstance(named, str):
        return False
    return named == provider or named.startswith(f"{provider}-") or named in _OTHER_NAMES.get(provider, frozenset())
