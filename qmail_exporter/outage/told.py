"""What the log's reports and tcpto tell of the network."""

import re

from qmail_exporter.formats.reason import answered
from qmail_exporter.formats.tcpto import Host, Table, is_dead, skipped_until

# With a point or a colon, or words such as "bad" would be addresses.
_HOST = re.compile(rb"(?:Connected_to_)?((?=[0-9A-Fa-f]*[.:])[0-9A-Fa-f.:]{3,45})_")


def connection(result: str, reason: str, report: bytes) -> bool | None:
    """Return whether a remote delivery's connection was made; None if its report says nothing of the network.

    Takes the result and the report of qmail-send's log, and the reason of `formats.reason`.
    """
    if reason == "connection_died":
        return None
    if result == "success" or answered(report):
        return True
    return False if reason == "connect" else None


def host_of(report: bytes) -> str | None:
    """Return the address of the host that a report, in the log's form, tells of at its beginning."""
    found = _HOST.match(report)
    return found[1].decode("ascii") if found else None


def passed_over(table: Table, now: float) -> list[Host]:
    """Return the hosts that some qmail-remote at least would not try now."""
    return [host for host in table.hosts if is_dead(host) and now < skipped_until(host)[1]]
