"""Where `qmail-exporter` starts: the one command that must start fast is told from the rest before click is loaded."""

# ruff: noqa: PLC0415 - imports where they are needed are what this module is for

import sys


def main() -> None:
    """Run the command line and leave the process with its exit status."""
    if sys.argv[1:2] == ["record-double-bounce"]:
        from qmail_exporter.record import main as record

        sys.exit(record(sys.argv[2:]))
    from qmail_exporter.cli import main as run

    run(prog_name="qmail-exporter")
