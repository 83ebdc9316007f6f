"""The program: its group of commands, and how failures become one line and an exit status."""

# ruff: noqa: PLC0415 - imports where they are needed: only shells that complete need some

import logging
import os
import sys
from typing import Any, NoReturn

import click

from qmail_exporter import __version__, commands
from qmail_exporter.flags.page import Group

_PROGRAM = "qmail-exporter"
_ANSWER_TO_SIGINT = 130
_COMPLETING = "_QMAIL_EXPORTER_COMPLETE"  # as click calls it, after the program

logger = logging.getLogger(__name__)


class _Program(Group):
    """A group whose every failure is one line on stderr: exit status 2 for wrong usage, 1 for all else."""

    def invoke(self, ctx: click.Context) -> Any:
        # Before click sees the interrupt, which would answer it with an empty line and "Aborted!".
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(_ANSWER_TO_SIGINT)

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        """Run a command and leave the process with its exit status."""
        if _COMPLETING in os.environ:
            from qmail_exporter.flags import shells

            shells.register()
        extra["standalone_mode"] = False
        try:
            code = super().main(*args, **extra)
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx else _PROGRAM
            code = _fail(f"{error.format_message()} See '{command} --help'.", 2)
        except click.ClickException as error:
            code = _fail(error.format_message(), error.exit_code)
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


@click.group(
    cls=_Program,
    no_args_is_help=False,
    context_settings={"max_content_width": 100},
)
@click.version_option(__version__, prog_name=_PROGRAM, message="%(prog)s %(version)s")
def main() -> None:
    """Prometheus exporter for the qmail mail server.

    `serve` keeps an exact picture of the queue and of qmail-send's log, and shows it at /metrics; it only reads.
    The other commands are for what postmasters do by hand. `COMMAND --help` tells of one.
    """


commands.register(main)
