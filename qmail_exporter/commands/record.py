"""`record-double-bounce`, for those who ask for help: `entry.py` runs it before click is loaded."""

# ruff: noqa: PLC0415 - imports where they are needed, as the package says

import click

from qmail_exporter.flags.option import option
from qmail_exporter.flags.page import Command
from qmail_exporter.flags.value import FILE


@click.command(
    "record-double-bounce",
    cls=Command,
    short_help="Log a double bounce, from a .qmail file.",
    examples=[
        (
            "In ~alias/.qmail-doublebounce, beside where it goes now",
            "|qmail-record-double-bounce --file=/var/log/qmail/double-bounces",
        ),
    ],
)
@option("--file", type=FILE, metavar="FILE", required=True, help="The log, to which a line is appended.")
@option(
    "--format",
    "form",
    type=click.Choice(["json", "text"]),
    default="json",
    help="For the exporter to count, or for people to read.",
)
def record_double_bounce(*, file: object, form: str) -> int:
    """Log the double bounce on standard input; for a .qmail file.

    Exits 0, or 111 upon any trouble, so that qmail-local keeps the message and tries again. The program
    qmail-record-double-bounce is the same.
    """
    from qmail_exporter import record

    return record.main([f"--file={file}", f"--format={form}"])
