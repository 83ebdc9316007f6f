import stat
from itertools import chain, combinations

import pytest

from qmail_exporter.examine import rules
from qmail_exporter.examine.style import BARE, style

AREAS = ("mess", "intd", "todo", "info", "local", "remote", "bounce")
# INTERNALS, section 2: + there, - not there, ? either.
STATES = ("-------", "+------", "++-----", "+?+???-", "+--+???")


def allowed(present: frozenset[str]) -> bool:
    """Whether INTERNALS knows a state of these files."""
    marks = ["+" if area in present else "-" for area in AREAS]
    return any(all(want in ("?", mark) for want, mark in zip(state, marks, strict=True)) for state in STATES)


EVERY = [
    frozenset(some) for some in chain.from_iterable(combinations(AREAS, n) for n in range(len(AREAS) + 1))
]


def test_violation_is_what_internals_does_not_know() -> None:
    """Of all 128 combinations of files, those are fine that are one of INTERNALS's five states."""
    assert {some for some in EVERY if rules.violation(some) is None} == {
        some for some in EVERY if allowed(some)
    }


def test_unfinished_is_s2_and_s3() -> None:
    """A message that is being received has mess, perhaps intd, and nothing else."""
    assert [some for some in EVERY if rules.unfinished(some)] == [
        frozenset({"mess"}),
        frozenset({"mess", "intd"}),
    ]


@pytest.mark.parametrize(
    ("area", "mode", "fault"),
    [
        ("mess", 0o750, None),
        ("mess", 0o700, None),
        ("info", 0o700, None),
        ("info", 0o750, "mode 0750 lets others in; it should be 0700"),
        ("mess", 0o755, "mode 0755 lets others in; it should be 0750"),
        ("mess", 0o650, "mode 0650 shuts its owner out"),
    ],
)
def test_directory_fault(area: str, mode: int, fault: str | None) -> None:
    """A directory may be open to whom hier.c opens it, and no further, and must be open to its owner."""
    assert rules.directory_fault(area, stat.S_IFDIR | mode) == fault


@pytest.mark.parametrize(
    ("mode", "fault"),
    [
        (stat.S_IFREG | 0o644, None),
        (stat.S_IFREG | 0o600, None),
        (stat.S_IFREG | 0o620, "writable by others than its owner"),
        (stat.S_IFREG | 0o044, "unreadable to its owner"),
        (stat.S_IFLNK | 0o777, "no regular file"),
        (stat.S_IFIFO | 0o600, "no regular file"),
    ],
)
def test_file_fault(mode: int, fault: str | None) -> None:
    """A message's file is a regular one that its owner reads and nobody else writes."""
    assert rules.file_fault(mode) == fault


@pytest.mark.parametrize(
    ("path", "mode", "group", "rights", "command"),
    [
        ("/var/log/mail.log", 0o640, "adm", "r", "usermod -aG adm prom"),
        ("/var/log/mail.log", 0o640, "root", "r", "setfacl -m u:prom:r /var/log/mail.log"),
        ("/var/log/mail.log", 0o600, "adm", "r", "setfacl -m u:prom:r /var/log/mail.log"),
        ("/var/log/a b", 0o700, "adm", "rx", "setfacl -m u:prom:rx '/var/log/a b'"),
        ("/var/log/q", 0o750, "qmail", "rx", "usermod -aG qmail prom"),
        ("/var/log/q", 0o740, "qmail", "rx", "setfacl -m u:prom:rx /var/log/q"),
        ("/var/log/q", 0o710, "qmail", "x", "usermod -aG qmail prom"),
        ("/var/log/q", 0o710, "qmail", "rx", "setfacl -m u:prom:rx /var/log/q"),
    ],
)
def test_fix_access(path: str, mode: int, group: str, rights: str, command: str) -> None:
    """Who may not read becomes a member of a group that may, or else is let in alone; hostile names are quoted."""
    assert rules.fix_access(path, mode, group, "prom", rights) == command


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (b"@400000006f00000012345678 status: exiting", "multilog or svlogd, with TAI64N"),
        (b"2026-11-22_10:45:41.66434 status: exiting", "svlogd, with dates"),
        (b"Nov 22 10:45:41 host qmail: 1795344341.664342 status: exiting", "splogger, through syslog"),
        (b"2026-11-22T10:45:41.66+00:00 h qmail: 1795344341.664342 end msg 1", "splogger, through syslog"),
        (b"Nov 22 10:45:41 host sshd[1]: hello", "another program, through syslog"),
        (b"1795344341.664342 status: exiting", "splogger"),
        (b"status: exiting", BARE),
    ],
)
def test_style(line: bytes, name: str) -> None:
    """What stands before a line tells what wrote it."""
    assert style(line) == name
