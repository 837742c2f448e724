"""Fixtures of the tests of policies."""

from __future__ import annotations

import pytest

from router.pricing import Catalogue


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue()
