"""`routes suggest`: lines for control/smtproutes, where a relay would be let in and this host is not."""

# ruff: noqa: PLC0415 - imports where they are needed, as the package says

import re
from contextlib import suppress
from pathlib import Path
from time import sleep, time
from typing import TYPE_CHECKING

import click

from qmail_exporter import config
from qmail_exporter.commands import options
from qmail_exporter.commands.output import Output, decoded, reason_of
from qmail_exporter.flags.option import option
from qmail_exporter.flags.page import Command, Group
from qmail_exporter.flags.value import DURATION, Value

if TYPE_CHECKING:
    from qmail_exporter.commands.refusals import Refusals, Refused
    from qmail_exporter.formats.control import Route

_HOST = re.compile(
    r"(?:[a-z0-9_](?:[a-z0-9_-]{0,62})\.)*[a-z0-9_](?:[a-z0-9_-]{0,62})", re.ASCII | re.IGNORECASE
)
_PORT = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
_MAX_ROUTES = 1 << 22
_MAX_TEXT = 200


def _relay(text: str) -> str:
    host, colon, port = text.partition(":")
    literal = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not _HOST.fullmatch(literal) or (colon and (not _PORT.fullmatch(port) or int(port) > 65535)):
        raise ValueError(f"{text!r} is no HOST or HOST:PORT")
    return text


@click.group(cls=Group, short_help="Suggest routes around hosts that refuse this one.")
def routes() -> None:
    """Look at how mail goes out."""


@routes.command(
    cls=Command,
    short_help="Print smtproutes lines for destinations that refuse mail.",
    examples=[
        (
            "Who refused this host in the last two days",
            "qmail-exporter routes suggest --relay=relay.example.net:587 --since=2d",
        ),
    ],
)
@option("--relay", required=True, type=Value(_relay), metavar="HOST[:PORT]", help="The relay to suggest.")
@option(
    "--min-refusals",
    type=click.IntRange(min=1),
    metavar="N",
    default=5,
    help="Refusals that a destination must have made.",
)
@option(
    "--min-share",
    type=click.FloatRange(min=0, max=1),
    metavar="SHARE",
    default=0.9,
    help="Share of refusals in the attempts that it answered.",
)
@option(
    "--since",
    type=DURATION,
    metavar="DURATION",
    help="Look back as far as this; default: as far as the log goes.",
)
@options.with_json
@options.with_queues
@options.with_logs
def suggest(  # noqa: PLR0913 - one argument a flag
    *,
    relay: str,
    min_refusals: int,
    min_share: float,
    since: float | None,
    home: Path,
    queues: options.NamedPaths,
    logs: tuple[config.LogSpec, ...],
    as_json: bool,
) -> int:
    """Print smtproutes lines for destinations that refuse this host by policy.

    Such a destination has refused often enough, has accepted nothing, and has no route yet, while others accept mail.
    The log is read, and nothing is written: look at what the destinations say before you use a line.
    """
    output = Output("routes suggest", as_json=as_json)
    counted = _read(output, options.find_logs(home, options.find_queues(home, queues), logs), since)
    if counted is None:
        return output.end()
    present = _routes(output, options.control_directory(home))
    if present is None:
        return output.end()
    if not counted.accepted:
        output.note("no destination accepted anything: the trouble is not with some of them")
        return output.end()
    for refused in counted.found(at_least=min_refusals, share=min_share):
        _suggest(output, refused, relay, present)
    return output.end()


def _read(output: Output, logs: tuple[config.LogSpec, ...], since: float | None) -> "Refusals | None":
    """Count what the retained logs tell; None if one cannot be read."""
    from qmail_exporter.commands.refusals import Refusals
    from qmail_exporter.formats import FormatError
    from qmail_exporter.formats.log import parse
    from qmail_exporter.formats.prefix import Prefixes
    from qmail_exporter.sources.logs import open_log

    now = time()
    counted = Refusals(now - since if since is not None else 0.0)
    for log in logs:
        follower, prefixes = open_log(log.spec), Prefixes()
        try:
            for batch in follower.backfill():
                if not batch.lines:
                    sleep(0.01)  # journalctl has not answered yet
                for text, moment in prefixes.strip(batch.lines, batch.times, now):
                    with suppress(FormatError):
                        counted.observe(parse(text, moment))
            if not follower.present:
                output.failed("there is no such log", log=log.spec)
                return None
        except OSError as error:
            output.failed(reason_of(error), log=log.spec)
            return None
        finally:
            follower.close()
    if counted.full:
        output.note("the log has more domains than are counted; give --since to look at fewer")
    return counted


def _routes(output: Output, control: Path) -> "tuple[Route, ...] | None":
    from qmail_exporter.formats.control import parse_routes
    from qmail_exporter.sources.host import read_regular

    try:
        return parse_routes(read_regular(f"{control}/smtproutes", _MAX_ROUTES))
    except FileNotFoundError:
        return ()
    except OSError as error:
        output.failed(reason_of(error))
        return None


def _suggest(output: Output, refused: "Refused", relay: str, present: "tuple[Route, ...]") -> None:
    from qmail_exporter.formats.control import route_for

    # A name from the log may hold a colon or a hash; only what cannot be another line's meaning becomes one.
    if not _HOST.fullmatch(refused.domain) or route_for(present, refused.domain.encode("ascii")) is not None:
        return
    line = f"{refused.domain}:{relay}"
    output.result(
        line,
        domain=refused.domain,
        route=line,
        refusals=refused.refusals,
        share=round(refused.share, 3),
        said=decoded(refused.text[:_MAX_TEXT]),
    )
    if not output.as_json:
        said = decoded(refused.text[:_MAX_TEXT])
        output.note(
            f"{refused.domain}: {refused.refusals} refusals, {refused.share:.0%} of its answers: {said}"
        )
