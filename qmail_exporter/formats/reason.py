"""Why a delivery was deferred or failed: the text of a report, to one of a few reasons.

A report is what stands after `deferral: ` or `failure: ` in qmail-send's log. It begins with words of qmail's own (those
of qmail-remote.c, qmail-rspawn.c, qmail-local.c) and, if another host spoke, goes on with `Remote host said:` and what
it said. The tables below are what decides:

1. qmail-send's sentence that it will not try again: `expired`. Why the last attempt failed stands before it and is lost
   on purpose: that the message ran out of time is what its sender is told, and what the administrator can change.
2. An enhanced status code that means one thing only (`PLAIN_CODES`).
3. Words of the other host (`PHRASES`): it chooses them with more care than its codes.
4. A host that refuses at the banner or at HELO, before any mail is named: `greeting`.
5. The enhanced status code (`CODES`), then the SMTP reply code (`REPLIES`).

A host that refuses the sender has not heard of the recipient: what would blame the recipient is `policy` there.
For qmail's own reports the code comes first, and without one the sentence (`OWN_PHRASES`): of what it quotes in them, a
domain, the sender of the mail may choose the words. Everything is linear in the length of the report.
"""

import re
from functools import lru_cache

REASONS = (
    "connect",
    "dns",
    "greylist",
    "mailbox_full",
    "no_such_user",
    "policy",
    "rate_limit",
    "tls",
    "greeting",
    "protocol",
    "connection_died",
    "expired",
    "local",
    "system",
    "other",
)
"""Every reason there is.

`connect`: no host took the connection, or qmail did not try because earlier ones timed out. `dns`: there is no such
host, or no answer. `greylist`: come back later. `mailbox_full`: the recipient is over quota. `no_such_user`: no such
mailbox, or one that is closed. `policy`: not from here, not from this sender, not with this content or size.
`rate_limit`: too much at once. `tls`: encryption failed, or is demanded. `greeting`: refused before any mail was named.
`protocol`: the commands or the message are ill-formed. `connection_died`: lost on the way. `expired`: too long in the
queue. `local`: a local delivery's own trouble. `system`: a mail system is out of order or of room: this one if qmail
itself says so, else the other. `other`: nothing here knows.
"""

PHRASES = (
    ("tls", "starttls; tls; ssl error"),
    ("greylist", "greylist; greylisted; greylisting; grey listed; grey listing; postgrey; sqlgrey"),
    ("greylist", "graylist; graylisted; graylisting; gray listed; gray listing"),
    # All that OpenBSD's spamd says.
    ("greylist", "temporary failure, please try again later"),
    ("system", "too many hops; mail loop"),
    # The sender's quotas, before the mailbox's.
    ("rate_limit", "sending quota; sending limit; message quota; daily quota"),
    ("rate_limit", "rate limit; rate limits; rate limited; rate limiting; ratelimit; ratelimited"),
    ("rate_limit", "rate exceeded; unusual rate; throttled; throttling; throttle; too quickly; too fast"),
    ("rate_limit", "at a rate that; slow down; temporarily deferred; unexpected volume"),
    ("rate_limit", "mail flood; connection limit"),
    ("rate_limit", "concurrent connections; concurrent server connections; server busy; server is busy"),
    ("policy", "spamhaus; spamcop; barracudacentral; sorbs; uceprotect; dnsbl; rbl; blocklist; block list"),
    ("policy", "blocklisted; blacklist; blacklisted; black list; blackhole; denylist"),
    ("policy", "spf; dkim; dmarc; unauthenticated; ptr; rdns; reverse dns; reverse hostname"),
    ("policy", "relay access denied; relaying denied; relay denied; relay not permitted; rcpthosts"),
    ("policy", "relaying not allowed; not permitted to relay; authentication required; sender domain"),
    ("policy", "sender address rejected; sender verify failed; client host rejected; helo command rejected"),
    ("no_such_user", "no such user; no such recipient; no such mailbox; no such address; no such account"),
    ("no_such_user", "no such person; no mailbox here; no mailbox by that name; nosuchuser"),
    ("no_such_user", "unknown user; user unknown; user is unknown; unknown recipient; recipient unknown"),
    ("no_such_user", "unknown address; address unknown; unknown mailbox"),
    ("no_such_user", "mailbox unknown; unknown local part"),
    ("no_such_user", "user not found; mailbox not found; recipient not found; recipientnotfound"),
    ("no_such_user", "account not found; address not found; does not exist; doesn't exist; not exist"),
    ("no_such_user", "doesn't have a; does not have a; not a valid mailbox"),
    ("no_such_user", "not a valid user; not a known user"),
    ("no_such_user", "invalid recipient; invalid mailbox; invalid user"),
    ("no_such_user", "unrouteable address; unroutable address"),
    ("no_such_user", "account disabled; account is disabled; account has been disabled; account is inactive"),
    ("no_such_user", "mailbox disabled; mailbox is disabled; mailbox is inactive; user disabled"),
    ("no_such_user", "that you tried to reach is disabled; that you tried to reach is inactive"),
    ("no_such_user", "recipient address rejected: access denied; not listed in domino"),
    ("mailbox_full", "quota; overquota; quotaexceeded; mailbox full; mailbox is full"),
    ("mailbox_full", "mailboxfull; inbox is full"),
    ("mailbox_full", "account is full; out of storage; exceeded storage allocation; storage limit"),
    ("mailbox_full", "mailbox size limit; maximum mailbox size"),
    ("policy", "message size; message too large; message too big; message is too large; size limit"),
    ("rate_limit", "too many; limit exceeded; exceeded limit; hourly limit; daily limit"),
    ("policy", "spam; virus; malware; phishing; unsolicited; suspicious; policy; policies; reputation"),
    ("policy", "banned; blocked; prohibited; access denied; not allowed; complaints"),
    # RFC 5321's sentence for 550, behind which another reason may stand.
    ("no_such_user", "mailbox unavailable"),
)
"""A reason and phrases that mean it. The first line that has a phrase in the text decides.

A phrase is whole words; case does not count, nor does anything but letters and digits. Words with an `@` are not read.
"""

PLAIN_CODES = (("no_such_user", "1.1"), ("mailbox_full", "2.2"), ("rate_limit", "7.28"))
"""Enhanced status codes, less their class, that are believed before any words."""

CODES = (
    *PLAIN_CODES,
    ("no_such_user", "1.0 1.3 1.4 1.6 2.1 7.13 7.17 7.18"),
    ("dns", "1.2 1.10 4.3 4.4"),
    ("policy", "1.7 1.8 2.3 3.4 7"),
    ("system", "3 4.6"),
    ("connect", "4.1"),
    ("connection_died", "4.2"),
    ("rate_limit", "4.5 5.3"),
    ("protocol", "5 6"),
    ("tls", "7.4 7.5 7.10 7.11 7.30"),
)
"""Enhanced status codes, less their class (RFC 3463 and IANA's registry): subject and detail, else the subject alone."""

REPLIES = (
    ("system", "421 451 452"),
    ("tls", "454"),
    ("protocol", "500 501 502 503 504 555"),
    ("policy", "530 535 541 554 571"),
    ("no_such_user", "550 551 553"),
    ("mailbox_full", "552"),
    ("dns", "556"),
)
"""SMTP reply codes (RFC 5321 and extensions). What blames the recipient is `policy` if not said of a recipient."""

OWN_PHRASES = (
    (b"but greeting failed", "greeting"),
    (b"but my name was rejected", "greeting"),
    (b"but sender was rejected", "policy"),
    (b"but connection died", "connection_died"),
    (b"establish an smtp connection", "connect"),
    (b"cname lookup failed", "dns"),
    (b"couldn't find any host", "dns"),
    (b"couldn't find a mail exchanger", "dns"),
    (b"best-preference mx", "system"),
    (b"out of memory", "system"),
    (b"system resources temporarily unavailable", "system"),
    (b"unable to ", "system"),
    (b"qmail-remote crashed", "system"),
    (b"qmail-remote produced no output", "system"),
)
"""What qmail says of itself, lower case; mostly a code follows it."""

# A report in the log has "/" for a newline, and "_" for every other byte of these; both forms are read as one.
_PLAIN = bytes(32 if byte < 33 or byte > 126 or byte in b"%_/" else byte for byte in range(256)).lower()
_WORDS = bytes(byte if byte < 128 and chr(byte).isalnum() else 32 for byte in range(256))

_SAID = b"remote host said: "
_GIVEN_UP = b"i'm not going to try again; this message has been in the queue too long."
# What the patch for STARTTLS says itself; what the host said may follow.
_TLS = (b"tls ", b"starttls ")
_GREETING = (b"but greeting failed. ", b"but my name was rejected. ")
_RECIPIENT = frozenset({"no_such_user", "mailbox_full"})
_ANSWERED = re.compile(
    rb"(?!sorry)(?:tls |starttls |.*?(?:remote host said: |connected to | accepted message"
    rb"| does not like recipient| failed on data| failed after ))"
)
_REPLY = re.compile(
    rb" *(?P<reply>[2-5][0-9]{2})(?:[- ] *#?[245]\.(?P<code>(?P<subject>[0-9]{1,3})\.[0-9]{1,3})\b(?!\.[0-9]))?"
)
_OWN_CODE = re.compile(rb"\(#[245]\.(?P<code>(?P<subject>[0-9]{1,3})\.[0-9]{1,3})\b")


def reason(report: bytes, channel: str = "remote") -> str:
    """Return why a delivery did not succeed: one of `REASONS`.

    The report is taken in its log form or as qmail-remote and qmail-local wrote it. Of the channel `local`, whose reports
    are written by qmail-local and by any program that a .qmail file names, only `no_such_user`, `mailbox_full` and
    `expired` are told apart, and the rest is `local`; every other channel counts as `remote`.
    """
    # The same few reports come again and again; long ones, which a stranger may vary at will, are not kept.
    return (_remembered if len(report) <= 300 else _find)(report, channel)


def answered(report: bytes) -> bool:
    """Tell whether a remote host took a connection: whether the network to it works, however the delivery ended.

    The report of a success may be asked too. One that quotes a domain begins with `Sorry` and is of no answer, so the
    name of a domain cannot pass for one.
    """
    return _ANSWERED.match(report.translate(_PLAIN)) is not None


def _find(report: bytes, channel: str) -> str:
    """Find the reason, by the channel and by who speaks in the report."""
    text = report.translate(_PLAIN)
    if text.rstrip().endswith(_GIVEN_UP):
        return "expired"
    if channel == "local":
        return _local(text)
    if text.startswith(_TLS):
        return "tls"
    head, spoke, said = text.partition(_SAID)
    if not spoke:
        return _own(text)
    found = _said(head, said)
    return "policy" if found in _RECIPIENT and b"sender was rejected" in head else found


def _local(text: bytes) -> str:
    """Find the reason of a local delivery."""
    code = _last_code(text)
    found = _PLAIN_CODE.get(code["code"]) if code else _by_words(text)
    return found if found in _RECIPIENT else "local"


def _own(text: bytes) -> str:
    """Find the reason in a report in which no other host spoke."""
    code = _last_code(text)
    if code and (found := _by_code(code)):
        return found
    return (
        next((found for phrase, found in OWN_PHRASES if phrase in text), None) or _by_words(text) or "other"
    )


def _said(head: bytes, said: bytes) -> str:
    """Find the reason in what a host said; the head, what qmail says before it, tells to which command."""
    reply = _REPLY.match(said)
    # qmail-smtpd puts its enhanced codes last, in parentheses.
    code = reply if reply and reply["code"] else _last_code(said)
    if code and (found := _PLAIN_CODE.get(code["code"])):
        return found
    if found := _by_words(said):
        return found
    if head.endswith(_GREETING):
        return "greeting"
    if code and (found := _by_code(code)):
        return found
    found = _REPLY_CODE.get(reply["reply"]) if reply else None
    return "policy" if found in _RECIPIENT and b"does not like recipient" not in head else found or "other"


def _last_code(text: bytes) -> re.Match[bytes] | None:
    """Find qmail's form of an enhanced status code, `(#5.1.1)`; what stands before the last may be a quotation."""
    start = text.rfind(b"(#")
    return _OWN_CODE.match(text, start) if start >= 0 else None


def _by_code(code: re.Match[bytes]) -> str | None:
    """Look an enhanced status code up, then its subject."""
    return _CODE.get(code["code"]) or _CODE.get(code["subject"])


def _by_words(text: bytes) -> str | None:
    """Look for the first line of `PHRASES` that has a phrase in the text."""
    if b"@" in text:
        text = b" ".join([word for word in text.split() if b"@" not in word])
    words = text.translate(_WORDS).split()
    starts = _STARTS.keys() & words
    if not starts:
        return None
    plain = b" %b " % b" ".join(words)
    lines = [line for start in starts for line, phrase in _STARTS[start] if phrase in plain]
    return PHRASES[min(lines)][0] if lines else None


def _by_first_word() -> dict[bytes, list[tuple[int, bytes]]]:
    """Index `PHRASES` by the first word of each phrase, so that a text with none of these is done with in one pass."""
    starts: dict[bytes, list[tuple[int, bytes]]] = {}
    for line, (_, phrases) in enumerate(PHRASES):
        for phrase in phrases.split(";"):
            words = phrase.encode("ascii").translate(_WORDS).split()
            starts.setdefault(words[0], []).append((line, b" %b " % b" ".join(words)))
    return starts


def _index(table: tuple[tuple[str, str], ...]) -> dict[bytes, str]:
    """Turn a table of reasons and their codes round."""
    return {code.encode("ascii"): reason for reason, codes in table for code in codes.split()}


_remembered = lru_cache(maxsize=2048)(_find)
_STARTS = _by_first_word()
_PLAIN_CODE = _index(PLAIN_CODES)
_CODE = _index(CODES)
_REPLY_CODE = _index(REPLIES)
