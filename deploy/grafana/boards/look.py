"""Names, colours and thresholds that several dashboards have in common."""

from boards.panel import BAD, FAIR, GOOD, PLAIN

NETWORK = {0: ("clear", GOOD), 1: ("outage", BAD), 2: ("settling", FAIR), 3: ("recovered", "blue")}
"""States of the network, as `shared.network` numbers them."""
WHOLE = {0: ("not whole", BAD), 1: ("whole", GOOD)}
UP = {0: ("down", BAD), 1: ("up", GOOD)}
RESULTS = {"success": GOOD, "deferral": FAIR, "failure": BAD}

NONE_IS_GOOD = ((None, GOOD), (0.5, BAD))
NONE_IS_BETTER = ((None, GOOD), (0.5, FAIR))
AGE = ((None, PLAIN), (640_000, BAD))
"""Of the oldest message. It is days old wherever a domain is dead; only beyond queuelifetime, a week by default, and the last
attempt after that, something is wrong (QmailOldestMessageTooOld)."""
DEFERRED = ((None, PLAIN), (0.5, FAIR), (0.8, BAD))
"""Share of the attempts that are deferred; a third is common where there is greylisting."""
BUSY = ((None, PLAIN), (0.8, FAIR), (0.95, BAD))
"""Share of the slots that is in use."""
FREE = ((None, BAD), (0.05, FAIR), (0.2, PLAIN))
"""Share of the file system that is free."""
