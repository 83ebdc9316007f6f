"""`record-double-bounce`, for those who ask for help: `entry.py` runs it before click is loaded."""

# ruff: noqa: PLC0415 - imports where they are needed, as the package says

import click


@click.command(
    "record-double-bounce",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="--file FILE [--format json|text]")
def record_double_bounce(words: tuple[str, ...]) -> int:
    """Log the double bounce on standard input; for a .qmail file.

    Exits 0, or 111 upon any trouble, so that qmail-local keeps the message and tries again.
    """
    from qmail_exporter import record

    return record.main(list(words))
