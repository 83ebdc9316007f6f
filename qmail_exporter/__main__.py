"""Makes `python -m qmail_exporter` the same as `qmail-exporter`."""

from qmail_exporter.cli import main

main(prog_name="qmail-exporter")
