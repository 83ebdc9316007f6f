"""`demo`: the exporter on a simulated qmail."""

# ruff: noqa: PLC0415 - imports where they are needed, as the package says

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Literal

import click

from qmail_exporter import logfmt
from qmail_exporter.commands import options
from qmail_exporter.flags.option import option
from qmail_exporter.flags.page import Command
from qmail_exporter.flags.value import DIRECTORY, DURATION


@click.command(
    cls=Command,
    short_help="Show the exporter at work on a simulated qmail.",
    examples=[
        ("For ten minutes, with much mail", "qmail-exporter demo --demo.duration=10m --demo.rate=50"),
    ],
)
@option(
    "--demo.dir",
    "directory",
    type=DIRECTORY,
    metavar="DIR",
    help="Where to make the queue and the log, new or empty; kept at the end."
    " Default: a temporary directory, removed at the end.",
)
@option(
    "--demo.rate",
    "rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    default=5.0,
    help="New messages a second.",
)
@option(
    "--demo.duration",
    "duration",
    type=DURATION,
    metavar="DURATION",
    default="0",
    help="How long; 0 is until Ctrl-C.",
)
@option("--demo.seed", "seed", type=int, metavar="N", default=1, help="The same seed gives the same mail.")
@option(
    "--web.listen-address",
    "listen",
    type=options.ADDRESS,
    multiple=True,
    metavar="[HOST]:PORT",
    default=["127.0.0.1:10225"],
    help="Where to answer HTTP; may be repeated.",
)
@option(
    "--log.level",
    "log_level",
    type=options.LOG_LEVEL,
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
    with _home(directory) as home:
        asyncio.run(play.run(home=Path(home), listen=listen, rate=rate, duration=duration, seed=seed))
    return 0


def _home(directory: Path | None) -> AbstractContextManager[str | Path]:
    if directory is None:
        import tempfile

        return tempfile.TemporaryDirectory(prefix="qmail-exporter-demo-")
    directory.mkdir(parents=True, exist_ok=True)
    # A simulated qmail must never run on the queue of a real one.
    if any(directory.iterdir()):
        raise click.BadParameter(f"{directory} is not empty.", param_hint="'--demo.dir'")
    return nullcontext(directory)
