"""Cost against quality as a picture: SVG written by hand, PNG by matplotlib where it is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

WIDTH, HEIGHT, MARGIN = 720, 480, 64
HALO = 'stroke="white" stroke-width="3" paint-order="stroke"'
"""Keeps a text readable where a line passes behind it."""
_MARKS = {
    "policy": ("this policy", "#c0392b"),
    "always_cheap": ("always cheap", "#555555"),
    "always_premium": ("always premium", "#555555"),
    "random_same_spend": ("random, same spend", "#2980b9"),
    "oracle": ("hindsight", "#27ae60"),
}


def drawable(file: Path) -> None:
    """Refuse a picture that can't be drawn here, before any work is done."""
    if file.suffix not in (".svg", ".png"):
        raise typer.BadParameter(f"{file} should end in .svg or .png.", param_hint="--plot")
    if file.suffix == ".png":
        try:
            import matplotlib as mpl  # noqa: F401  to see whether it is there
        except ImportError:
            raise typer.BadParameter(
                "A PNG needs matplotlib: pip install 'farthing[plot]', or name an .svg.", param_hint="--plot"
            ) from None


def draw(file: Path, found: dict[str, Any], curve: list[tuple[float, float]]) -> None:
    """Draw the curve of the score, the straight line of chance, and where each way of spending ends up."""
    marks = [(said, colour, found[name]["cost_usd"], found[name]["quality"]) for name, (said, colour) in _MARKS.items()]
    try:
        if file.suffix == ".png":
            _draw_png(file, marks, curve)
        else:
            file.write_text(_svg(marks, curve), encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{file} can't be written: {error.strerror}.", param_hint="--plot") from None


def _draw_png(file: Path, marks: list[tuple[str, str, float, float]], curve: list[tuple[float, float]]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot([usd for usd, _ in curve], [quality for _, quality in curve], color="#c0392b", label="by score")
    axes.plot([curve[0][0], curve[-1][0]], [curve[0][1], curve[-1][1]], "--", color="#2980b9", label="random mix")
    for said, colour, usd, quality in marks:
        axes.plot([usd], [quality], "o", color=colour)
        axes.annotate(said, (usd, quality), xytext=(6, -12), textcoords="offset points", color=colour)
    axes.set_xlabel("dollars")
    axes.set_ylabel("quality")
    axes.legend()
    figure.savefig(file, dpi=110)


def _svg(marks: list[tuple[str, str, float, float]], curve: list[tuple[float, float]]) -> str:
    points = [*curve, *((usd, quality) for _, _, usd, quality in marks)]
    left, right = min(usd for usd, _ in points), max(usd for usd, _ in points)
    low, high = min(quality for _, quality in points), max(quality for _, quality in points)

    def at(usd: float, quality: float) -> tuple[float, float]:
        x = MARGIN + (usd - left) / ((right - left) or 1) * (WIDTH - 2 * MARGIN)
        y = HEIGHT - MARGIN - (quality - low) / ((high - low) or 1) * (HEIGHT - 2 * MARGIN)
        return round(x, 1), round(y, 1)

    def text(x: float, y: float, said: str, colour: str = "#333333") -> str:
        return f'<text x="{x}" y="{y}" fill="{colour}" {HALO}>{said}</text>'

    line = " ".join(f"{x},{y}" for x, y in (at(*point) for point in curve))
    (x1, y1), (x2, y2) = at(*curve[0]), at(*curve[-1])
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
            f'font-size="12"><rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
        ),
        f'<path d="M{MARGIN},{MARGIN} V{HEIGHT - MARGIN} H{WIDTH - MARGIN}" fill="none" stroke="#999999"/>',
        f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="#2980b9" stroke-dasharray="6 4"/>',
        f'<polyline points="{line}" fill="none" stroke="#c0392b" stroke-width="2"/>',
    ]
    ticks = [
        (MARGIN, HEIGHT - MARGIN + 18, f"${left:,.4g}"),
        (WIDTH - MARGIN - 40, HEIGHT - MARGIN + 18, f"${right:,.4g}"),
        (6, HEIGHT - MARGIN, f"{low:.3f}"),
        (6, MARGIN + 4, f"{high:.3f}"),
        (WIDTH / 2 - 30, HEIGHT - 20, "dollars"),
        (6, MARGIN - 20, "quality; solid: by score, dashed: a random mix"),
    ]
    taken = [_box(*tick) for tick in ticks]
    for said, colour, usd, quality in marks:
        x, y = at(usd, quality)
        parts.append(f'<circle cx="{x}" cy="{y}" r="4" fill="{colour}"/>')
        parts.append(text(*_beside(x, y, said, taken), said, colour))
    parts += [*(text(*tick) for tick in ticks), "</svg>"]
    return "\n".join(parts) + "\n"


def _box(x: float, y: float, said: str) -> tuple[float, float, float, float]:
    """Return about where a text lies that begins at `x` on the line `y`: left, top, right, bottom."""
    return x, y - 11, x + 7 * len(said), y + 4


def _beside(x: float, y: float, said: str, taken: list[tuple[float, float, float, float]]) -> tuple[float, float]:
    """Return where a mark's label goes: inside the axes, near it, and over none that is there; that place is taken."""
    wide = 7 * len(said)
    rows = (14, -8, 29, -23, 44, -38, 4)
    places = [(x + across, y + down) for down in rows for across in (7, -7 - wide)]
    inside = [place for place in places if MARGIN < place[0] < WIDTH - wide and 12 < place[1] < HEIGHT - MARGIN]
    best = next((place for place in inside if not any(_meet(_box(*place, said), box) for box in taken)), places[0])
    taken.append(_box(*best, said))
    return round(best[0], 1), round(best[1], 1)


def _meet(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
