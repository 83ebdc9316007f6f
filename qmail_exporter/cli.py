"""The command line: `qmail-exporter serve` and `qmail-exporter demo`.

Commands import what they run when they run it, so that `--help` and mistakes in flags are answered at once.
"""

# ruff: noqa: PLC0415 - imports where they are needed, as said above

import logging
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

import click

from qmail_exporter import __version__, commands, config, logfmt

_PROGRAM = "qmail-exporter"
_ANSWER_TO_SIGINT = 130
_Value = TypeVar("_Value")
_Command = TypeVar("_Command", bound=Callable[..., Any])

logger = logging.getLogger(__name__)


class _Program(click.Group):
    """A group whose every failure is one line on stderr: exit status 2 for wrong usage, 1 for all else."""

    def invoke(self, ctx: click.Context) -> Any:
        # Before click sees the interrupt, which would answer it with an empty line and "Aborted!".
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(_ANSWER_TO_SIGINT)

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        """Run a command and leave the process with its exit status."""
        extra["standalone_mode"] = False
        try:
            code = super().main(*args, **extra)
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx else _PROGRAM
            code = _fail(f"{error.format_message()} See '{command} --help'.", 2)
        except click.ClickException as error:
            code = _fail(error.format_message(), 1)
        except click.Abort:
            code = _ANSWER_TO_SIGINT
        except OSError as error:
            logger.debug("failed", exc_info=True)
            code = _fail(str(error), 1)
        except Exception as error:  # the last resort: a user is shown no traceback
            logger.debug("failed", exc_info=True)
            code = _fail(f"internal error: {type(error).__name__}: {error} (--log.level=debug shows more)", 1)
        sys.exit(code if isinstance(code, int) else 0)


def _fail(text: str, code: int) -> int:
    line = "".join(char if char.isprintable() else "?" for char in text)
    click.echo(f"{_PROGRAM}: {line}", err=True)
    return code


def _parsed(parse: Callable[[str], _Value]) -> Callable[[str], _Value]:
    def convert(text: str) -> _Value:
        try:
            return parse(text)
        except ValueError as error:
            raise click.BadParameter(f"{error}.") from error

    return convert


def _address(text: str) -> str:
    config.parse_address(text)
    return text


def _command_words(text: str) -> tuple[str, ...]:
    from qmail_exporter.hook.runs import parse_command

    return parse_command(text)


_ADDRESS = _parsed(_address)
_DIRECTORY = _parsed(config.parse_path)
_DURATION = _parsed(config.parse_duration)
_LOG_LEVEL = click.Choice(list(logfmt.LEVELS))


def _flag(flag: str, name: str, **attributes: Any) -> Callable[[_Command], _Command]:
    """Return an option that the environment can set too: --web.x-y by QMAIL_EXPORTER_WEB_X_Y."""
    variable = "QMAIL_EXPORTER_" + flag.removeprefix("--").replace(".", "_").replace("-", "_").upper()
    return click.option(flag, name, envvar=variable, **attributes)


@click.group(
    cls=_Program,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100, "show_default": True},
)
@click.version_option(__version__, prog_name=_PROGRAM, message="%(prog)s %(version)s")
def main() -> None:
    """Prometheus exporter for the qmail mail server.

    It keeps an exact picture of the queue and of qmail-send's log, and shows it at /metrics. It only reads.
    """


@main.command(
    epilog="Each flag can also be given by the environment, --web.max-requests as QMAIL_EXPORTER_WEB_MAX_REQUESTS;"
    " several values of one flag are separated by spaces there."
)
@_flag("--qmail.home", "home", type=_DIRECTORY, metavar="DIR", default="/var/qmail", help="qmail's home.")
@_flag(
    "--qmail.queue",
    "queues",
    type=_parsed(config.parse_queue_spec),
    multiple=True,
    metavar="[NAME=]DIR",
    help="A queue directory; may be repeated. Default: those of the home.",
)
@_flag(
    "--qmail.log",
    "logs",
    type=_parsed(config.parse_log_spec),
    multiple=True,
    metavar="[NAME=]PATH|journal:UNIT",
    help="qmail-send's log, for the queue NAME if there are several: a directory of multilog or svlogd, a file,"
    " or the journal of a unit; may be repeated. Default: found in the usual places.",
)
@_flag(
    "--queue.rescan-interval",
    "rescan_interval",
    type=_DURATION,
    metavar="DURATION",
    default="1h",
    help="How often to read the whole queue again, as a check; 0 is never.",
)
@_flag(
    "--domains.max",
    "domains_max",
    type=click.IntRange(min=0),
    metavar="N",
    default=100,
    help="Remote domains of a queue that have series of their own; the rest are counted as (other).",
)
@_flag(
    "--web.listen-address",
    "listen",
    type=_ADDRESS,
    multiple=True,
    metavar="[HOST]:PORT",
    default=[":10225"],
    help="Where to answer HTTP; may be repeated. Without HOST it is all addresses; IPv6 stands in brackets.",
)
@_flag(
    "--web.systemd-socket",
    "systemd_socket",
    is_flag=True,
    help="Take the listening sockets from systemd instead.",
)
@_flag(
    "--web.telemetry-path",
    "telemetry_path",
    type=_parsed(config.parse_url_path),
    metavar="PATH",
    default="/metrics",
    help="Where the metrics are.",
)
@_flag(
    "--web.max-requests",
    "max_requests",
    type=click.IntRange(min=0),
    metavar="N",
    default=40,
    help="Scrapes worked on at once; further ones get status 503. 0 is no limit.",
)
@_flag(
    "--web.config.file",
    "web_config",
    type=_DIRECTORY,
    metavar="PATH",
    help="A file in exporter-toolkit's format that sets TLS, client certificates, passwords and headers.",
)
@_flag(
    "--web.scrape-budget",
    "scrape_budget",
    type=_DURATION,
    metavar="DURATION",
    default="500ms",
    help="The longest that a scrape looks at changed messages before it answers; what is left is a metric.",
)
@_flag(
    "--double-bounces.log",
    "double_bounces",
    type=_parsed(config.parse_log_spec),
    metavar="[NAME=]PATH",
    help="The log that record-double-bounce writes, counted for the queue NAME if there are several.",
)
@_flag("--hook.tcpok", "hook_tcpok", is_flag=True, help="Empty tcpto when an outage of the network is over.")
@_flag(
    "--hook.redeliver",
    "hook_redeliver",
    is_flag=True,
    help="Then have qmail-send try every message at once (SIGALRM).",
)
@_flag(
    "--hook.command",
    "hook_command",
    type=_parsed(_command_words),
    metavar="COMMAND",
    help="A program to run then, with its arguments; no shell is involved.",
)
@_flag(
    "--hook.cooldown",
    "hook_cooldown",
    type=_DURATION,
    metavar="DURATION",
    default="10m",
    help="The least time between two runs.",
)
@_flag(
    "--hook.probe",
    "hook_probe",
    type=bool,
    metavar="BOOL",
    default=True,
    help="Probe hosts that are in tcpto while an outage lasts, if there is something to do at its end.",
)
@_flag("--hook.dry-run", "hook_dry_run", is_flag=True, help="Only log and count what would be done.")
@_flag(
    "--hook.timeout",
    "hook_timeout",
    type=_DURATION,
    metavar="DURATION",
    default="30s",
    help="The longest that one action may take.",
)
@_flag(
    "--hook.sockets",
    "hook_sockets",
    type=_DIRECTORY,
    metavar="DIR",
    default="/run/qmail-exporter",
    help="Where the socket units listen that do what the exporter's user may not.",
)
@_flag(
    "--log.level",
    "log_level",
    type=_LOG_LEVEL,
    default="info",
    help="The least important records to log, on stderr.",
)
@_flag(
    "--log.format",
    "log_format",
    type=click.Choice(["logfmt", "json"]),
    default="logfmt",
    help="The form of the records.",
)
def serve(
    *,
    queues: tuple[tuple[str | None, Path], ...],
    logs: tuple[config.LogSpec, ...],
    listen: tuple[str, ...],
    systemd_socket: bool,
    **settings: Any,
) -> int:
    """Watch a qmail and answer scrapes until SIGTERM or SIGINT."""
    try:
        named = config.name_queues(queues)
        config.check_logs([*logs, *filter(None, [settings["double_bounces"]])], named)
    except ValueError as error:
        raise click.UsageError(f"{error}.") from error
    hook = {
        name.removeprefix("hook_"): settings.pop(name) for name in list(settings) if name.startswith("hook_")
    }
    hook |= {"command": hook["command"] or (), "sockets": str(hook["sockets"])}
    settings["hook"] = config.HookConfig(**hook)
    settings |= {"queues": named, "logs": logs, "systemd_socket": systemd_socket}
    settings["listen"] = () if systemd_socket else listen

    import asyncio

    from qmail_exporter import daemon

    logfmt.configure(settings["log_level"], settings["log_format"])
    return asyncio.run(daemon.run(config.Config(**settings)))


@main.command()
@click.option(
    "--web.listen-address",
    "listen",
    type=_ADDRESS,
    multiple=True,
    metavar="[HOST]:PORT",
    default=["127.0.0.1:10225"],
    help="Where to answer HTTP; may be repeated.",
)
@click.option(
    "--demo.dir",
    "directory",
    type=_DIRECTORY,
    metavar="DIR",
    help="Where to make the queue and the log, new or empty; kept at the end."
    " Default: a temporary directory, removed at the end.",
)
@click.option(
    "--demo.rate",
    "rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    default=5.0,
    help="New messages a second.",
)
@click.option(
    "--demo.duration",
    "duration",
    type=_DURATION,
    metavar="DURATION",
    default="0",
    help="How long; 0 is until Ctrl-C.",
)
@click.option(
    "--demo.seed", "seed", type=int, metavar="N", default=1, help="The same seed gives the same mail."
)
@click.option(
    "--log.level",
    "log_level",
    type=_LOG_LEVEL,
    default="warn",
    help="The least important records to log, on stderr.",
)
def demo(  # noqa: PLR0913 - one argument a flag
    *,
    listen: tuple[str, ...],
    directory: Path | None,
    rate: float,
    duration: float,
    seed: int,
    log_level: Literal["debug", "info", "warn", "error"],
) -> int:
    """Show the exporter at work on a simulated qmail.

    It needs no qmail and touches none. It says where to look.
    """
    import asyncio

    from qmail_exporter.demo import play

    logfmt.configure(log_level, "logfmt")
    with _demo_home(directory) as home:
        asyncio.run(play.run(home=Path(home), listen=listen, rate=rate, duration=duration, seed=seed))
    return 0


def _demo_home(directory: Path | None) -> AbstractContextManager[str | Path]:
    if directory is None:
        import tempfile

        return tempfile.TemporaryDirectory(prefix="qmail-exporter-demo-")
    directory.mkdir(parents=True, exist_ok=True)
    # A simulated qmail must never run on the queue of a real one.
    if any(directory.iterdir()):
        raise click.BadParameter(f"{directory} is not empty.", param_hint="'--demo.dir'")
    return nullcontext(directory)


commands.register(main)
