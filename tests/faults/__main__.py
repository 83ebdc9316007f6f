"""`python -m faults`: random faults for as long as is wished, as `make chaos` does."""

import argparse
import logging
import os
import random
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from faults import chaos


def main() -> int:
    """Run, print what is done, and return the exit status: 1 if something was not as it must be."""
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="for how long (%(default)s)")
    parser.add_argument(
        "--seed", type=int, default=random.randrange(10**6), help="of what is done in which order"
    )
    options = parser.parse_args()
    logging.disable()  # what a fresh scan in this process says is no news
    _say(f"seed {options.seed}")
    shm = "/dev/shm"  # noqa: S108 - a directory of its own is made there
    with TemporaryDirectory(dir=shm if os.access(shm, os.W_OK) else None) as directory:
        try:
            done = chaos.run(Path(directory) / "qmail", options.seed, options.seconds, _say)
        except AssertionError as error:
            _say(f"not as it must be: {error}")
            return 1
    _say("all as it must be, after " + ", ".join(f"{count} {name}" for name, count in sorted(done.items())))
    return 0


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - what it is for


if __name__ == "__main__":
    sys.exit(main())
