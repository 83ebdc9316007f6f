"""`completion`: the script that has a shell complete this program's commands, flags and values."""

# ruff: noqa: PLC0415 - imports where they are needed, as the package says

import click

from qmail_exporter.flags.page import Command


@click.command(
    cls=Command,
    short_help="Print a script for bash, zsh or fish.",
    examples=[
        ("For this bash only", 'eval "$(qmail-exporter completion bash)"'),
        ("For every bash", "qmail-exporter completion bash >/etc/bash_completion.d/qmail-exporter"),
        ("For zsh, in a directory of $fpath", 'qmail-exporter completion zsh >"${fpath[1]}/_qmail-exporter"'),
        ("For fish", "qmail-exporter completion fish >/etc/fish/completions/qmail-exporter.fish"),
    ],
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> int:
    """Print the script that makes a shell complete commands, flags, choices and paths."""
    from qmail_exporter.flags.shells import script

    click.echo(script(ctx.find_root().command, shell), nl=False)
    return 0
