"""A headless Chromium: what it makes of a page, as a picture or as the document that it ended up with."""

import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip
_PATIENCE = 120.0
DARK = "--blink-settings=preferredColorScheme=0"


def find() -> str | None:
    """Return the path of a Chromium, None if there is none."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


class Browser:
    """A Chromium, started anew with an empty profile for each page.

    Raises:
        FileNotFoundError: there is none.
    """

    def __init__(self) -> None:
        found = find()
        if found is None:
            raise FileNotFoundError("no Chromium is installed")
        self._program = found

    def screenshot(self, url: str, picture: Path, size: tuple[int, int], *, dark: bool = False) -> Path:
        """Write a picture of a page, in a window of that width and height, and return its path.

        Raises:
            subprocess.CalledProcessError: it failed.
        """
        scheme = (DARK,) if dark else ()
        self._run(url, f"--window-size={size[0]},{size[1]}", f"--screenshot={picture}", *scheme)
        return picture

    def document(self, url: str) -> str:
        """Return a page's document after its scripts have run, as HTML.

        Raises:
            subprocess.CalledProcessError: it failed.
        """
        return self._run(url, "--virtual-time-budget=3000", "--dump-dom")

    def _run(self, url: str, *arguments: str) -> str:
        with TemporaryDirectory(prefix="qmail-exporter-browser-") as profile:
            argv = [self._program, *_FLAGS, f"--user-data-dir={profile}", *arguments, url]
            done = subprocess.run(argv, check=True, capture_output=True, timeout=_PATIENCE)
        return done.stdout.decode("utf-8", "replace")
