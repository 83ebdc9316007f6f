"""`redeliver`: every message is due now."""

# ruff: noqa: PLC0415 - imports where they are needed, as the package says

from pathlib import Path

import click

from qmail_exporter.commands import options
from qmail_exporter.commands.output import NOTHING, Output, reason_of
from qmail_exporter.flags.page import Command


@click.command(
    cls=Command,
    short_help="Have qmail-send try every message now.",
    examples=[
        ("Which process would get the signal", "qmail-exporter redeliver --dry-run"),
        ("Only one of several queues", "qmail-exporter redeliver --qmail.queue=/var/indimail/queue/queue1"),
    ],
)
@options.with_dry_run
@options.with_json
@options.with_exit_status
@options.with_queues
def redeliver(
    home: Path,
    queues: options.NamedPaths,
    dry_run: bool,
    as_json: bool,
    exit_status: bool,
) -> int:
    """Have qmail-send try every message now (SIGALRM).

    The signal goes to the qmail-send that holds the queue's lock, and to no other.
    """
    output = Output("redeliver", as_json=as_json, exit_status=exit_status)
    for queue in options.find_queues(home, queues):
        alarm(output, queue.name, str(queue.path), dry_run=dry_run)
    return output.end()


def alarm(output: Output, name: str, path: str, *, dry_run: bool) -> None:
    """Signal one queue's qmail-send, and print and log that."""
    from qmail_exporter import actions
    from qmail_exporter.actions import owner
    from qmail_exporter.commands import audit

    try:
        pid = actions.redeliver(path, dry_run=dry_run)
    except owner.NotRunningError as error:
        output.failed(str(error), NOTHING, queue=name)
        return
    except (OSError, owner.UncertainError) as error:
        output.failed(reason_of(error), queue=name)
        return
    if not dry_run:
        audit.write("redeliver", name, pid=pid)
    done = "would be told" if dry_run else "was told"
    text = f"{name}: qmail-send, process {pid}, {done} to try every message now"
    output.result(text, queue=name, pid=pid, dry_run=dry_run)
