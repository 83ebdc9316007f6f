"""What qmail-send warns of and raises alerts about (the log lines of qmail-send.c and qsutil.c), as a few kinds."""

import re

_ALERTS = (
    ("cannot_start", re.compile(rb"cannot start")),
    ("lost_connection", re.compile(rb"lost (?:\S+ )?connection")),
    ("bounce_unwritable", re.compile(rb"unable to append to bounce")),
    ("out_of_memory", re.compile(rb"out of memory")),
    ("controls", re.compile(rb"control|home directory|unable to reread|switch back to queue")),
    ("queue_unreadable", re.compile(rb"opendir|read directory|queue directory")),
)
_WARNINGS = (
    ("marking", re.compile(rb"trouble marking")),
    ("bounce_injection", re.compile(rb"trouble injecting bounce|unable to start qmail-queue")),
    ("cleanup", re.compile(rb"unable to clean up")),
    ("report_range", re.compile(rb"delivery report out of range")),
    ("unknown_record", re.compile(rb"unknown record type")),
    ("retried_too_soon", re.compile(rb"unable to utime")),
    (
        "file",
        re.compile(
            rb"unable to (?:stat|open|unlink|create|read)|trouble (?:opening|reading|writing|fsyncing)"
        ),
    ),
)
KINDS = {
    "alert": (*(kind for kind, _ in _ALERTS), "other"),
    "warning": (*(kind for kind, _ in _WARNINGS), "other"),
}
"""Every kind that `kind_of` gives, by severity."""


def kind_of(severity: str, text: bytes) -> str:
    """Return the kind of an ``alert`` or a ``warning``: one of `KINDS[severity]`."""
    table = _ALERTS if severity == "alert" else _WARNINGS
    return next((kind for kind, pattern in table if pattern.search(text)), "other")
