"""All commands.

Exit statuses, of all but `serve`, `doctor` and `record-double-bounce`: 0, done; 1, something could not be done, and a line
on stderr says what; 2, wrong usage; 3, there was nothing to do it to: no such message, or no qmail-send. 1 wins over 3.

The modules of this package import at their top what their flags need, and what they run when they run it, so that `--help`
and mistakes in flags are answered at once.
"""

from qmail_exporter.commands import (
    ages,
    check_config,
    completion,
    demo,
    doctor,
    queue,
    record,
    redeliver,
    routes,
    serve,
    tcpto,
)
from qmail_exporter.flags.page import Group


def register(group: Group) -> None:
    """Add every command to the program's group."""
    group.add_section("Watch", [serve.serve])
    group.add_section("Look", [queue.queue, tcpto.tcpto, routes.routes, doctor.doctor])
    group.add_section(
        "Act", [tcpto.tcpok, redeliver.redeliver, ages.bounce, ages.rejuvenate, ages.expire_bounces]
    )
    group.add_section("Record", [record.record_double_bounce])
    group.add_section("Set up", [check_config.check_config, completion.completion])
    group.add_section("Try", [demo.demo])
