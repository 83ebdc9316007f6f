"""`bounce`, `rejuvenate` and `expire-bounces`: messages get another age, and qmail-send draws its conclusions.

qmail-send gives up on what fails at an attempt that begins later than `queuelifetime` after the message's birth, which is
the mtime of its `info` file. So an old mtime makes the next failing attempt the last, and a new one gives the message its
whole time again. Both count from the next attempt on.
"""

# ruff: noqa: PLC0415 - imports where they are needed, as the package says

import re
from functools import partial
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any

import click

from qmail_exporter.commands import options
from qmail_exporter.commands.output import DONE, Output
from qmail_exporter.flags.option import option, together
from qmail_exporter.flags.page import Command
from qmail_exporter.flags.value import DURATION, Value

if TYPE_CHECKING:
    from qmail_exporter.commands.selection import Criteria

_NUMBER = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)


def _id(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{text!r} is no message number such as qmail-qread shows")
    return int(text)


_which = partial(option, heading="Which messages")
_SELECTORS = together(
    click.argument("ids", nargs=-1, type=Value(_id), metavar="[ID]..."),
    _which(
        "--domain",
        "domains",
        multiple=True,
        metavar="DOMAIN",
        help="Messages whose recipients that wait are all at this domain; .DOMAIN is everything below it."
        " May be repeated.",
    ),
    _which(
        "--any-recipient",
        is_flag=True,
        help="With --domain: one such recipient is enough. The age is the whole message's, and so will the"
        " others bounce, too, if their next attempt fails.",
    ),
    _which(
        "--sender",
        "senders",
        multiple=True,
        metavar="ADDRESS",
        help="Messages from this envelope sender, from everybody at @DOMAIN, or from <>: bounces. May be repeated.",
    ),
    _which(
        "--older-than",
        type=DURATION,
        metavar="DURATION",
        help="Messages that are older, in qmail's eyes: 2d, 12h.",
    ),
    options.with_now,
    options.with_dry_run,
    options.with_json,
    options.with_queues,
)


@click.command(
    cls=Command,
    short_help="Let messages bounce at the next failing attempt.",
    examples=[
        (
            "What would go back to its sender",
            "qmail-exporter bounce --domain=example.com --older-than=1d --dry-run",
        ),
        ("Two messages, tried for the last time now", "qmail-exporter bounce --now 1467090 1467094"),
    ],
)
@_SELECTORS
def bounce(
    *, home: Path, queues: options.NamedPaths, now: bool, dry_run: bool, as_json: bool, **chosen: Any
) -> int:
    """Make the next attempt of some messages the last: what fails then goes back to its sender.

    Name messages by number, or say what they are; what is said in several ways must all hold.
    """
    output = Output("bounce", as_json=as_json)
    ids, criteria = _chosen(**chosen)
    return _run(output, home, queues, ids, criteria, dry_run=dry_run, now=now, old=True)


@click.command(
    cls=Command,
    short_help="Give messages their whole time in the queue again.",
    examples=[
        (
            "After a long outage of one destination",
            "qmail-exporter rejuvenate --domain=.example.com --any-recipient",
        ),
    ],
)
@_SELECTORS
def rejuvenate(
    *, home: Path, queues: options.NamedPaths, now: bool, dry_run: bool, as_json: bool, **chosen: Any
) -> int:
    """Give some messages their whole time in the queue again.

    Name messages by number, or say what they are; what is said in several ways must all hold.
    """
    output = Output("rejuvenate", as_json=as_json)
    ids, criteria = _chosen(**chosen)
    return _run(output, home, queues, ids, criteria, dry_run=dry_run, now=now, old=False)


@click.command(
    "expire-bounces",
    cls=Command,
    short_help="Let old bounces go at their next attempt.",
    examples=[("Bounces that have waited for a day", "qmail-exporter expire-bounces --older-than=1d")],
)
@option(
    "--older-than",
    type=DURATION,
    metavar="DURATION",
    default="2d",
    help="Bounces that are older, in qmail's eyes.",
)
@options.with_now
@options.with_dry_run
@options.with_json
@options.with_queues
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
