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
_TRY = """
import sys
import qmail_exporter.daemon
try:
    open(sys.argv[1])
except PermissionError:
    sys.exit(0)
sys.exit("that file can be read")
"""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs an installed qmail where mail for its users would bounce: such a test would wait for it in vain."""
    home = os.environ.get("QMAIL_HOME")
    if home and item.get_closest_marker("qmail"):
        alias = Path(home, "alias")
        try:
            where = pwd.getpwnam("alias").pw_dir
        except KeyError:
            where = "unknown"
        if Path(where) != alias:
            pytest.skip(f"the home of the user alias is {where} and must be {alias}")


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
def refused() -> list[str]:
    """The start of a command line for one who may read only what modes let him; skips where that cannot be.

    It is the user nobody. Where Python or the package lies in a directory that is closed to nobody, it is root without any
    capability, who owns the files of a test and whom modes bind as they do everybody: let tests give what is not to be
    read the mode 0.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    ways = (
        [f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"],
        ["--bounding-set=-all", "--inh-caps=-all"],
    )
    root = str(Path(__file__).parent.parent)
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        hidden = Path(directory) / "hidden"
        hidden.touch(mode=0)
        hidden.chmod(0)
        trying = [sys.executable, "-c", _TRY, str(hidden)]
        for way in ways:
            start = ["setpriv", *way]
            try:
                done = subprocess.run(
                    [*start, *trying], env={"PYTHONPATH": root}, cwd="/", check=False, capture_output=True
                )
            except OSError as error:
                pytest.skip(f"setpriv cannot be run: {error}")
            if done.returncode == 0:
                return start
    pytest.skip(f"nobody can be kept from reading here: {done.stderr.decode(errors='replace')}")


def _roomy(found: os.statvfs_result) -> bool:
    return found.f_favail > 100_000 and found.f_bavail * found.f_frsize > 1 << 30


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A temporary directory on tmpfs where there is one with room, for queues of many files."""
    shm = "/dev/shm"  # noqa: S108 - whoever can write there is who runs the tests
    roomy = os.path.isdir(shm) and _roomy(os.statvfs(shm))
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
