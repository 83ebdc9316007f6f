"""`queue`: the messages in the queue, what became of them so far, and what will."""

# ruff: noqa: PLC0415 - imports where they are needed, as the package says

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any

import click

from qmail_exporter.commands import options
from qmail_exporter.commands.output import NOTHING, Output, reason_of
from qmail_exporter.flags.option import option, together
from qmail_exporter.flags.page import Command
from qmail_exporter.flags.value import DURATION, Value

if TYPE_CHECKING:
    from qmail_exporter.commands.listed import Listing
    from qmail_exporter.config import QueueSpec
    from qmail_exporter.listing.select import Row, Wanted

_SORTS = ("age", "next", "attempts", "expiry", "size", "domain", "sender", "id")
_TOP = 20
_CHUNK = 1024  # rows
_CLOSED_PIPE = 141  # what a shell shows of a program that SIGPIPE ended
_QREAD_FAILED = 111
_EMPTY = "the queue is empty"
_NONE_FITS = "none of the messages fits, of {} that were read"


def _id(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text[:20]) < 1 << 63):
        raise ValueError(f"{text!r} is no message number such as qmail-qread shows")
    return int(text)


def _criterion(name: str) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        from qmail_exporter.listing import select

        return getattr(select, name)(text)

    return Value(parse)


_which = partial(option, heading="Which messages")
_FILTERS = together(
    _which(
        "--domain",
        "domains",
        multiple=True,
        metavar="DOMAIN",
        type=_criterion("domain_criterion"),
        help="With a recipient at this domain that waits; .DOMAIN is everything below it. May be repeated.",
    ),
    _which(
        "--sender",
        "senders",
        multiple=True,
        metavar="ADDRESS",
        type=_criterion("sender_criterion"),
        help="From this envelope sender, from everybody at @DOMAIN, or from <>: bounces. May be repeated.",
    ),
    _which(
        "--channel",
        "channels",
        multiple=True,
        metavar="CHANNEL",
        help="With a recipient in this channel that waits: local or remote. May be repeated.",
    ),
    _which("--deferred", is_flag=True, help="With a recipient that was deferred at the last attempt."),
    _which("--bounces", is_flag=True, help="Bounces and double bounces."),
    _which(
        "--older-than",
        type=DURATION,
        metavar="DURATION",
        help="Older than that, in qmail's eyes: 2d, 12h.",
    ),
    _which(
        "--id",
        "ids",
        multiple=True,
        type=Value(_id),
        metavar="NUMBER",
        help="The message of this number, without reading the others. May be repeated.",
    ),
)


@click.command(
    cls=Command,
    short_help="List messages: age, next attempt, last reason, expiry.",
    examples=[
        ("Where mail waits, and why", "qmail-exporter queue --top domains"),
        (
            "The ten oldest messages for one destination",
            "qmail-exporter queue --domain=example.com --sort=age --limit=10",
        ),
        (
            "The senders of what was deferred, for a script",
            "qmail-exporter queue --deferred --json | jq -r .sender",
        ),
        ("As qmail-qread", "qmail-exporter queue --qread"),
    ],
)
@_FILTERS
@option(
    "--sort",
    type=click.Choice(_SORTS),
    help="The oldest, next, most attempted, first to expire or largest first; else as the queue has them."
    " Sorting takes memory for all of them, unless --limit is given.",
)
@option("--reverse", is_flag=True, help="With --sort: the other way round.")
@option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="The first N only.  [default with --top: 20]"
)
@option(
    "--top",
    type=click.Choice(["domains", "senders", "reasons"]),
    help="Instead of messages, count them: which domains, senders or reasons have most.",
)
@option("--qread", is_flag=True, help="Exactly the output of qmail-qread.")
@option("--no-log", is_flag=True, help="Do not read the log: attempts and reasons stay unknown.")
@options.with_json
@options.with_queues
@options.with_logs
def queue(home: Path, queues: options.NamedPaths, *, as_json: bool, qread: bool, **asked: Any) -> int:
    """List the messages in the queue, with what qmail-qread does not show.

    How old each is, when qmail tries it next and how often it has, why the last attempt failed, and when qmail
    gives up. What cannot be known is shown as ?, what is not there as -. In a terminal it is a table: "due" says
    that the next attempt only waits for its turn, or for qmail-send to run; "passed", that it will be the last;
    an asterisk behind the state, that recipients have failed for good. Else it is tab-separated, with all columns,
    whole reports, and durations in seconds, less than 0 for what is past.
    """
    _check(as_json=as_json, qread=qread, **asked)
    found = options.find_queues(home, queues)
    try:
        code = _qread(found) if qread else _list(home, found, as_json=as_json, **asked)
        sys.stdout.flush()
    except BrokenPipeError:
        # Who read this has seen enough. What is still buffered must not be tried again at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _CLOSED_PIPE
    return code


def _check(
    *, as_json: bool, qread: bool, sort: str | None, top: str | None, reverse: bool, **others: Any
) -> None:
    if qread and (
        as_json or sort or top or any(others[name] for name in others if name not in ("logs", "no_log"))
    ):
        raise click.UsageError("--qread goes with no other choice: qmail-qread has none.")
    if top and sort:
        raise click.UsageError("--top has an order of its own.")
    if reverse and not sort:
        raise click.UsageError("--reverse needs --sort.")


# --- as qmail-qread


def _qread(found: "tuple[QueueSpec, ...]") -> int:
    """Print what qmail-qread would; returns its exit status.  What is wrong stands on stdout, as there."""
    from qmail_exporter.commands.progress import Progress
    from qmail_exporter.examine.reader import advice
    from qmail_exporter.listing.show import qmail_error
    from qmail_exporter.sources.envelopes import Envelopes

    output, progress = Output("queue", as_json=False), Progress("queue")
    try:
        for spec in found:
            with closing(Envelopes(str(spec.path))) as envelopes:
                for listed, done in envelopes.preprocessed():
                    progress.clear()
                    sys.stdout.buffer.write(_as_qread(listed))
                    progress.show(f"reading {done:.0%}")
    except BrokenPipeError:
        raise
    except OSError as error:
        name = os.fsencode(error.filename or "queue")
        sys.stdout.buffer.write(b"fatal: unable to opendir %b: %b\n" % (name, qmail_error(error)))
        if isinstance(error, PermissionError):
            output.note(f"{reason_of(error)}{advice(error, str(spec.path))}")
        return _QREAD_FAILED
    finally:
        progress.clear()
    return 0


def _as_qread(listed: Any) -> bytes:
    from qmail_exporter.listing import show
    from qmail_exporter.sources.envelopes import CHANNELS, Preprocessed

    if not isinstance(listed, Preprocessed):
        return show.qread_trouble(*listed)
    fields = listed._asdict()
    return show.qread(**fields | {"channels": zip(CHANNELS, listed.channels, strict=True)})


# --- with what the log tells


def _list(home: Path, found: "tuple[QueueSpec, ...]", *, as_json: bool, **asked: Any) -> int:
    from qmail_exporter.commands.listed import Listing
    from qmail_exporter.listing.select import Wanted

    output = Output("queue", as_json=as_json)
    wanted = Wanted(**{name: asked[name] for name in Wanted.__dataclass_fields__})
    listing = Listing(output, home, found)
    if not asked["no_log"]:
        listing.read_logs(asked["logs"])
    if asked["deferred"] and not listing.has_log:
        raise click.ClickException("--deferred needs the log: what qmail-send deferred is told nowhere else")
    rows = _identified(listing, wanted, asked["ids"]) if asked["ids"] else listing.rows(wanted)
    if asked["top"]:
        _count(rows, asked["top"], asked["limit"] or _TOP, as_json=as_json)
    else:
        show = _shown(as_json=as_json, several=len(found) > 1)
        if asked["sort"]:
            texts = _sorted(rows, show, asked["sort"], asked["limit"], backwards=asked["reverse"])
        else:
            texts = ([show(row, now) for row in some] for some in rows for now in [time()])
        _print(listing, _first(texts, asked["limit"]), several=len(found) > 1, as_json=as_json)
    listing.end()
    return output.end()


def _identified(listing: "Listing", wanted: "Wanted", ids: tuple[int, ...]) -> "Iterator[list[Row]]":
    for msg in ids:
        rows = list(listing.named(msg, wanted))
        if not rows and not listing.seen:
            listing.output.failed("no such message", NOTHING, id=msg)
        yield rows


def _shown(*, as_json: bool, several: bool) -> "Callable[[Row, float], str]":
    """How a message is shown at a moment, in Unix seconds: as JSON, or as cells with a tab between them."""
    from qmail_exporter.listing import show

    if as_json:
        return lambda row, now: show.as_json(*row, now)
    exact = not sys.stdout.isatty()
    if several:
        return lambda row, now: "\t".join(
            [show.visible(os.fsencode(row[0].queue)), *show.cells(*row, now, exact=exact)]
        )
    return lambda row, now: "\t".join(show.cells(*row, now, exact=exact))


def _sorted(
    rows: "Iterator[list[Row]]",
    show: "Callable[[Row, float], str]",
    name: str,
    limit: int | None,
    *,
    backwards: bool,
) -> Iterator[list[str]]:
    from qmail_exporter.listing.select import Placed, in_order, placed

    every: list[Placed] = []
    for some in rows:
        now = time()
        every += [placed(row, name, show(row, now)) for row in some]
        if limit is not None and len(every) > 4 * limit + _CHUNK:
            every = in_order(every, name, backwards=backwards)[:limit]
    every = in_order(every, name, backwards=backwards)
    for start in range(0, len(every), _CHUNK):
        yield [message.text for message in every[start : start + _CHUNK]]


def _first(texts: Iterator[list[str]], limit: int | None) -> Iterator[list[str]]:
    left = sys.maxsize if limit is None else limit
    for some in texts:
        yield some[:left]
        left -= len(some)
        if left <= 0:
            break


def _print(listing: "Listing", texts: Iterator[list[str]], *, several: bool, as_json: bool) -> None:
    from qmail_exporter.commands.lines import lines
    from qmail_exporter.listing import show

    table = None if as_json else lines(("QUEUE", *show.COLUMNS) if several else show.COLUMNS)
    shown = 0
    for some in texts:
        shown += len(some)
        listing.progress.clear()
        if table is None:
            sys.stdout.write("".join([text + "\n" for text in some]))
        elif some:
            table.write([text.split("\t") for text in some])
    if not shown and sys.stdout.isatty() and not listing.output.code:
        listing.progress.clear()
        listing.output.note(_NONE_FITS.format(listing.read) if listing.read else _EMPTY)


def _count(rows: "Iterator[list[Row]]", what: str, limit: int, *, as_json: bool) -> None:
    from qmail_exporter.commands.lines import lines
    from qmail_exporter.listing import show
    from qmail_exporter.listing.select import Top

    top = Top(what)
    for some in rows:
        for row in some:
            top.add(*row)
    most = top.most(limit)
    if as_json:
        sys.stdout.write("".join(show.top_as_json(what, *group) + "\n" for group in most))
        return
    exact = not sys.stdout.isatty()
    lines(show.TOP_COLUMNS[what]).write([show.top_cells(what, *group, time(), exact=exact) for group in most])
