"""`check-config`: what is wrong with a configuration file, before anything depends on it."""

from pathlib import Path

import click

from qmail_exporter.commands.serve import configure, serve
from qmail_exporter.flags.option import variable
from qmail_exporter.flags.page import Command
from qmail_exporter.flags.value import FILE


@click.command(
    "check-config",
    cls=Command,
    short_help="Say what is wrong with a configuration file.",
    examples=[("Before a restart", "qmail-exporter check-config /etc/qmail-exporter.yml")],
)
@click.argument("path", metavar="PATH", type=FILE, envvar=variable("--config.file"))
@click.pass_context
def check_config(ctx: click.Context, path: Path) -> int:
    """Say what is wrong with a configuration file, if anything.

    It is taken as `serve` would take it, which has all the settings there are. The files and directories that it
    names are not looked at: `doctor --config.file` does that.
    """
    with serve.make_context("serve", [f"--config.file={path}"], parent=ctx) as context:
        configure(**context.params)
    click.echo(f"{path}: no mistakes")
    return 0
