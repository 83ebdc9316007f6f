"""The host's facts: read when asked for, and unknown when they cannot be."""

from pathlib import Path

import pytest

from qmail_exporter.collect import HostWatch


def test_nothing_there_is_unknown_and_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where there is no queue and no control directory, each source is down, counted each time, and logged once."""
    host = HostWatch(str(tmp_path / "queue"), str(tmp_path / "control"), alone=True)
    for _ in range(3):
        host.read()
    assert host.up() == {"tcpto": False, "control": False, "filesystem": False, "processes": True}
    assert host.errors == {("tcpto", "read"): 3, ("control", "read"): 3, ("filesystem", "read"): 3}
    assert len([record for record in caplog.records if "cannot read" in record.getMessage()]) == 3


def test_wrong_table_is_a_format_error(tmp_path: Path) -> None:
    """A tcpto of the wrong size is no table: unknown, and counted as such, until it is one."""
    lock = tmp_path / "queue" / "lock"
    lock.mkdir(parents=True)
    (lock / "tcpto").write_bytes(b"x" * 100)
    host = HostWatch(str(tmp_path / "queue"), str(tmp_path), alone=False)
    host.read()
    assert host.tcpto is None
    assert host.errors["tcpto", "format"] == 1
    (lock / "tcpto").write_bytes(bytes(1024))
    host.read()
    assert host.tcpto is not None
    assert host.up()["tcpto"]
