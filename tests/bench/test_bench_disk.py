"""A queue is made on a disk where there is one, and the page says which, or why there is none."""

import tempfile
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from bench.disk import choose, file_system


def _mounted(monkeypatch: pytest.MonkeyPatch, *mounts: tuple[str, str]) -> None:
    found = [SimpleNamespace(mountpoint=place, fstype=kind) for place, kind in mounts]
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: found)


def test_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file system is that of the nearest mount above, and of two in one place the later."""
    _mounted(monkeypatch, ("/", "overlay"), ("/here", "xfs"), ("/here", "ext4"), ("/her", "tmpfs"))
    assert [file_system(Path(path)) for path in ("/here/it", "/here", "/herewith", "/her")] == [
        "ext4",
        "ext4",
        "overlay",
        "tmpfs",
    ]


def test_usual(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where no directory is named it is the one for temporary files, unless that is on no disk."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    _mounted(monkeypatch, ("/", "ext4"))
    assert choose(None, 0) == (tmp_path, f"disk: ext4, {tmp_path}")
    _mounted(monkeypatch, ("/", "ext4"), (str(tmp_path), "tmpfs"))
    directory, words = choose(None, 0)
    assert directory is None
    assert words.startswith(f"no queue on a disk: {tmp_path} is on tmpfs")


def test_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A directory that is named is taken whatever it is on, and `none` is none."""
    _mounted(monkeypatch, ("/", "overlay"))
    assert choose(str(tmp_path), 0) == (tmp_path, f"disk: overlay, {tmp_path}")
    assert choose("none", 0).directory is None
    with pytest.raises(ValueError, match="is no directory"):
        choose(str(tmp_path / "absent"), 0)


def test_too_small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where there is too little room there is no disk; if just that was asked for it is a mistake."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    _mounted(monkeypatch, ("/", "ext4"))
    directory, words = choose(None, 10**12)
    assert directory is None
    assert "inodes are needed" in words
    with pytest.raises(ValueError, match="inodes are needed"):
        choose(str(tmp_path), 10**12)
