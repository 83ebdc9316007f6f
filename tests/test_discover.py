import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from qmail_exporter import discover
from qmail_exporter.config import LogSpec, QueueSpec


def make(root: Path, *paths: str) -> None:
    """Make directories, where a path ends in a slash, and empty files."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        if path.endswith("/"):
            (root / path).mkdir(parents=True, exist_ok=True)
        else:
            (root / path).touch()


def test_one_queue(tmp_path: Path) -> None:
    """A home's `queue` is the queue `default`, even if nothing in it can be seen."""
    make(tmp_path, "queue/")
    assert discover.find_queues(tmp_path) == (QueueSpec("default", tmp_path / "queue"),)


def test_no_queue(tmp_path: Path) -> None:
    """Without a home, or a queue in it, there are none."""
    make(tmp_path, "home/queue1")
    assert discover.find_queues(tmp_path / "nothing") == ()
    assert discover.find_queues(tmp_path / "home") == ()
    assert discover.find_queues(tmp_path / "home/queue1") == ()


@pytest.mark.parametrize("below", ["", "queue/"])
def test_queues_of_indimail(tmp_path: Path, below: str) -> None:
    """The numbered queues of indimail are found in the home or in its `queue`, in the order of their numbers."""
    names = ["queue1", "queue2", "queue10"]
    make(tmp_path, *(f"{below}{name}/mess/" for name in names), f"{below}queue3/", f"{below}queuex/mess/")
    expected = tuple(QueueSpec(name, tmp_path / below / name) for name in names)
    assert discover.find_queues(tmp_path) == expected


@pytest.fixture
def find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Return a function that finds logs below tmp_path, and gives their places without it."""
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")

    def find() -> list[str]:
        home = tmp_path / "var/qmail"
        logs = discover.find_logs(home, [QueueSpec("default", home / "queue")], root=tmp_path)
        assert {log.queue for log in logs} <= {None}
        return [log.spec.removeprefix(str(tmp_path)) for log in logs]

    return find


Find = Callable[[], list[str]]


@pytest.mark.parametrize(
    "place",
    [
        "/var/qmail/supervise/qmail-send/log/main",
        "/var/qmail/log",
        "/var/log/qmail/send",
        "/var/log/qmail/qmail-send",
        "/var/log/qmail",
        "/var/log/qmail-send",
        "/service/qmail-send/log/main",
        "/var/service/qmail-send/log/main",
        "/etc/service/qmail-send/log/main",
    ],
)
def test_log_directory(tmp_path: Path, find: Find, place: str) -> None:
    """A usual directory is a log if it has a `current`, and comes before journal and syslog."""
    make(tmp_path, f"{place[1:]}/", "var/log/maillog", "etc/systemd/system/qmail-send.service")
    assert find() == ["journal:qmail-send.service"]
    make(tmp_path, f"{place[1:]}/current")
    assert find() == [place]


def test_send_before_the_directory_above(tmp_path: Path, find: Find) -> None:
    """The directory of qmail-send alone is preferred to one above it that is a log as well."""
    make(tmp_path, "var/log/qmail/current", "var/log/qmail/send/current")
    assert find() == ["/var/log/qmail/send"]


def test_logs_of_indimail(tmp_path: Path, find: Find) -> None:
    """Each of indimail's log directories is one."""
    make(tmp_path, *(f"var/log/svc/{name}/current" for name in ("deliver.366", "deliver.25", "smtpd.25")))
    assert find() == ["/var/log/svc/deliver.25", "/var/log/svc/deliver.366"]


@pytest.mark.parametrize("directory", ["etc/systemd/system", "usr/lib/systemd/system", "run/systemd/system"])
@pytest.mark.parametrize("unit", ["qmail-send.service", "qmail.service"])
def test_journal(
    tmp_path: Path, find: Find, monkeypatch: pytest.MonkeyPatch, directory: str, unit: str
) -> None:
    """A unit of qmail means its journal, if there is a journalctl; else the shared log."""
    make(tmp_path, f"{directory}/{unit}", "var/log/mail.log")
    assert find() == [f"journal:{unit}"]
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert find() == ["/var/log/mail.log"]


def test_shared_log(tmp_path: Path, find: Find) -> None:
    """Syslog's file for mail is the last place; without it no log is found."""
    assert find() == []
    make(tmp_path, "var/log/mail.log")
    assert find() == ["/var/log/mail.log"]
    make(tmp_path, "var/log/maillog")
    assert find() == ["/var/log/maillog"]


def test_forbidden_directory(tmp_path: Path, find: Find, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that may not be looked into is named if nothing else is found, and only then."""
    make(tmp_path, "var/log/qmail/send/current", "var/log/qmail/qmail-send/")
    stat, forbidden = os.stat, str(tmp_path / "var/log/qmail/send/current")

    def guarded(path: str | Path) -> os.stat_result:
        if str(path) == forbidden:
            raise PermissionError(path)
        return stat(path)

    monkeypatch.setattr(discover, "os", SimpleNamespace(stat=guarded))
    assert find() == ["/var/log/qmail/send"]
    make(tmp_path, "var/log/maillog")
    assert find() == ["/var/log/maillog"]


def test_owner_of_the_log(tmp_path: Path) -> None:
    """The log found is that of the home's queues: of all if there are no others, else of `queue`, if it is watched."""
    home, elsewhere = tmp_path / "home", QueueSpec("other", tmp_path / "other/queue")
    make(tmp_path, "var/log/qmail/current")
    place = str(tmp_path / "var/log/qmail")
    several = [QueueSpec(name, home / "queue" / name) for name in ("queue1", "queue2")]
    assert discover.find_logs(home, several, root=tmp_path) == (LogSpec(None, place),)
    assert discover.find_logs(home, [], root=tmp_path) == (LogSpec(None, place),)
    main = QueueSpec("main", home / "queue")
    assert discover.find_logs(home, [elsewhere, main], root=tmp_path) == (LogSpec("main", place),)
    assert discover.find_logs(home, [elsewhere], root=tmp_path) == ()
