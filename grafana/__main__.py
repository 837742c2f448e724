"""`python -m grafana`: writes the dashboards that Grafana reads; what is committed is always what this writes."""

from __future__ import annotations

from pathlib import Path

from grafana.board import Board, as_json
from grafana.health import HEALTH
from grafana.routing import ROUTING
from grafana.spend import SPEND

FOLDER = Path(__file__).parent / "dashboards"
BOARDS: tuple[Board, ...] = (SPEND, ROUTING, HEALTH)


def main() -> None:
    for board in BOARDS:
        (FOLDER / f"{board.name}.json").write_text(as_json(board))


if __name__ == "__main__":
    main()
