"""A stand-in for the journal and for journalctl(1), which a test may end as it likes."""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_JOURNALCTL = """
import json, os, sys, time
journal = os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), "journal")
options = dict(argument.partition("=")[::2] for argument in sys.argv[1:])
at = int(options["--cursor"][1:]) if "--cursor" in options else 0
if options.get("--lines") == "0":
    at = open(journal).read().count("\\n")
parent = os.getppid()
while os.getppid() == parent:
    lines = open(journal).read().split("\\n")[:-1]  # less one that is being written
    for at in range(at, len(lines)):
        stamp, text = json.loads(lines[at])
        entry = {"__CURSOR": "c%d" % at, "__REALTIME_TIMESTAMP": str(stamp), "MESSAGE": text}
        print(json.dumps(entry), flush=True)
    at = max(at, len(lines))
    if "--follow" not in options:
        break
    time.sleep(0.005)
"""


class Journal:
    """A log that a simulated qmail writes to, and that the stand-in for journalctl in the same directory shows.

    Attributes:
        clock: for the times of its entries.
    """

    def __init__(self, directory: Path) -> None:
        self.clock: Callable[[], float] = time.time
        self._journal = directory / "journal"
        program = directory / "journalctl"
        program.write_text(f"#!{sys.executable} -S\n{_JOURNALCTL}")
        program.chmod(0o755)
        self._journal.touch()

    def __call__(self, line: bytes) -> None:
        """Write a line."""
        entry = [int(self.clock() * 1e6), line.decode()]
        with self._journal.open("a") as file:
            file.write(json.dumps(entry) + "\n")
