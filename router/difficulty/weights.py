"""The trained weights as a file: quantised, small, and readable by any version that knows its format number.

The cue rule is not trained and not in the file; `scorer` holds it.
"""

from __future__ import annotations

import base64
import math
from array import array
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path

import msgspec
from msgspec import Struct

from router.difficulty.grams import SIZE
from router.errors import UnusableFile

FORMAT = 1
SHIPPED = "weights.json"
MOST_READ = 4
"""Files of weights that are kept as they were read: the same bytes give the same value again."""
_STEPS = 127
NOTHING = 1e-9
"""No weight is as small as this, save by the rounding of its sums."""


class Weights(Struct, frozen=True, eq=False):
    """What training found. Two are the same where they are one value."""

    format: int
    trained_on: dict[str, int]
    """Source → how many of its prompts."""
    data_sha256: str
    """Of the labels that were trained on, in their order."""
    step: float
    """What one step of a quantised weight stands for."""
    quantised: str
    """One signed byte for each place of `grams`, in base64."""
    spread: float
    """The standard deviation of what the weights say over the prompts of training, so that it has a unit."""
    reference: list[float]
    """101 quantiles of the score over the reference prompts: what `difficulty` is told by before there is traffic."""

    def by_place(self) -> array[float]:
        return array("f", [step * self.step for step in array("b", base64.b64decode(self.quantised))])


def quantised(values: dict[int, float]) -> tuple[float, str]:
    """Return the size of one step, and the weights in such steps."""
    largest = max((abs(value) for value in values.values()), default=0.0)
    step = float(f"{largest / _STEPS:.6g}") if largest > NOTHING else 1.0
    steps = array("b", bytes(SIZE))
    for place, value in values.items():
        steps[place] = max(-_STEPS, min(_STEPS, math.floor(value / step + 0.5)))
    return step, base64.b64encode(steps.tobytes()).decode()


def write_weights(weights: Weights, file: Path) -> None:
    """Write the file; the same weights give the same bytes."""
    file.write_bytes(msgspec.json.format(msgspec.json.encode(weights), indent=1) + b"\n")


def read_weights(file: Path) -> Weights:
    """Read a file of weights.

    Raises:
        UnusableFile: there is none, or it can't be used; says why.
    """
    try:
        return weights_of(file.read_bytes(), str(file))
    except OSError as error:
        raise UnusableFile(f"{file} can't be read: {error.strerror}.") from None


@cache
def shipped_weights() -> Weights:
    """Return the weights that come with the product."""
    return weights_of(files("router.difficulty").joinpath(SHIPPED).read_bytes(), SHIPPED)


@lru_cache(maxsize=MOST_READ)
def weights_of(data: bytes, name: str) -> Weights:
    """Return what the bytes of a file of weights say; `name` is what to call it.

    Raises:
        UnusableFile: they can't be used; says why.
    """
    try:
        weights = msgspec.json.decode(data, type=Weights)
        whole = len(base64.b64decode(weights.quantised, validate=True)) == SIZE and len(weights.reference) == 101
        # A step is some hundredth of the spread; where it is far above, no score can be told any more.
        whole = whole and weights.reference == sorted(weights.reference) and 0 < weights.step <= weights.spread
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise UnusableFile(
            f"{name} is not a file of weights ({error}). Make one with farthing difficulty train."
        ) from None
    if weights.format != FORMAT:
        raise UnusableFile(f"{name} is of format {weights.format}; this version reads {FORMAT}. Train it again.")
    if not whole:
        raise UnusableFile(f"{name} is a damaged file of weights. Train it again.")
    return weights
