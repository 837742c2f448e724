"""What a request has, as rules and prices look at it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from router.chat import Chat
from router.policy.features import parts_of

ASKED: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "What happened today?"}]}


@pytest.mark.parametrize(
    "members",
    [
        {"web_search_options": {}},
        {"search_parameters": {"mode": "auto"}},
        {"tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 5}]},
    ],
)
def test_a_search_is_seen_however_it_is_asked_for(members: dict[str, Any]) -> None:
    # Providers bill each search, so that a model with no price for one must not be tried.
    assert "web_search" in parts_of(msgspec.convert({**ASKED, **members}, Chat))


@pytest.mark.parametrize("parameters", [{"mode": "off", "return_citations": True}, None])
def test_a_search_that_is_switched_off_is_none(parameters: dict[str, Any] | None) -> None:
    assert parts_of(msgspec.convert({**ASKED, "search_parameters": parameters}, Chat)) == frozenset()


def test_a_function_named_web_search_is_the_callers_own() -> None:
    tool = {"type": "function", "function": {"name": "web_search"}}
    assert parts_of(msgspec.convert({**ASKED, "tools": [tool]}, Chat)) == {"tools"}
