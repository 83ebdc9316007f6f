"""`doctor`: what is there, what `serve` would not see, and what is wrong with the queue."""

# ruff: noqa: PLC0415 - imports where they are needed, as the package says

import json
import os
import shutil
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
    from qmail_exporter.examine.access import Exam
    from qmail_exporter.examine.consistency import Survey
    from qmail_exporter.examine.finding import Finding

_COLOURS = {"ok": "green", "warn": "yellow", "bad": "red"}
_ROOM = 17
"""Columns of the subject; longer ones push the text on."""


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
    help="Check what this user can read; only root can ask. May be repeated. Default: who runs this, and for root"
    " also the user who may read the queue.",
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

    One line a finding: ok, warn, or bad, with the command that puts it right where there is one. Nothing is changed,
    and no message is opened. The exit status is 0 if `serve` would see everything, run by each of the users that were
    checked, else 1.
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
    from qmail_exporter.examine import access, finding, reader, units
    from qmail_exporter.examine import home as installed

    logfmt.configure("error", "logfmt")  # what the sources would log is told as a finding
    yield installed.examine(home)
    yield from units.examine()
    if not queues:
        yield finding.blind("queue", f"no queue in {home}: name it with --qmail.queue")
    specs = logs or discover.find_logs(home, queues)
    argv = _serve(home, queues, logs)
    serve = {queue.name: reader.of(str(queue.path)).command(*argv) for queue in queues}
    exam = access.Exam(options.control_directory(home), queues, specs, serve)
    yield from _as_users(exam, users or _usual_users(queues))
    for queue in queues if every_file else ():
        yield from _check(queue)


def _serve(home: Path, queues: "Sequence[QueueSpec]", logs: "Sequence[LogSpec]") -> list[str]:
    """The command line of `serve` for what is examined."""
    program = shutil.which(sys.argv[0]) if Path(sys.argv[0]).name == "qmail-exporter" else None
    argv = [os.path.abspath(program)] if program else [sys.executable, "-m", "qmail_exporter"]
    argv += ["serve", f"--qmail.home={home}"]
    if list(queues) != list(discover.find_queues(home)):
        argv += [f"--qmail.queue={queue.name}={queue.path}" for queue in queues]
    return argv + [
        f"--qmail.log={log.queue}={log.spec}" if log.queue else f"--qmail.log={log.spec}" for log in logs
    ]


def _usual_users(queues: "Sequence[QueueSpec]") -> list[str]:
    """Who is examined if nobody is named: who runs this and, as root sees more than `serve` should, who may read the queues."""
    from qmail_exporter.examine import reader, user

    readers = [reader.of(str(queue.path)).user for queue in queues] if os.geteuid() == 0 else []
    return list(dict.fromkeys([user.name(), *filter(user.exists, readers)]))


def _as_users(exam: "Exam", users: "Sequence[str]") -> "Iterator[Finding]":
    """What was found, each thing once, with those who found it."""
    from qmail_exporter.examine import access, finding, user

    modes = access.survey(exam)
    found: dict[Finding, list[str]] = {}
    for name in users:

        def work() -> list[dict[str, object]]:
            return [each.as_dict() for each in access.examine(exam, modes)]

        try:
            answers = [finding.Finding(**each) for each in user.run_as(name, work)]
        except (user.NoUserError, OSError) as error:
            answers = [finding.blind("user", f"{name}: {error}")]
        else:
            if not any(each.blind for each in answers):
                answers.append(finding.ok("user", f"{name}: serve would see everything"))
        for each in answers:
            found.setdefault(each, []).append(name)
    for each, names in found.items():
        yield each if each.subject == "user" else each._replace(text=f"{each.text} (as {', '.join(names)})")


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
        yield finding.bad(subject, f"{kind} ({count}): {', '.join(examples)}{more}")
    if survey.orphans:
        some = " ".join(map(str, survey.orphans[:3]))
        more = " and more" if len(survey.orphans) > 3 else ""
        text = f"never finished, which qmail-send will remove ({len(survey.orphans)}): message {some}{more}"
        yield finding.warn(subject, text)
    if not survey.unseen and not survey.faults.count:
        yield finding.ok(subject, f"{survey.messages} messages, and every file is as it should be")


def _line(finding: "Finding", *, as_json: bool) -> str:
    if as_json:
        return json.dumps(finding.as_dict())
    terminal = sys.stdout.isatty()
    level = f"{finding.level:<4}"
    if terminal and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb":
        level = click.style(level, fg=_COLOURS[finding.level], bold=finding.level == "bad")
    lines = [f"{level} {_printable(f'{finding.subject:<{_ROOM}} {finding.text}')}"]
    if finding.fix:
        lines.append(f"fix: {_printable(finding.fix)}")
    # To be copied, a command had better begin where it is easily told.
    return ("\n" + " " * (_ROOM + 6)).join(lines) if terminal else " - ".join(lines)


def _printable(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode("ascii").translate(_CONTROLS)


_CONTROLS = {number: f"\\x{number:02x}" for number in (*range(32), 127)}
