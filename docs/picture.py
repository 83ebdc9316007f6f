"""Draw docs/status.png, the picture of the status page in README.md: `make picture`.

An hour of the demo's mail is played in fast motion, on a clock of its own, and a headless Chromium shows the page as it is at
its end, when an outage of the network has lasted for some minutes.
"""

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

from browser import Browser
from hour import Hour
from qmail_exporter.status import Status

PICTURE = Path(__file__).with_name("status.png")
SIZE = (1200, 1240)


def draw(place: Path) -> None:
    """Draw the picture, with files below `place` meanwhile."""
    hour = Hour(place / "qmail")
    status = Status(hour.collection, {"default": hour.hook}, host="mx1.example.com", clock=lambda: hour.now)
    try:
        asyncio.run(hour.play(status.step))
        hour.collection.refresh(1.0)  # as for anybody who asks for the page
        page = status.page()
    finally:
        hour.close()
    # The picture is the same wherever it is drawn.
    (place / "page.html").write_text(page.replace(str(place), "/var"), encoding="utf-8")
    Browser().screenshot((place / "page.html").as_uri(), PICTURE, SIZE)


if __name__ == "__main__":
    with TemporaryDirectory(prefix="qmail-exporter-picture-") as directory:
        draw(Path(directory))
