"""Loading a folder: whatever its files hold, it gives faults and raises nothing."""

from __future__ import annotations

import os
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from policy.broken_folder import BROKEN
from policy.loading import SHIPPED, load, task
from router.policy.fault import Fault
from router.pricing import Catalogue


def _mutated(data: bytes, dice: random.Random) -> bytes:
    piece = bytearray(data)
    for _ in range(dice.randint(1, 6)):
        at, end = sorted((dice.randrange(len(piece) + 1), dice.randrange(len(piece) + 1)))
        match dice.randrange(6):
            case 0:
                piece[at : at + dice.randint(0, 8)] = b""
            case 1:
                piece[at:at] = dice.choice(SPLINTERS)
            case 2:
                piece[at:at] = bytes([dice.randrange(256)])
            case 3:
                piece[at:at] = piece[at : min(end, at + 40)]
            case 4 if at < len(piece):
                piece[at] = dice.randrange(128)
            case 5:
                words = data.split()
                piece[at:at] = b" " + dice.choice(words) + b" "
    return bytes(piece)


SPLINTERS = (
    b"{", b"}", b"[", b"]", b"*a", b"&a ", b"!!int ", b"? ", b": ", b"- ", b"\t", b"\n", b"\n  ", b"null",
    b".nan", b"-.inf", b"1e999999999", b"9" * 5000, b"0x", b'"', b"'", b"|\n", b">", b"%YAML 1.1\n",
    b"---\n", b"...\n", b"<<: *a", b"\xef\xbb\xbf", b"\x00", b"\xed\xa0\x80", b"\\ud800", b"2026-01-01",
    b"~", b"true", b"[[[[[[", b"{a: {a: {a: ", b"in: [", b'matches: "(a{1000}){1000}"', b"all: [{}]", b"${A}",
    b"when:", b"condition: late", b"condition: [late, dear]", b"include: _shared.yaml", b"include: [a/b.yaml, ../x]",
    b"cel: ", b'cel: "hour > 5 && "', b"cel: |\n        has(", b"metadata.a.", b"'tools' in has", b"(((((",
    b"# ", b"\xf0\x9f\x98\x80", b"1_000",
)  # fmt: skip


INCLUDING: dict[str, str | bytes] = {
    "_shared.yaml": "version: 1\n",
    "including.yaml": task("include: _shared.yaml\nroute: [{when: {condition: late}, use: dear}, {use: cheap}]\n"),
}
SHARING = (
    b"version: 1\nconditions:\n  late: {hour: {gte: 22}}\n  dear: {condition: late}\n",
    b"version: 1\ninclude: [a/b.yaml]\nconditions: {late: {cel: 'hour > 21 || \"tools\" in has'}}\n",
    b"version: 1\nprompts: {cheap: {system: Be short.}}\nconditions: {late: {all: [{hour: 1}, {condition: dear}]}}\n",
)


def test_no_mutated_file_raises(catalogue: Catalogue) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    sources = [path.read_bytes() for path in (*SHIPPED.glob("*.yaml*"), *BROKEN.rglob("*.yaml"))]
    for _ in range(int(os.environ.get("FARTHING_FUZZ", "300"))):
        name = dice.choice(("models.yaml", "accounts.yaml", "broken.yaml", "_shared.yaml"))
        data = _mutated(dice.choice(SHARING if name == "_shared.yaml" else sources), dice)
        loaded = load(catalogue, {**INCLUDING, name: data})
        assert all(isinstance(fault, Fault) and fault.line >= 1 and fault.column >= 1 for fault in loaded.faults)
        assert (loaded.set is None) == any(fault.level == "error" for fault in loaded.faults)


@given(data=st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_no_bytes_raise(catalogue: Catalogue, data: bytes) -> None:
    assert load(catalogue, {"s.yaml": data}).faults
