"""`bounce`, `rejuvenate` and `expire-bounces`: messages get another age, and qmail-send draws its conclusions.

qmail-send gives up on what fails at an attempt that begins later than `queuelifetime` after the message's birth, which is
the mtime of its `info` file. So an old mtime makes the next failing attempt the last, and a new one gives the message its
whole time again. Both count from the next attempt on.
"""

# ruff: noqa: PLC0415 - imports where they are needed, as the package says

import re
from collections.abc import Callable
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any, TypeVar

import click

from qmail_exporter.commands import options
from qmail_exporter.commands.output import DONE, Output

if TYPE_CHECKING:
    from qmail_exporter.commands.selection import Criteria

_Command = TypeVar("_Command", bound=Callable[..., Any])
_NUMBER = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)


def _id(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{text!r} is no message number such as qmail-qread shows")
    return int(text)


def _selectors(command: _Command) -> _Command:
    decorators = (
        click.argument("ids", nargs=-1, type=options.parsed(_id), metavar="[ID]..."),
        click.option(
            "--domain",
            "domains",
            multiple=True,
            metavar="DOMAIN",
            help="Messages whose recipients that wait are all at this domain; .DOMAIN is everything below it."
            " May be repeated.",
        ),
        click.option(
            "--any-recipient",
            is_flag=True,
            help="With --domain: one such recipient is enough. The age is the whole message's, and so will the"
            " others bounce, too, if their next attempt fails.",
        ),
        click.option(
            "--sender",
            "senders",
            multiple=True,
            metavar="ADDRESS",
            help="Messages from this envelope sender, from everybody at @DOMAIN, or from <>: bounces. May be repeated.",
        ),
        click.option(
            "--older-than",
            type=options.DURATION,
            metavar="DURATION",
            help="Messages that are older, in qmail's eyes: 2d, 12h.",
        ),
        click.option("--now", is_flag=True, help="Then have qmail-send try every message of the queue now."),
        options.with_queues,
        options.with_dry_run,
        options.with_json,
    )
    for decorate in reversed(decorators):
        command = decorate(command)
    return command


@click.command()
@_selectors
def bounce(
    *, home: Path, queues: options.NamedPaths, now: bool, dry_run: bool, as_json: bool, **chosen: Any
) -> int:
    """Make the next attempt of some messages the last: what fails then goes back to its sender.

    Name messages by number, or say what they are; what is said in several ways must all hold.
    """
    output = Output("bounce", as_json=as_json)
    ids, criteria = _chosen(**chosen)
    return _run(output, home, queues, ids, criteria, dry_run=dry_run, now=now, old=True)


@click.command()
@_selectors
def rejuvenate(
    *, home: Path, queues: options.NamedPaths, now: bool, dry_run: bool, as_json: bool, **chosen: Any
) -> int:
    """Give some messages their whole time in the queue again.

    Name messages by number, or say what they are; what is said in several ways must all hold.
    """
    output = Output("rejuvenate", as_json=as_json)
    ids, criteria = _chosen(**chosen)
    return _run(output, home, queues, ids, criteria, dry_run=dry_run, now=now, old=False)


@click.command("expire-bounces")
@click.option(
    "--older-than",
    type=options.DURATION,
    metavar="DURATION",
    default="2d",
    help="Bounces that are older, in qmail's eyes.",
)
@click.option("--now", is_flag=True, help="Then have qmail-send try every message of the queue now.")
@options.with_queues
@options.with_dry_run
@options.with_json
def expire_bounces(  # noqa: PLR0913 - one argument a flag
    *, older_than: float, now: bool, home: Path, queues: options.NamedPaths, dry_run: bool, as_json: bool
) -> int:
    """Make the next attempt of old bounces and double bounces the last.

    A bounce that fails becomes a double bounce, to the postmaster; a double bounce that fails is thrown away.
    """
    from qmail_exporter.commands.selection import Criteria

    output = Output("expire-bounces", as_json=as_json)
    criteria = Criteria(older_than=older_than, bounces=True)
    return _run(output, home, queues, (), criteria, dry_run=dry_run, now=now, old=True)


def _chosen(
    ids: tuple[int, ...],
    domains: tuple[str, ...],
    any_recipient: bool,
    senders: tuple[str, ...],
    older_than: float | None,
) -> tuple[tuple[int, ...], "Criteria"]:
    from qmail_exporter.commands.selection import Criteria, sender_criterion

    said = bool(domains or senders or older_than is not None)
    if bool(ids) == said:
        raise click.UsageError("Name messages by number, or say what they are; not both.")
    if any_recipient and not domains:
        raise click.UsageError("--any-recipient needs --domain.")
    return ids, Criteria(
        tuple(name.lower().rstrip(".") for name in domains),
        any_recipient,
        tuple(map(sender_criterion, senders)),
        older_than,
    )


def _run(  # noqa: PLR0913 - what the three commands have in common
    output: Output,
    home: Path,
    queues: options.NamedPaths,
    ids: tuple[int, ...],
    criteria: "Criteria",
    *,
    dry_run: bool,
    now: bool,
    old: bool,
) -> int:
    from qmail_exporter.commands.aging import Aging
    from qmail_exporter.commands.redeliver import alarm

    found = options.find_queues(home, queues)
    aging = Aging(output, options.control_directory(home), time(), old=old, dry_run=dry_run)
    if ids:
        aging.named(found, ids)
    else:
        count = sum([aging.matching(queue, criteria) for queue in found])
        # A timer that finds nothing has nothing to say.
        if not count and not criteria.bounces and output.code == DONE:
            output.note("no message is such")
    for queue in found:
        if now and queue.name in aging.changed:
            alarm(output, queue.name, str(queue.path), dry_run=dry_run)
    return output.end()
