import asyncio
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

from qmail_exporter.config import HookConfig
from qmail_exporter.hook.runs import socket_unit
from queuedir import QueueDir
from serving import PATIENCE, until

ROOT = Path(__file__).parents[1]
SUPERVISE = ROOT / "deploy/supervise"
SCANNERS = {"daemontools": ["svscan"], "runit": ["runsvdir"], "s6": ["s6-svscan"]}
"""What runs all services in a directory."""
DOWN = {"daemontools": ["svc", "-dx"], "runit": ["sv", "exit"], "s6": ["s6-svc", "-dx"]}
"""What ends a service, and what supervises it."""


def copy(kind: str, place: Path) -> Path:
    """Lay a directory of a service as its README says, for root and any port; return it."""
    service = place / "qmail-exporter"
    shutil.copytree(SUPERVISE / kind, service)
    for script in (service / "run", service / "log/run"):
        script.write_text(re.sub(r"\bqmail[sl]\b", "root", script.read_text()))
    (service / "log/main").mkdir()
    (service / "env/QMAIL_EXPORTER_WEB_LISTEN_ADDRESS").write_text("127.0.0.1:0\n")
    return service


@contextmanager
def supervised(kind: str, service: Path, variables: dict[str, str]) -> Iterator[None]:
    """Run the services of a directory, and end them."""
    with subprocess.Popen([*SCANNERS[kind], str(service.parent)], env=variables) as scanner:
        try:
            yield
        finally:
            scanner.send_signal(signal.SIGTERM)
            scanner.wait(PATIENCE)
            for each in (service, service / "log"):
                subprocess.run([*DOWN[kind], str(each)], env=variables, check=False, capture_output=True)


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


def environment(place: Path) -> dict[str, str]:
    """Return variables with which `qmail-exporter` is this source's, whose qmail is below `place`."""
    program = place / "bin/qmail-exporter"
    program.parent.mkdir()
    (place / "config.yml").write_text(f"qmail: {{home: {place}/home}}\n")
    call = f'{sys.executable} -m qmail_exporter "$@" --config.file={place}/config.yml'
    program.write_text(f"#!/bin/sh\nexec {call}\n")
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


@pytest.mark.slow
@pytest.mark.parametrize("kind", SCANNERS)
def test_supervised(kind: str, tmp_path: Path) -> None:
    """Under each kind the exporter answers, writes its log, is there again when killed, and ends when it is told."""
    if os.geteuid() != 0 or not shutil.which(SCANNERS[kind][0]):
        pytest.skip(f"takes root and {SCANNERS[kind][0]}")
    (tmp_path / "services").mkdir()
    service = copy(kind, tmp_path / "services")
    with supervised(kind, service, environment(tmp_path)):
        [port] = until(ports(service))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/healthy", timeout=PATIENCE) as answer:
            assert answer.status == 200
        [running] = processes(f"--config.file={tmp_path}/")
        os.kill(running, signal.SIGKILL)
        until(lambda: len(ports(service)()) == 2)
    until(lambda: processes(str(tmp_path)) == [])


@pytest.mark.slow
def test_tcpok_by_a_socket(tmp_path: Path) -> None:
    """Without systemd, too, there is a socket where the hook looks, and who connects has tcpto emptied and gets the exit status."""
    if os.geteuid() != 0 or not shutil.which("s6-ipcserver"):
        pytest.skip("takes root and s6-ipcserver")
    tcpto = QueueDir(tmp_path / "home/queue").root / "lock/tcpto"
    tcpto.write_bytes(b"\1" * 1024)
    text = (SUPERVISE / "tcpok/run").read_text()
    assert f" {HookConfig().sockets}/tcpok.sock " in text
    script = tmp_path / "run"
    script.write_text(
        re.sub(r"\bqmailr?\b(?!-)", "root", text.replace(HookConfig().sockets, f"{tmp_path}/run.d"))
    )
    with subprocess.Popen(["sh", str(script)], env=environment(tmp_path)) as service:
        try:
            path = tmp_path / "run.d/tcpok.sock"
            until(lambda: listening(path))
            outcome = asyncio.run(asyncio.wait_for(socket_unit(str(path))(), PATIENCE))
            assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o660, 0o750)
        finally:
            service.terminate()
    assert outcome.ok, outcome
    assert tcpto.read_bytes() == bytes(1024)


def listening(path: Path) -> bool:
    """Tell whether somebody takes connections on a Unix socket: proc(5) has its flag, __SO_ACCEPTCON."""
    lines = Path("/proc/net/unix").read_text().splitlines()
    return any(line.endswith(str(path)) and " 00010000 " in line for line in lines)


@pytest.mark.parametrize("kind", SCANNERS)
def test_run_scripts(kind: str) -> None:
    """Each is a program, which becomes the exporter as the user who may read the queue, and its log as qmaill."""
    for name, user in (("run", "qmails"), ("log/run", "qmaill")):
        script = SUPERVISE / kind / name
        assert script.stat().st_mode & 0o111
        *_, last = script.read_text().splitlines()
        assert last.startswith("exec ")
        assert f" {user} " in last
