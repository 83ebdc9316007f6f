"""What tests of several parts share: hypothesis's profile, and simulated qmails with what watches them (rig.py)."""

import logging
import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from rig import Rig

# The machines that run this differ too much for deadlines, and a queue on disk is no slow strategy.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("default")

_NOBODY = 65534


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """Undo what programs do to their process when a test calls one: umask, and where logs go."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    umask = os.umask(0o022)
    yield
    os.umask(umask)
    root.setLevel(level)
    root.handlers[:] = handlers


@pytest.fixture
def as_nobody() -> dict[str, Any]:
    """How subprocess runs somebody who may read only what everybody may; skips where that cannot be."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    try:
        pwd.getpwuid(_NOBODY)
    except KeyError:
        pytest.skip("there is no user nobody")
    who: dict[str, Any] = {"user": _NOBODY, "group": _NOBODY}
    importing = [sys.executable, "-c", "import qmail_exporter.daemon"]
    root = str(Path(__file__).parent.parent)
    try:
        subprocess.run(importing, env={"PYTHONPATH": root}, cwd="/", check=True, capture_output=True, **who)
    except (PermissionError, subprocess.CalledProcessError):
        pytest.skip("nobody may not read this Python or the package")
    return who


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A temporary directory on tmpfs where there is one with room, for queues of many files."""
    shm = "/dev/shm"  # noqa: S108 - whoever can write there is who runs the tests
    roomy = os.path.isdir(shm) and os.statvfs(shm).f_favail > 100_000
    with tempfile.TemporaryDirectory(dir=shm if roomy else None) as directory:
        yield Path(directory)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    """Make simulated qmails, started unless told not to; all ends with the test."""
    with ExitStack() as stack:
        made: list[Rig] = []

        def make(**given: Any) -> Rig:
            home = given.pop("home", tmp_path / f"qmail{len(made)}")
            made.append(stack.enter_context(Rig(home, **given)))
            return made[-1]

        yield make
