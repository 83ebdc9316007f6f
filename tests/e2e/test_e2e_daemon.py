"""`serve` as a process: start, signals, systemd, addresses."""

import os
import select
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rig import Rig
from serving import Exporter, until

MakeRig = Callable[..., Rig]


@pytest.fixture
def served(rig: MakeRig) -> Iterator[tuple[Rig, Exporter]]:
    """A small queue, and an exporter that has read it."""
    made = rig()
    made.send(b"defer@x.example")
    made.qmail.pump()
    with Exporter(f"--qmail.home={made.home}", f"--qmail.log={made.home}/log") as exporter:
        until(exporter.ready)
        yield made, exporter


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it_cleanly(served: tuple[Rig, Exporter], number: int) -> None:
    """SIGTERM and SIGINT end it with status 0, its last line says so, and no line is a traceback."""
    _, exporter = served
    assert exporter.stop(number) == 0
    until(lambda: exporter.said("msg=stopped"))
    assert not exporter.said("Traceback")


def test_hangup_does_not_end_it(served: tuple[Rig, Exporter]) -> None:
    """SIGHUP is answered by a line, and scrapes go on."""
    _, exporter = served
    exporter.process.send_signal(signal.SIGHUP)
    until(lambda: exporter.said("nothing to reload"))
    assert exporter.value("qmail_queue_messages") == 1


def test_systemd_hears_of_start_life_and_stop(rig: MakeRig, tmp_path: Path) -> None:
    """READY=1 comes first, WATCHDOG=1 at least twice in the time after which systemd would act, STOPPING=1 last."""
    address = str(tmp_path / "notify")
    environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "400000"}
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as listener:
        listener.bind(address)
        listener.settimeout(30)
        with Exporter(f"--qmail.home={rig().home}", environment=environment) as exporter:
            heard = [listener.recv(100) for _ in range(4)]
            assert heard[0] == b"READY=1" or heard[:2] == [b"WATCHDOG=1", b"READY=1"]
            assert heard.count(b"WATCHDOG=1") == 3
            assert exporter.stop() == 0
            while heard[-1] != b"STOPPING=1":
                heard.append(listener.recv(100))


def test_each_address_answers(rig: MakeRig) -> None:
    """Every address given is listened on, IPv6 among them where there is IPv6."""
    addresses = ["127.0.0.1:0", "127.0.0.2:0", *(["[::1]:0"] if _has_ipv6() else [])]
    with Exporter(f"--qmail.home={rig().home}", addresses=addresses) as exporter:
        assert len(exporter.urls) == len(addresses)
        for url in exporter.urls:
            assert exporter.get("/-/healthy", url=url) == (200, "Healthy.\n")


def test_idle_exporter_is_idle(served: tuple[Rig, Exporter], tmp_path: Path) -> None:
    """With nothing to do it uses less than a tenth of a CPU, on a host however busy; so it does while log and queue are not there."""
    _, exporter = served
    with Exporter(f"--qmail.home={tmp_path}/none", f"--qmail.log={tmp_path}/none/log") as lonely:
        assert lonely.urls
        for process in (exporter.process, lonely.process):
            before = _cpu(process.pid)
            with pytest.raises(TimeoutError):
                process_ended(process.pid, 3.0)
            assert _cpu(process.pid) - before < 0.3


def process_ended(pid: int, timeout: float) -> None:
    """Wait for a process's end, through a descriptor that becomes readable then."""
    fd = os.pidfd_open(pid)
    try:
        if not select.select([fd], [], [], timeout)[0]:
            raise TimeoutError
    finally:
        os.close(fd)


def _cpu(pid: int) -> float:
    """Return the CPU seconds that a process has used (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _has_ipv6() -> bool:
    try:
        with closing(socket.socket(socket.AF_INET6)) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
