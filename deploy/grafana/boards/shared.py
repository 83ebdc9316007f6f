"""Panels, and parts of queries, that stand on more than one dashboard."""

from grafana_foundation_sdk.builders import statetimeline, timeseries

from boards.look import NETWORK
from boards.panel import Subject, lines, states
from boards.query import Query

NAME = "{{instance}} {{queue}}"
"""The legend where each queue has a line."""


def network(by: str) -> str:
    """Return PromQL for the state of the network as a number, by these labels."""
    parts = [
        f'{number} * max by ({by}) (qmail_outage_state{{HERE, state="{name}"}})'
        for number, (name, _) in NETWORK.items()
    ]
    return " + ".join(parts[1:])


def network_states() -> statetimeline.Panel:
    """What mail tells of the network, a band for each queue."""
    subject = Subject(
        "The network, as mail tells",
        "Outage: many domains fail and few hosts are reached. Settling: hosts answer again. Recovered: the hook is at work.",
        [Query(network("instance, queue"), NAME)],
        unit="none",
        runbooks=["QmailDestinationsUnreachable"],
        pages=["outage.md"],
        width=24,
        height=5,
    )
    return states(subject, NETWORK)


def problems(title: str, about: str, result: str, *runbooks: str) -> timeseries.Panel:
    """Remote attempts that were deferred or failed, by reason; those that there are."""
    asked = f'qmail_delivery_problems_total{{HERE, channel="remote", result="{result}"}}'
    subject = Subject(
        title,
        about,
        [Query(f"sum by (reason) (rate({asked}[$__rate_interval])) > 0", "{{reason}}")],
        unit="ops",
        empty="none",
        runbooks=runbooks,
    )
    return lines(subject, style="stack")


def free(by: str) -> str:
    """Return PromQL for the free share of the queue's file system, by these labels: of space or of inodes, the lesser.

    A file system without a fixed number of inodes says that it has none at all; that is no shortage.
    """
    space = "qmail_queue_filesystem_free_bytes{HERE} / qmail_queue_filesystem_size_bytes{HERE}"
    inodes = "qmail_queue_filesystem_free_inodes{HERE} / (qmail_queue_filesystem_size_inodes{HERE} > 0)"
    # A label of their own, as of two series with the same labels `or` keeps the first.
    both = [
        f'label_replace({ratio}, "of", "{name}", "", "")'
        for name, ratio in (("space", space), ("inodes", inodes))
    ]
    return f"min by ({by}) ({' or '.join(both)})"
