"""A simulated qmail: a living queue directory and log, for people to look at and for the tests to measure against.

`qmail.Qmail` performs the calls of qmail-queue, qmail-send, qmail-clean and qmail-remote that other processes can see,
in qmail's order, on a queue directory of its own, and gives out the lines of qmail-send's log. `multilog` writes those
lines as qmail's loggers do, `world` invents the hosts that mail goes to, and `scenario` plays `qmail-exporter demo`.
"""
