"""`python -m fuzz`: all targets one after the other under atheris, and a table of what came of it.

Each has a corpus of its own, which grows from run to run. An input that fails is kept, and the exit status is 1.
"""

# ruff: noqa: T201 - the table is what it is for

import argparse
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]
_LIMITS = (
    "-max_len=65536",
    "-len_control=20",
    "-timeout=60",
    "-rss_limit_mb=1024",
    "-keep_seed=1",
    "-print_final_stats=1",
)
_STATISTIC = re.compile(r"^stat::(\w+): +(\d+)$", re.MULTILINE)
_ROW = "{:<12} {:>12} {:>13} {:>11} {:>8}"


def main() -> int:
    """Do what the command line says, and return the exit status."""
    options = _options()
    if options.replay is not None:
        TARGETS[options.target[0]].run(options.replay.read_bytes())
        return 0
    if find_spec("atheris") is None:
        print("fuzz: atheris is not installed; it has wheels for Linux on x86-64", file=sys.stderr)
        return 2
    print(_ROW.format("target", "runs", "executions/s", "new corpus", "crashes"), flush=True)
    failed = [name for name in options.target or TARGETS if _fuzz(name, options.seconds, options.dir)]
    if failed:
        print(f"\nWhat fails is in {options.dir / 'crashes'}; --replay FILE TARGET runs one again.")
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("target", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)} (all)")
    parser.add_argument("--seconds", type=int, default=15, help="of each target (%(default)s)")
    parser.add_argument(
        "--dir", type=Path, default=ROOT / ".fuzz", help="of corpus and crashes (%(default)s)"
    )
    parser.add_argument(
        "--replay", type=Path, metavar="FILE", help="run one target on this file alone, without atheris"
    )
    options = parser.parse_args()
    if unknown := set(options.target) - TARGETS.keys():
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    if options.replay is not None and len(options.target) != 1:
        parser.error("--replay takes one target")
    return options


def _fuzz(name: str, seconds: int, directory: Path) -> bool:
    """Fuzz one target, print its row, and return whether it failed."""
    crashes = directory.absolute() / "crashes" / name
    before = _files(crashes)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "fuzz.engine",
            name,
            str(directory.absolute()),
            f"-max_total_time={seconds}",
            *_LIMITS,
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
    )
    told = {key: int(value) for key, value in _STATISTIC.findall(done.stderr)}
    runs, rate, new = (
        told.get(key, 0) for key in ("number_of_executed_units", "average_exec_per_sec", "new_units_added")
    )
    found = _files(crashes) - before
    print(_ROW.format(name, f"{runs:,}", f"{rate:,}", f"{new:,}", len(found)), flush=True)
    if done.returncode:
        print(done.stderr[-4000:], file=sys.stderr, flush=True)
    return bool(found or done.returncode)


def _files(directory: Path) -> set[Path]:
    return set(directory.iterdir()) if directory.is_dir() else set()


if __name__ == "__main__":
    sys.exit(main())
