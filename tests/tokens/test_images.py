"""What pictures count: as the API reported or documents it, and the dearest where a size can't be read."""

from __future__ import annotations

import base64
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.tokens import Counter, rules_for
from router.tokens.images import size_of
from tokens.chats import GPT_4O, chat, user

PIXEL_IMAGE = (
    "data:image/png;base64,"
    + base64.b64encode(
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + struct.pack(">II", 128, 64) + b"\x08\x02\x00\x00\x00"
    ).decode()
)


@pytest.mark.parametrize(
    ("model", "low", "high"),
    [
        # community.openai.com/t/1262691, 2025-05: "repeat word from attached image" with an image of 128x64.
        ("gpt-4o-2024-11-20", 97, 267),
        ("gpt-4o-2024-05-13", 97, 267),
        ("gpt-4o-mini-2024-07-18", 2845, 8512),
        ("gpt-4.1-2025-04-14", 97, 267),
        ("gpt-4.1-mini-2025-04-14", 26, 26),
        ("gpt-4.1-nano-2025-04-14", 33, 33),
        ("gpt-4.5-preview-2025-02-27", 97, 267),
        ("gpt-4-turbo-2024-04-09", 97, 267),
        ("o3-2025-04-16", 86, 236),
        ("o4-mini-2025-04-16", 26, 26),
    ],
)
def test_images_count_as_the_api_reported(counter: Counter, model: str, low: int, high: int) -> None:
    rules = rules_for("openai", model)
    for detail, reported in (("low", low), ("high", high), ("auto", high), (None, high)):
        image = {"type": "image_url", "image_url": {"url": PIXEL_IMAGE, "detail": detail}}
        text = {"type": "text", "text": "repeat word from attached image"}
        assert counter.count_input(chat(user([text, image])), rules) == reported


@pytest.mark.parametrize(
    ("size", "tokens"),
    [
        # OpenAI, "Images and vision" (2025-12); the last two were measured (community.openai.com/t/1281361).
        ((1024, 1024), 765),
        ((2048, 4096), 1105),
        ((512, 512), 255),
        ((1, 1), 255),
        ((1800, 2400), 765),
        ((2049, 513), 1445),
        ((2050, 513), 765),
    ],
)
def test_tiles_follow_the_documented_examples(size: tuple[int, int], tokens: int) -> None:
    assert GPT_4O.images.tokens(size, "high") == tokens
    assert GPT_4O.images.tokens(size, "low") == 85


def test_patches_stop_at_the_budget() -> None:
    mini = rules_for("openai", "gpt-4.1-mini").images
    assert mini.tokens((1024, 1024), "high") == 1659 + 1
    assert mini.tokens((1504, 1024), "high") == -(-47 * 32 * 162 // 100) + 1
    for size in ((4000, 1474), (1800, 2400), (100_000, 1), (10**9, 10**9)):
        assert mini.tokens(size, "high") <= 2489 + 1
    assert mini.tokens((4000, 1474), "high") >= 2488  # billed: community.openai.com/t/1281361, 2025-06


@pytest.mark.parametrize(
    "model", [
        "gpt-4o", "gpt-4o-mini", "gpt-5", "gpt-4.1-nano", "gpt-5.4", "gpt-6-astra", "o3", "claude-opus-4-7",
        "claude-3-haiku", "gemini-2.5-pro", "gemini-3-pro", "qwen2-vl-72b", "pixtral-12b", "some-model",
    ],
)  # fmt: skip
def test_an_image_of_unknown_size_is_the_dearest(model: str) -> None:
    rule = rules_for("openai", model).images
    dearest = rule.tokens(None, None)
    sides = (1, 31, 383, 385, 512, 576, 767, 769, 1152, 1568, 2047, 2049, 3071, 3073, 8000, 60_000)
    for width in sides:
        for height in sides:
            assert 0 < rule.tokens((width, height), None) <= dearest


def images_of(width: int, height: int) -> dict[str, bytes]:
    jpeg_end = b"\xff\xc2\x00\x11\x08" + struct.pack(">HH", height, width) + b"\x03"
    riff = b"RIFF\x00\x00\x00\x00WEBP"
    bits = (width - 1) | (height - 1) << 14
    return {
        "png": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + struct.pack(">II", width, height) + b"\x08\x06",
        "gif": b"GIF89a" + struct.pack("<HH", width, height) + b"\xf7",
        "jpeg": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(9) + b"\xff\xff" + jpeg_end[1:] + bytes(20),
        "jpeg with a thumbnail": b"\xff\xd8\xff\xe1\xff\xff" + bytes(65_533) + jpeg_end + bytes(20),
        "webp": riff + b"VP8 \x00\x00\x00\x00\x00\x00\x00\x9d\x01\x2a" + struct.pack("<HH", width, height),
        "webp lossless": riff + b"VP8L\x00\x00\x00\x00\x2f" + struct.pack("<I", bits) + bytes(8),
        "webp extended": riff + b"VP8X\x0a\x00\x00\x00\x00\x00\x00\x00"
        + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little"),
    }  # fmt: skip


@pytest.mark.parametrize("kind", images_of(1, 1))
@pytest.mark.parametrize("size", [(1, 1), (640, 480), (4032, 3024), (16383, 9)])
def test_sizes_are_read_from_headers(kind: str, size: tuple[int, int]) -> None:
    encoded = base64.b64encode(images_of(*size)[kind]).decode()
    assert size_of(f"data:image/{kind};base64,{encoded}") == size


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/cat.png",
        "data:image/png;base64,",
        "data:image/png;base64,!!!!",
        "data:image/png;base64,iVBORw0KGgo",
        "data:image/png;base64,äöü",
        "data:image/png,plain",
        "data:image/jpeg;base64," + base64.b64encode(b"\xff\xd8" + b"\xff" * 300_000).decode(),
        "data:image/jpeg;base64," + base64.b64encode(b"\xff\xd8" + b"\xff\xe0\x00\x02" * 70_000).decode(),
        "data:image/png;base64," + base64.b64encode(images_of(1, 1)["png"].replace(b"\x01", b"\x00")).decode(),
        "",
    ],
    ids=range(10),
)
def test_an_unreadable_image_has_no_size_and_costs_the_dearest(counter: Counter, url: str) -> None:
    assert size_of(url) is None
    image = {"type": "image_url", "image_url": {"url": url}}
    assert counter.count_input(chat(user([image])), GPT_4O) == 7 + 1445


@given(st.binary(max_size=400), st.sampled_from(sorted(images_of(1, 1))))
def test_no_bytes_break_the_header_reader(tail: bytes, kind: str) -> None:
    data = images_of(300, 200)[kind][: 12 + len(tail) % 20] + tail
    size = size_of("data:image/x;base64," + base64.b64encode(data).decode())
    assert size is None or min(size) > 0
