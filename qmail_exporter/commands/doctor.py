"""`doctor`: what is there, what `serve` would not see, and what is wrong with the queue."""

# ruff: noqa: PLC0415 - imports where they are needed, as the package says

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qmail_exporter import config, discover
from qmail_exporter.commands import options
from qmail_exporter.flags.option import option
from qmail_exporter.flags.page import Command

if TYPE_CHECKING:
    from qmail_exporter.config import LogSpec, QueueSpec
    from qmail_exporter.examine.consistency import Survey
    from qmail_exporter.examine.finding import Finding

_COLOURS = {"ok": "green", "warn": "yellow", "bad": "red"}
_ROOM = 12  # of the subject; longer ones push the text on


@click.command(
    cls=Command,
    short_help="Find out what is there, not readable, or wrong.",
    examples=[
        ("What the exporter's unit would see, asked by root", "qmail-exporter doctor --user qmails"),
        ("What is wrong, and nothing else", "qmail-exporter doctor | grep -v '^ok'"),
    ],
)
@option(
    "--user",
    "users",
    multiple=True,
    metavar="NAME",
    help="Check what this user can read, not the one who runs this; only root can ask. May be repeated.",
)
@option("--no-queue-check", is_flag=True, help="Do not look at every file of the queue.")
@options.with_json
@options.with_queues
@options.with_logs
def doctor(  # noqa: PLR0913, PLR0917 - one argument a flag
    home: Path,
    queues: options.NamedPaths,
    logs: "tuple[LogSpec, ...]",
    users: tuple[str, ...],
    no_queue_check: bool,
    as_json: bool,
) -> int:
    """Find out what is there, what `serve` could not read, and what is wrong with the queue.

    One line a finding: ok, warn, or bad with the command that puts it right where there is one. Nothing is changed.
    The exit status is 0 if `serve`, run by the same user, would see everything, else 1.
    """
    found = _queues(home, queues)
    try:
        config.check_logs(logs, found)
    except ValueError as error:
        raise click.UsageError(f"{error}.") from error
    blind = False
    for finding in _examine(home, found, logs, users, every_file=not no_queue_check):
        blind = blind or finding.blind
        click.echo(_line(finding, as_json=as_json))
    return 1 if blind else 0


def _queues(home: Path, queues: options.NamedPaths) -> "tuple[QueueSpec, ...]":
    try:
        return config.name_queues(queues) if queues else discover.find_queues(home)
    except ValueError as error:
        raise click.UsageError(f"{error}.") from error


def _examine(
    home: Path,
    queues: "Sequence[QueueSpec]",
    logs: "Sequence[LogSpec]",
    users: Sequence[str],
    *,
    every_file: bool,
) -> "Iterator[Finding]":
    from qmail_exporter import logfmt
    from qmail_exporter.examine import access, finding, user
    from qmail_exporter.examine import home as installed

    logfmt.configure("error", "logfmt")  # what the sources would log is told as a finding
    yield from installed.examine(home)
    if not queues:
        yield finding.blind("queue", f"no queue in {home}: name it with --qmail.queue")
    specs = logs or discover.find_logs(home, queues)
    control = options.control_directory(home)
    for name in users or (user.name(),):

        def work() -> list[dict[str, object]]:
            return [each.as_dict() for each in access.examine(control, queues, specs)]

        try:
            found = [finding.Finding(**each) for each in user.run_as(name, work)]
        except (user.NoUserError, OSError) as error:
            found = [finding.blind(f"user {name}", str(error))]
        yield from _as_user(name, found)
    for queue in queues if every_file else ():
        yield from _check(queue)


def _as_user(name: str, found: "Sequence[Finding]") -> "Iterator[Finding]":
    from qmail_exporter.examine.finding import ok

    for each in found:
        yield each._replace(text=f"as {name}: {each.text}") if each.blind else each
    if not any(each.blind for each in found):
        yield ok(f"user {name}", "serve would see everything")


def _check(queue: "QueueSpec") -> "Iterator[Finding]":
    from qmail_exporter.commands.progress import Progress
    from qmail_exporter.examine import consistency, finding

    subject = f"queue {queue.name}"
    progress = Progress("doctor")
    try:
        with closing(consistency.Survey(str(queue.path))) as survey:
            for done in survey.walk():
                progress.show(f"checking queue {queue.name}: {done:.0%}")
    except OSError as error:
        yield finding.warn(subject, f"not checked: {error.filename}: {error.strerror}")
        return
    finally:
        progress.clear()
    yield from _judged(subject, survey)


def _judged(subject: str, survey: "Survey") -> "Iterator[Finding]":
    from qmail_exporter.examine import finding

    for area, error in sorted(survey.unseen.items()):
        yield finding.warn(subject, f"{area} is not checked, nor how files fit together: {error.strerror}")
    for kind, count in survey.faults.count.items():
        examples = survey.faults.examples[kind]
        more = f" and {count - len(examples)} more" if count > len(examples) else ""
        yield finding.bad(subject, f"{count} {kind}: {', '.join(examples)}{more}")
    if survey.orphans:
        some = " ".join(map(str, survey.orphans[:3]))
        text = f"{len(survey.orphans)} never finished, which qmail-send will remove: {some}"
        yield finding.warn(subject, text)
    if not survey.unseen and not survey.faults.count:
        yield finding.ok(subject, f"{survey.messages} messages, and every file is as it should be")


def _line(finding: "Finding", *, as_json: bool) -> str:
    if as_json:
        return json.dumps(finding.as_dict())
    level = f"{finding.level:<4}"
    if sys.stdout.isatty():
        level = click.style(level, fg=_COLOURS[finding.level], bold=finding.level == "bad")
    fix = f" - fix: {finding.fix}" if finding.fix else ""
    text = f"{finding.subject:<{_ROOM}} {finding.text}{fix}"
    return f"{level} " + text.encode("ascii", "backslashreplace").decode("ascii").translate(_CONTROLS)


_CONTROLS = {number: f"\\x{number:02x}" for number in (*range(32), 127)}
