"""Makes `python -m qmail_exporter` the same as `qmail-exporter`."""

from qmail_exporter.entry import main

main()
