"""The flags that several commands have, and what queues and files they stand for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import click

from qmail_exporter import config, discover

NamedPaths: TypeAlias = tuple[tuple[str | None, Path], ...]
"""The values of --qmail.queue."""
_Command = TypeVar("_Command", bound=Callable[..., Any])
_Value = TypeVar("_Value")
_INDIMAIL_CONTROL = Path("/etc/indimail/control")


def parsed(parse: Callable[[str], _Value]) -> Callable[[str], _Value]:
    """Return the parser as click's type: what it raises is a mistake in the flag."""

    def convert(text: str) -> _Value:
        try:
            return parse(text)
        except ValueError as error:
            raise click.BadParameter(f"{error}.") from error

    return convert


DURATION = parsed(config.parse_duration)


def flag(name: str, destination: str, **attributes: Any) -> Callable[[_Command], _Command]:
    """Return an option that the environment can set too, as those of `serve`."""
    variable = "QMAIL_EXPORTER_" + name.removeprefix("--").replace(".", "_").replace("-", "_").upper()
    return click.option(name, destination, envvar=variable, **attributes)


def with_queues(command: _Command) -> _Command:
    """Add --qmail.home and --qmail.queue; the command gets `home` and `queues`, for `find_queues`."""
    queue = flag(
        "--qmail.queue",
        "queues",
        type=parsed(config.parse_queue_spec),
        multiple=True,
        metavar="[NAME=]DIR",
        help="A queue directory; may be repeated. Default: those of the home.",
    )
    home = flag(
        "--qmail.home",
        "home",
        type=parsed(config.parse_path),
        metavar="DIR",
        default="/var/qmail",
        help="qmail's home.",
    )
    return home(queue(command))


def with_logs(command: _Command) -> _Command:
    """Add --qmail.log; the command gets `logs`, for `find_logs`."""
    return flag(
        "--qmail.log",
        "logs",
        type=parsed(config.parse_log_spec),
        multiple=True,
        metavar="[NAME=]PATH|journal:UNIT",
        help="qmail-send's log; may be repeated. Default: found in the usual places.",
    )(command)


def with_json(command: _Command) -> _Command:
    """Add --json; the command gets `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Write one JSON object a line.")(command)


def with_dry_run(command: _Command) -> _Command:
    """Add --dry-run; the command gets `dry_run`."""
    return click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")(command)


def with_exit_status(command: _Command) -> _Command:
    """Add --exit-status; the command gets `exit_status`, for `Output`."""
    return click.option(
        "--exit-status",
        is_flag=True,
        help="Write the exit status as the last line, for a reader at the other end of a socket.",
    )(command)


def find_queues(home: Path, queues: NamedPaths) -> tuple[config.QueueSpec, ...]:
    """Return the queues that are named, or else those of the home.

    Raises:
        click.ClickException: two are named the same, or there are none.
    """
    try:
        found = config.name_queues(queues) if queues else discover.find_queues(home)
    except ValueError as error:
        raise click.UsageError(f"{error}.") from error
    if not found:
        raise click.ClickException(f"no queue in {home}: name it with --qmail.queue")
    return found


def find_logs(
    home: Path, queues: tuple[config.QueueSpec, ...], logs: tuple[config.LogSpec, ...]
) -> tuple[config.LogSpec, ...]:
    """Return the logs that are named, or else those in the usual places.

    Raises:
        click.ClickException: there are none.
    """
    found = logs or discover.find_logs(home, queues)
    if not found:
        raise click.ClickException("no log of qmail-send was found: name it with --qmail.log")
    return found


def control_directory(home: Path) -> Path:
    """Return where the control files are: indimail keeps them in /etc."""
    own = home / "control"
    return _INDIMAIL_CONTROL if not own.is_dir() and _INDIMAIL_CONTROL.is_dir() else own
