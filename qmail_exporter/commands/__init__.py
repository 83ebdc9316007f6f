"""The commands beside `serve` and `demo`: they show or change one thing and end.

Exit statuses, of all but `record-double-bounce`: 0, done; 1, something could not be done, and a line on stderr says
what; 2, wrong usage; 3, there was nothing to do it to: no such message, or no qmail-send. 1 wins over 3.

The modules of this package import at their top what their flags need, and what they run when they run it.
"""

import click

from qmail_exporter.commands import ages, doctor, queue, record, redeliver, routes, tcpto


def register(group: click.Group) -> None:
    """Add every command to the program's group."""
    for command in (
        queue.queue,
        tcpto.tcpto,
        tcpto.tcpok,
        redeliver.redeliver,
        ages.bounce,
        ages.rejuvenate,
        ages.expire_bounces,
        record.record_double_bounce,
        routes.routes,
        doctor.doctor,
    ):
        group.add_command(command)
