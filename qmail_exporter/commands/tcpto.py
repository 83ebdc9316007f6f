"""`tcpto` and `tcpok`: the hosts that qmail leaves alone because connections to them timed out, and an end to that."""

# ruff: noqa: PLC0415 - imports where they are needed, as the package says

from datetime import datetime, timezone
from pathlib import Path
from time import time
from typing import TYPE_CHECKING

import click

from qmail_exporter.commands import options
from qmail_exporter.commands.output import Output, reason_of
from qmail_exporter.flags.page import Command
from qmail_exporter.formats import FormatError

if TYPE_CHECKING:
    from qmail_exporter.config import QueueSpec
    from qmail_exporter.formats.tcpto import Host

_UNSIGNED = 1 << 64


@click.command(
    cls=Command,
    short_help="List the hosts that qmail passes over.",
    examples=[
        ("Hosts that qmail passes over, one JSON object a line", "qmail-exporter tcpto --json"),
    ],
)
@options.with_json
@options.with_queues
def tcpto(home: Path, queues: options.NamedPaths, as_json: bool) -> int:
    """List the hosts to which connections timed out, as qmail-tcpto does.

    After them come those that qmail passes over now, and when it will have tried all of them again at the latest.
    """
    found = options.find_queues(home, queues)
    output = Output("tcpto", as_json=as_json)
    for queue in found:
        if len(found) > 1 and not as_json:
            output.result(f"queue {queue.name}:")
        _list(output, queue, time())
    return output.end()


@click.command(
    cls=Command,
    short_help="Forget the hosts that qmail passes over.",
    examples=[
        ("See how many hosts that would be", "qmail-exporter tcpok --dry-run"),
        ("Forget them, and try everything at once", "qmail-exporter tcpok && qmail-exporter redeliver"),
    ],
)
@options.with_dry_run
@options.with_json
@options.with_exit_status
@options.with_queues
def tcpok(
    home: Path,
    queues: options.NamedPaths,
    dry_run: bool,
    as_json: bool,
    exit_status: bool,
) -> int:
    """Forget the hosts to which connections timed out, so that qmail tries them again.

    qmail's own qmail-tcpok does it where it can. Messages still wait for their next attempt: see `redeliver`.
    """
    output = Output("tcpok", as_json=as_json, exit_status=exit_status)
    for queue in options.find_queues(home, queues):
        _clear(output, queue, home, dry_run=dry_run)
    return output.end()


def _list(output: Output, queue: "QueueSpec", now: float) -> None:
    from qmail_exporter.formats.tcpto import is_dead, skipped_until
    from qmail_exporter.sources.host import read_tcpto

    try:
        hosts = read_tcpto(str(queue.path)).hosts
    except (OSError, FormatError) as error:
        output.failed(reason_of(error), queue=queue.name)
        return
    until = {host: skipped_until(host)[1] for host in hosts if is_dead(host) and now < skipped_until(host)[1]}
    for host in hosts:
        output.result(
            _as_qmail(host, now),
            queue=queue.name,
            host=host.address,
            timeouts=host.timeouts,
            last_timeout=host.last,
            skipped=host in until,
            skipped_until=until.get(host),
        )
    for host, moment in until.items() if not output.as_json else ():
        output.result(f"{host.address} is skipped until {_utc(moment)} at the latest")


def _as_qmail(host: "Host", now: float) -> str:
    """Return the line that qmail-tcpto.c prints; a time-out in the future wraps around there, too."""
    ago = (int(now) - host.last) % _UNSIGNED
    return f"{host.address} timed out {ago} seconds ago; # recent timeouts: {host.timeouts}"


def _utc(moment: float) -> str:
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _clear(output: Output, queue: "QueueSpec", home: Path, *, dry_run: bool) -> None:
    from qmail_exporter import actions
    from qmail_exporter.commands import audit

    try:
        if dry_run:
            hosts, how = actions.timed_out(str(queue.path)), ""
        else:
            hosts, own_program = actions.tcpok(str(queue.path), str(home))
            how = "qmail-tcpok" if own_program else "write"
            audit.write("tcpok", queue.name, hosts=hosts, by=how)
    except (OSError, actions.ActionError) as error:
        output.failed(reason_of(error), queue=queue.name)
        return
    text = f"{queue.name}: {hosts} host{'' if hosts == 1 else 's'} "
    text += "would be forgotten" if dry_run else f"forgotten (by {how})"
    output.result(text, queue=queue.name, hosts=hosts, dry_run=dry_run, by=how or None)
