"""What starts qmail and the exporter: units of systemd, where that runs, and services that are supervised."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from qmail_exporter.examine.finding import Finding, ok, warn

UNITS = (
    "qmail.service",
    "qmail-send.service",
    "qmail-exporter.service",
    "qmail-exporter.socket",
    "qmail-exporter-tcpok.socket",
    "qmail-exporter-redeliver.socket",
    "qmail-exporter-expire-bounces.timer",
)
_OPTIONAL = UNITS[3:]
"""Of the exporter's units those that do something only where an admin wants it: a package installs them all."""
_SERVICES = ("service", "var/service", "etc/service", "service/qmail")
_SUPERVISED = ("qmail-send", "qmail-exporter")
_TIMEOUT = 10.0


class Unit(NamedTuple):
    """What systemd says of a unit.

    Attributes:
        name: with its suffix.
        enabled: the state of its file: `enabled`, `disabled`, `static` …; may be empty.
        active: `active`, `inactive`, `failed` …
        detail: more exactly: `running`, `listening`, `dead` …
    """

    name: str
    enabled: str
    active: str
    detail: str


def show() -> str:
    """Return what systemctl shows of the units; nothing if it fails."""
    argv = ["systemctl", "show", "--property=Id,LoadState,UnitFileState,ActiveState,SubState", "--", *UNITS]
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def parse(shown: str) -> list[Unit]:
    """Return the units that are installed, of the output of `systemctl show`: blocks of NAME=VALUE lines."""
    found = []
    for block in shown.split("\n\n"):
        fields = dict(line.partition("=")[::2] for line in block.splitlines())
        if fields.get("Id") in UNITS and fields.get("LoadState") != "not-found":
            states = (fields.get(name, "") for name in ("UnitFileState", "ActiveState", "SubState"))
            found.append(Unit(fields["Id"], *states))
    return found


def judged(unit: Unit) -> Finding:
    """Say how a unit is, and what to do where it does not run or will not at the next boot."""
    text = f"{unit.name}: {unit.enabled + ', ' if unit.enabled else ''}{unit.active} ({unit.detail})"
    if unit.active == "failed":
        return warn("unit", text, f"systemctl status {unit.name}")
    if unit.name in _OPTIONAL and (unit.enabled, unit.active) == ("disabled", "inactive"):
        return ok("unit", text)
    if unit.enabled == "disabled" or unit.active != "active":
        return warn("unit", text, f"systemctl enable --now {unit.name}")
    return ok("unit", text)


def supervised(root: Path) -> list[str]:
    """Return the directories of services, under daemontools, runit or the like, that are qmail's or the exporter's."""
    found = [root / place / name for place in _SERVICES for name in _SUPERVISED]
    there = {os.path.realpath(path): str(path) for path in reversed(found) if (path / "run").exists()}
    return list(there.values())[::-1]


def examine(root: Path = Path("/"), ask: Callable[[], str] = show) -> list[Finding]:
    """Say what there is; nothing where there is neither systemd nor a supervised service."""
    found = [judged(unit) for unit in parse(ask())] if (root / "run/systemd/system").is_dir() else []
    return found + [ok("service", path) for path in supervised(root)]
