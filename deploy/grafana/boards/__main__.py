"""Write deploy/grafana/dashboards: `make dashboards`, or `PYTHONPATH=deploy/grafana python -m boards`."""

import argparse
from pathlib import Path

from boards import destinations, fleet, outage, queue
from boards.board import EXAMPLE, Board

PLACE = Path(__file__).parents[1] / "dashboards"
BOARDS: tuple[Board, ...] = (fleet.BOARD, queue.BOARD, destinations.BOARD, outage.BOARD)


def write(place: Path, docs: str) -> None:
    """Write all dashboards into a directory, with links to that address of docs/."""
    place.mkdir(parents=True, exist_ok=True)
    for board in BOARDS:
        (place / f"{board.uid}.json").write_text(board.json(docs), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="boards", description="Write the dashboards as JSON for Grafana.")
    parser.add_argument("--out", type=Path, default=PLACE, metavar="DIR", help="where to")
    parser.add_argument("--docs", default=EXAMPLE, metavar="URL", help="where docs/ is to be had, for links")
    given = parser.parse_args()
    write(given.out, given.docs.rstrip("/"))
