"""Server-sent events come out whole wherever the network cut them, in time that grows as their length does."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.providers.sse import LARGEST_EVENT_BYTES, EventCutter, EventTooLarge

STREAM = b'data: {"a": 1}\n\n: a comment\n\ndata: one\ndata: two\r\n\r\nevent: x\ndata: 3\n\n\n\ndata: the end'
EVENTS = [b'data: {"a": 1}\n\n', b": a comment\n\n", b"data: one\ndata: two\r\n\r\n", b"event: x\ndata: 3\n\n"]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_events_come_out_whole_wherever_they_are_cut(cuts: list[int]) -> None:
    cutter = EventCutter()
    edges = [0, *sorted(cuts), len(STREAM)]
    events = [event for start, end in pairwise(edges) for event in cutter.feed(STREAM[start:end])]
    # A blank line more than is needed may stand before what follows it.
    assert [event.lstrip(b"\n") for event in events if event.strip()] == EVENTS
    assert cutter.finish().lstrip(b"\n") == b"data: the end"


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_an_event_of_megabytes_takes_no_more_time_for_coming_in_pieces(line_end: bytes) -> None:
    event = b"data: " + b"x" * (LARGEST_EVENT_BYTES - 100) + 2 * line_end
    cutter, began = EventCutter(), time.process_time()
    found = [each for start in range(0, len(event), 16_384) for each in cutter.feed(event[start : start + 16_384])]
    assert time.process_time() - began < 1.0
    assert found == [event]


def test_an_event_without_an_end_is_given_up_however_it_comes() -> None:
    cutter, piece = EventCutter(), b"x" * 65_536
    for _ in range(LARGEST_EVENT_BYTES // len(piece)):
        cutter.feed(piece)
    with pytest.raises(EventTooLarge):
        cutter.feed(piece)
