import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from serving import PATIENCE, until

ROOT = Path(__file__).parents[1]
SUPERVISE = ROOT / "deploy/supervise"
SCANNERS = {"daemontools": ["svscan"], "runit": ["runsvdir"], "s6": ["s6-svscan"]}
"""What runs all services in a directory."""
DOWN = {"daemontools": ["svc", "-dx"], "runit": ["sv", "exit"], "s6": ["s6-svc", "-dx"]}
"""What ends a service, and what supervises it."""


def copy(kind: str, place: Path, home: Path) -> Path:
    """Lay a directory of a service as its README says, for root and any port; return it."""
    service = place / "qmail-exporter"
    shutil.copytree(SUPERVISE / kind, service)
    for script in (service / "run", service / "log/run"):
        script.write_text(re.sub(r"\bqmail[sl]\b", "root", script.read_text()))
    (service / "log/main").mkdir()
    (service / "env/QMAIL_EXPORTER_WEB_LISTEN_ADDRESS").write_text("127.0.0.1:0\n")
    (service / "env/QMAIL_EXPORTER_QMAIL_HOME").write_text(f"{home}\n")
    return service


@contextmanager
def supervised(kind: str, service: Path, environment: dict[str, str]) -> Iterator[None]:
    """Run the services of a directory, and end them."""
    with subprocess.Popen([*SCANNERS[kind], str(service.parent)], env=environment) as scanner:
        try:
            yield
        finally:
            scanner.send_signal(signal.SIGTERM)
            scanner.wait(PATIENCE)
            for each in (service, service / "log"):
                subprocess.run([*DOWN[kind], str(each)], env=environment, check=False, capture_output=True)


def ports(service: Path) -> Callable[[], list[str]]:
    """Return what gives the ports that the exporter said so far that it listens on."""
    log = service / "log/main/current"
    return lambda: re.findall(r"address=127\.0\.0\.1:([0-9]+)", log.read_text() if log.exists() else "")


def processes(program: str) -> list[int]:
    """Give the processes whose command line has that in it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            if program.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", SCANNERS)
def test_supervised(kind: str, tmp_path: Path) -> None:
    """Under each kind the exporter answers, writes its log, is there again when killed, and ends when it is told."""
    if os.geteuid() != 0 or not shutil.which(SCANNERS[kind][0]):
        pytest.skip(f"takes root and {SCANNERS[kind][0]}")
    marker = f"{tmp_path}/home"
    program = tmp_path / "bin/qmail-exporter"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\nexec {sys.executable} -m qmail_exporter "$@" --config.file={tmp_path}/config.yml\n'
    )
    program.chmod(0o755)
    (tmp_path / "config.yml").write_text("domains: {max: 7}\n")
    (tmp_path / "services").mkdir()
    service = copy(kind, tmp_path / "services", Path(marker))
    path = f"{program.parent}:{os.environ['PATH']}"
    with supervised(kind, service, {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}):
        [port] = until(ports(service))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/healthy", timeout=PATIENCE) as answer:
            assert answer.status == 200
        [running] = processes(f"--config.file={tmp_path}/")
        os.kill(running, signal.SIGKILL)
        until(lambda: len(ports(service)()) == 2)
    until(lambda: processes(str(tmp_path)) == [])


@pytest.mark.parametrize("kind", SCANNERS)
def test_run_scripts(kind: str) -> None:
    """Each is a program, which becomes the exporter as the user who may read the queue, and its log as qmaill."""
    for name, user in (("run", "qmails"), ("log/run", "qmaill")):
        script = SUPERVISE / kind / name
        assert script.stat().st_mode & 0o111
        *_, last = script.read_text().splitlines()
        assert last.startswith("exec ")
        assert f" {user} " in last
