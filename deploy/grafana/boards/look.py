"""Names, colours and thresholds that several dashboards have in common."""

from boards.panel import BAD, FAIR, GOOD, PLAIN

NETWORK = {0: ("clear", GOOD), 1: ("outage", BAD), 2: ("settling", FAIR), 3: ("recovered", "blue")}
"""States of the network, as `network` numbers them."""
WHOLE = {0: ("not whole", BAD), 1: ("whole", GOOD)}
UP = {0: ("down", BAD), 1: ("up", GOOD)}
RESULTS = {"success": GOOD, "deferral": FAIR, "failure": BAD}

NONE_IS_GOOD = ((None, GOOD), (0.5, BAD))
NONE_IS_BETTER = ((None, GOOD), (0.5, FAIR))
AGE = ((None, PLAIN), (640_000, BAD))
"""Of the oldest message. It is days old wherever a domain is dead; only beyond queuelifetime, a week by default, and the last
attempt after that, something is wrong (QmailOldestMessageTooOld)."""


def network(by: str) -> str:
    """Return PromQL for the state of the network as a number, by these labels."""
    parts = [
        f'{number} * max by ({by}) (qmail_outage_state{{HERE, state="{name}"}})'
        for number, (name, _) in NETWORK.items()
    ]
    return " + ".join(parts[1:])


def free(by: str) -> str:
    """Return PromQL for the free share of the queue's file system, by these labels: of space or of inodes, the lesser.

    A file system without a fixed number of inodes says that it has none at all; that is no shortage.
    """
    return (
        f"min by ({by}) (qmail_queue_filesystem_free_bytes{{HERE}} / qmail_queue_filesystem_size_bytes{{HERE}}"
        " or (qmail_queue_filesystem_free_inodes{HERE} / (qmail_queue_filesystem_size_inodes{HERE} > 0)))"
    )
