"""A small real model on this machine, from the extra farthing[local]: llama.cpp's server, beside the proxy.

Nothing here is imported by a proxy that does not serve one, and nothing is fetched: the weights are in packages.
"""

from __future__ import annotations

from router.providers.local.beside import LocalModel

__all__ = ["LocalModel"]
