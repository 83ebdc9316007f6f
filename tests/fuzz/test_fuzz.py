"""The targets of `make fuzz`, on what there is to begin with and on any bytes, so that none rots unnoticed."""

import os
import random
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]
FOUND = ROOT / "tests" / "data" / "fuzz"
"""What was found once, below the name of its target."""
SOME = 40
"""Seeds of one target that are tried."""


@cache
def seeds_of(name: str) -> list[bytes]:
    return sorted(set(TARGETS[name].seeds()), key=len)


@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name: str) -> None:
    """Every target takes what it begins with."""
    seeds = seeds_of(name)
    assert seeds
    for seed in random.sample(seeds, min(SOME, len(seeds))):
        TARGETS[name].run(seed)


@pytest.mark.parametrize(
    "path", sorted(FOUND.glob("*/*")), ids=lambda path: f"{path.parent.name}-{path.name}"
)
def test_what_was_found_once(path: Path) -> None:
    """What made a target fail does so no more."""
    TARGETS[path.parent.name].run(path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=25)
@given(data=st.data())
def test_any_bytes(name: str, data: st.DataObject) -> None:
    """Every target takes any bytes, alone and in the place of a part of what it begins with."""
    raw = data.draw(st.binary(max_size=200))
    seed = data.draw(st.sampled_from(seeds_of(name)[:SOME]))
    start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(seed))] * 2)))
    TARGETS[name].run(raw)
    TARGETS[name].run(seed[:start] + raw[:10] + seed[end:])


@pytest.mark.slow
@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed")
def test_atheris_runs(tmp_path: Path) -> None:
    """`python -m fuzz` prints a row for each target, with what atheris ran, and keeps a corpus; here some targets."""
    targets = ["line", "http2", "web-config"]
    done = run_fuzz(tmp_path, "--seconds=1", *targets)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    assert [row[0] for row in rows] == targets
    assert all(int(row[1].replace(",", "")) > 0 for row in rows), done.stdout
    assert all(list((tmp_path / "corpus" / target).iterdir()) for target in targets)


def test_a_target_can_be_run_on_one_file(tmp_path: Path) -> None:
    """What made a target fail is run again by itself, and shows how it fails; an unknown target is named."""
    found = tmp_path / "found"
    found.write_bytes(b"new msg 7")
    assert run_fuzz(tmp_path, f"--replay={found}", "line").returncode == 0
    refused = run_fuzz(tmp_path, "nothing")
    assert refused.returncode == 2
    assert "no such target: nothing" in refused.stderr


def run_fuzz(directory: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "fuzz", f"--dir={directory}", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
