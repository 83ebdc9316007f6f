import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from qmail_exporter import systemd


@pytest.fixture(autouse=True)
def no_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "WATCHDOG_PID",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_FDNAMES",
    ):
        monkeypatch.delenv(name, raising=False)


def test_notify_without_systemd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is sent, and nothing fails, without a socket, with a dead one, or with a kind that is not known."""
    assert systemd.notify("READY=1") is False
    for value in ("", str(tmp_path / "gone"), "vsock:2:1234", "relative"):
        monkeypatch.setenv("NOTIFY_SOCKET", value)
        assert systemd.notify("READY=1") is False


def test_notify(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A state is one datagram to the socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        assert systemd.notify("READY=1\nSTATUS=12 messages, \udcff") is True
        assert receiver.recv(100) == b"READY=1\nSTATUS=12 messages, \\udcff"


def test_notify_abstract(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that begins with @ is an abstract socket."""
    name = f"qmail-exporter-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("\0" + name)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        assert systemd.notify("STOPPING=1") is True
        assert receiver.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize(
    ("usec", "pid", "interval"),
    [
        ("30000000", None, 15.0),
        pytest.param(
            "30000000", str(os.getpid()), 15.0, id="this process"
        ),  # whose number would differ from worker to worker
        ("30000000", "1", None),
        ("0", None, None),
        ("", None, None),
        ("soon", None, None),
        (None, None, None),
    ],
)
def test_watchdog(
    monkeypatch: pytest.MonkeyPatch, usec: str | None, pid: str | None, interval: float | None
) -> None:
    """The interval is half of systemd's, if it is this process that systemd watches."""
    for name, value in (("WATCHDOG_USEC", usec), ("WATCHDOG_PID", pid)):
        if value is not None:
            monkeypatch.setenv(name, value)
    assert systemd.watchdog_interval() == interval


def test_no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sockets for another process are not taken, and the variables are gone for the processes to come."""
    assert systemd.listen_fds() == []
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", "1")
    monkeypatch.setenv("LISTEN_FDNAMES", "web")
    assert systemd.listen_fds() == []
    assert not any(name.startswith("LISTEN_") for name in os.environ)


# What systemd does at the start of a service: descriptors from 3 on, and the variables, in the process itself.
START = """
import os, socket, sys
kind = getattr(socket, sys.argv[1])
family = getattr(socket, sys.argv[2])
passed = socket.socket(family, kind)
passed.bind(("127.0.0.1", 0) if family == socket.AF_INET else sys.argv[3])
if kind == socket.SOCK_STREAM:
    passed.listen()
os.dup2(passed.fileno(), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
from qmail_exporter import systemd
try:
    [sock] = systemd.listen_fds()
except OSError as error:
    print(error)
else:
    print(sock.getsockname() == passed.getsockname(), sock.get_inheritable(), sock.getblocking())
"""


@pytest.mark.parametrize(
    ("kind", "family", "said"),
    [
        ("SOCK_STREAM", "AF_INET", "True False False"),
        ("SOCK_STREAM", "AF_UNIX", "True False False"),
        ("SOCK_DGRAM", "AF_INET", "descriptor 3 from systemd is no stream socket (ListenStream=)"),
    ],
)
def test_sockets(tmp_path: Path, kind: str, family: str, said: str) -> None:
    """A passed stream socket of any family is taken, another is refused by its number."""
    argv = [sys.executable, "-c", START, kind, family, str(tmp_path / "socket")]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == said


def test_descriptor_that_is_no_socket() -> None:
    """A passed descriptor that is a file, as by a wrong unit, is refused by its number."""
    with open(os.devnull, "rb") as file:
        number = file.fileno()
        with pytest.raises(OSError, match=f"^descriptor {number} from systemd is no socket$"):
            systemd._adopt(number)
