import os
from pathlib import Path

import pytest

from qmail_exporter.collect import double
from qmail_exporter.collect.double import DoubleBounceWatch
from qmail_exporter.sources.logs import open_log

LINE = b"2027-01-15 08:00:00 double bounce: from <s@mail.test> to <%b>: No such user.\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "double-bounces"


@pytest.fixture
def watch(log: Path) -> DoubleBounceWatch:
    return DoubleBounceWatch(open_log(str(log)), seats=10)


def append(log: Path, *addresses: bytes) -> None:
    with log.open("ab") as file:
        for address in addresses:
            file.write(LINE % address)


def test_lines_are_counted_as_they_come(log: Path, watch: DoubleBounceWatch) -> None:
    """A log that is not there is not up; when it comes, each line of it is counted once."""
    watch.read()
    assert not watch.up
    assert not watch.read_once
    append(log, b"a@x.example", b"b@x.example")
    watch.read()
    watch.read()
    assert watch.up
    assert watch.counts.total == 2
    append(log, b"b@x.example")
    watch.read()
    assert (watch.counts.total, watch.counts.duplicates) == (3, 1)


def test_what_was_there_before_is_not_counted(log: Path, watch: DoubleBounceWatch) -> None:
    """Counters begin at the exporter's start, not at the log's."""
    append(log, b"a@x.example")
    watch.read()
    append(log, b"b@y.example")
    watch.read()
    assert watch.counts.total == 1
    assert list(watch.counts.domains.seated) == ["y.example"]


def test_unreadable_log_is_told_once_and_tried_again(
    log: Path, watch: DoubleBounceWatch, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What is in the log's place and is no log makes one warning; when it is gone, lines count."""
    monkeypatch.setattr(double, "PATIENCE", 0.0)
    os.mkfifo(log)
    for _ in range(3):
        watch.read()
    assert not watch.up
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1
    log.unlink()
    watch.read()
    append(log, b"a@x.example")
    watch.read()
    assert watch.up
    assert watch.counts.total == 1


def test_patience(log: Path, watch: DoubleBounceWatch) -> None:
    """After an error the log is left alone for a while."""
    os.mkfifo(log)
    watch.read()
    log.unlink()
    append(log, b"a@x.example")
    watch.read()
    assert watch.error is not None
    watch.close()
