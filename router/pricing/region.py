"""Where a target's requests are processed, as far as its address or the environment says: some regions cost more."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

GLOBAL = "global"
_OPENAI_ENDING = ".api.openai.com"
_VERTEX = "vertex_ai"
_LOCATION = "VERTEXAI_LOCATION"
_USUAL_LOCATION = "us-central1"
"""Where litellm, which calls Vertex, sends a chat if that variable names no place (1.106.2, November 2026). It reads
VERTEX_LOCATION too, but for embeddings and images alone."""


def region_of(provider: str, base_url: str | None, environ: Mapping[str, str]) -> str:
    """Return a region as a price knows it, like "eu"; GLOBAL where nothing says."""
    if provider == "openai" and base_url:
        host = urlsplit(base_url).hostname or ""
        return host.removesuffix(_OPENAI_ENDING) if host.endswith(_OPENAI_ENDING) else GLOBAL
    if provider.startswith(_VERTEX) and not base_url:
        return (environ.get(_LOCATION) or _USUAL_LOCATION).lower()
    return GLOBAL
