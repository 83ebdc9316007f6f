"""What wrote a log's line, told by what stands before its text.  Pure."""

import re

_STYLES = (
    ("multilog or svlogd, with TAI64N", re.compile(rb"@[0-9a-f]{24} ")),
    ("svlogd, with dates", re.compile(rb"\d{4}-\d\d-\d\d[T_]\d\d:\d\d:\d\d(?:\.\d+)? ")),
    ("splogger, through syslog", re.compile(rb"(?:<\d{1,3}>)?(?:[A-Z][a-z]{2} [ \d]\d |\d{4}-)[^ ]+ (?:\S+ )?\S+: \d+\.\d{6}[ +]")),
    ("another program, through syslog", re.compile(rb"(?:<\d{1,3}>)?(?:[A-Z][a-z]{2} [ \d]\d |\d{4}-)")),
    ("splogger", re.compile(rb"\d{1,12}\.\d{6}[ +]")),
)  # fmt: skip
BARE = "qmail-send, with nothing before it"


def style(line: bytes) -> str:
    """Return the name of what stands before a line's text."""
    return next((name for name, pattern in _STYLES if pattern.match(line)), BARE)
