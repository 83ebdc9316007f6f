"""What the hook of a queue is connected to: its tcpto, smtproutes, and the actions."""

import errno
import os
from collections.abc import Callable, Mapping

from qmail_exporter import actions, logfmt
from qmail_exporter.config import HookConfig
from qmail_exporter.formats import FormatError
from qmail_exporter.formats.control import parse_routes
from qmail_exporter.formats.tcpto import Table
from qmail_exporter.hook import REDELIVER, Hook
from qmail_exporter.hook.probe import relay_ports
from qmail_exporter.hook.runs import Action, command, first_allowed, here, socket_unit
from qmail_exporter.sources.host import read_regular, read_tcpto

logger = logfmt.get_logger(__name__)

_MOST = 1 << 22


def make_hook(  # noqa: PLR0913 - where everything is
    config: HookConfig, name: str, queue: str, *, home: str, control: str, ready: Callable[[], bool]
) -> Hook:
    """Return the hook of a queue: its name, its directory, qmail's home, the directory of control files.

    `ready` tells whether the queue's log has been read back.
    """
    return Hook(
        name,
        config,
        actions_of(config, name, queue, home),
        table=lambda: _table(queue),
        ports=Ports(f"{control}/smtproutes"),
        ready=ready,
    )


def actions_of(config: HookConfig, name: str, queue: str, home: str) -> dict[str, Action]:
    """Return the actions that are wanted for a queue: its name, its directory and qmail's home.

    What this user may not do, the units behind `tcpok.sock` and `redeliver.sock` do, or `tcpok-NAME.sock` and so on where the
    queue is not `default`.
    """
    suffix = ".sock" if name == "default" else f"-{name}.sock"

    def tcpok() -> str:
        # Asked first, as qmail's own program would not say why it failed.
        if not os.access(f"{queue}/lock/tcpto", os.W_OK):
            raise PermissionError(errno.EACCES, "may not write tcpto", f"{queue}/lock/tcpto")
        hosts = actions.tcpok(queue, home, timeout=config.timeout / 2).hosts
        return f"{hosts} hosts were in the table"

    def redeliver() -> str:
        return f"signalled process {actions.redeliver(queue)}"

    wanted: dict[str, Action] = {}
    if config.tcpok:
        wanted["tcpok"] = first_allowed(here(tcpok), socket_unit(f"{config.sockets}/tcpok{suffix}"))
    if config.command:
        environment = {"HOOK_QUEUE": name, "HOOK_QUEUE_DIRECTORY": queue}
        wanted["command"] = command(config.command, environment)
    if config.redeliver:
        wanted[REDELIVER] = first_allowed(here(redeliver), socket_unit(f"{config.sockets}/redeliver{suffix}"))
    return wanted


class Ports:
    """The ports that `smtproutes` gives to hosts; calling it returns `probe.relay_ports` of the file as it is now.

    What cannot be read gives no ports: qmail-remote could not read it either.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._signature: tuple[int, int, int] | None = None
        self._ports = relay_ports(())

    def __call__(self) -> Mapping[str, tuple[int, ...]]:
        """Read the file again if it has changed."""
        try:
            found = os.stat(self._path)
            signature = found.st_ino, found.st_size, found.st_mtime_ns
            if signature != self._signature:
                self._ports = relay_ports(parse_routes(read_regular(self._path, _MOST)))
        except OSError:
            signature, self._ports = None, relay_ports(())
        self._signature = signature
        return self._ports


def _table(queue: str) -> Table | None:
    try:
        return read_tcpto(queue)
    except (OSError, FormatError) as error:
        logger.debug("cannot read tcpto", error=error)
        return None
