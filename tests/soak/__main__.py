"""`python -m soak`: play days of mail and mishaps, and tell whether the exporter told the truth throughout."""

import argparse
import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from soak.play import Plan, run


def main() -> int:
    """Play; returns the exit status, 1 if something is not as it must be."""
    options = _options()
    plan = Plan(options.seed, options.days, options.messages, options.mishaps, options.rests)
    began = time.monotonic()
    with TemporaryDirectory(prefix="qmail-exporter-soak-", dir=options.dir) as place:
        wrong = run(plan, Path(place), _tell)
    _tell(f"seed {plan.seed}: {time.monotonic() - began:.0f} s")
    return 1 if wrong else 0


def _tell(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - what it is for


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of all that is left to chance (%(default)s)")
    parser.add_argument("--days", type=float, default=3.0, help="simulated days (%(default)s)")
    parser.add_argument("--messages", type=int, default=3000, help="a day (%(default)s)")
    parser.add_argument("--mishaps", type=int, default=60, help="a day (%(default)s)")
    parser.add_argument("--rests", type=int, default=20, help="a day at which all is judged (%(default)s)")
    parser.add_argument("--dir", type=Path, default=_place(), help="where, best on a tmpfs (%(default)s)")
    options = parser.parse_args()
    if options.days <= 0 or min(options.messages, options.mishaps, options.rests) < 0 or not options.messages:
        parser.error("there must be days and messages, and no fewer than none of the others")
    return options


def _place() -> Path:
    shm = "/dev/shm"  # noqa: S108 - whoever can write there is who runs this
    return Path(shm if os.access(shm, os.W_OK) else gettempdir())


if __name__ == "__main__":
    sys.exit(main())
