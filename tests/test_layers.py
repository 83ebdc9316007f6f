"""Imports point one way: from those who watch, show and act to what is known of qmail, and never back."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import qmail_exporter

ROOT = Path(qmail_exporter.__path__[0])
MAY_IMPORT = {
    "formats": set(),
    "queue": {"formats"},
    "outage": {"formats"},
    "sources": {"formats", "logfmt"},
    "listing": {"formats", "queue"},
    "collect": {"double_bounce", "errors", "formats", "logfmt", "queue", "sources"},
    "readings": {"collect", "double_bounce", "formats", "hook", "outage", "queue", "sources"},
    "status": {"collect", "double_bounce", "errors", "formats", "hook", "outage", "queue", "readings"},
    "web": {"config", "errors", "logfmt"},
    "actions": {"formats", "sources"},
    "record": {"formats"},
    "errors": set(),
}
"""What a part of the package may import of the others; what is not here ties parts together."""
PURE = ("formats", "queue", "outage")
IMPURE = {
    "asyncio", "ctypes", "datetime", "io", "logging", "os", "pathlib", "random", "selectors", "shutil", "signal", "socket",
    "subprocess", "sys", "tempfile", "threading", "time",
}  # fmt: skip
"""A clock, a file, a socket, a process, a thread or a log."""
ALLOWED = {("formats", "datetime")}
"""`datetime` reads dates in the prefixes of lines; a test of those holds that it asks for no time."""


def imports(part: str) -> Iterator[str]:
    """Give what the modules of a part of the package import, in full."""
    place = ROOT / part
    for path in place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path} imports by place"
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            elif isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_imports_point_one_way(part: str) -> None:
    """A part of the package imports only those parts that it is meant to build on."""
    names = [name.split(".") for name in imports(part) if name.startswith("qmail_exporter.")]
    parts = {name[1] for name in names if not name[1].startswith("__")}
    assert parts - {part} <= MAY_IMPORT[part]


@pytest.mark.parametrize("part", PURE)
def test_what_is_pure_asks_the_world_nothing(part: str) -> None:
    """Formats, model and outage detection import nothing that reads a clock, a file or a socket, or writes a log."""
    tops = {name.split(".")[0] for name in imports(part)}
    assert tops
    assert tops & IMPURE <= {module for owner, module in ALLOWED if owner == part}


@pytest.mark.parametrize("module", ["formats/prefix.py"])
def test_dates_are_read_and_not_asked_for(module: str) -> None:
    """Where `datetime` is imported it is not asked what time it is."""
    assert not {"now", "utcnow", "today"} & {
        node.attr
        for node in ast.walk(ast.parse((ROOT / module).read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
    }
