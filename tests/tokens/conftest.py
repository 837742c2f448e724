"""One counter for all tests of counting, for its encodings take a while to load."""

from __future__ import annotations

import pytest

from router.tokens import Counter


@pytest.fixture(scope="session")
def counter() -> Counter:
    counter = Counter()
    counter.warm(["o200k_base", "cl100k_base"])
    return counter
