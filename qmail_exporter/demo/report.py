"""What a delivery comes to, in the words of qmail-remote, qmail-rspawn and qmail-local.

A report is what qmail-send gets from its spawners: a letter (K success, Z deferral, D failure) and lines that
each end in a newline (qmail-remote.c, qmail-rspawn.c, qmail-local.c).
"""

from typing import NamedTuple


class Outcome(NamedTuple):
    """How one attempt to deliver goes.

    Attributes:
        letter: K, Z or D; anything else is a mangled report.
        report: the text, as qmail-send gets it.
        duration: seconds from start to report.
        host: IPv4 address of the only host that is tried; empty where it does not come to that.
        timed_out: the connection to it timed out, which tcpto counts.
    """

    letter: str
    report: bytes
    duration: float = 0.05
    host: str = ""
    timed_out: bool = False


NO_CONNECTION = b"Sorry, I wasn't able to establish an SMTP connection. (#4.4.1)\n"
EXPIRED = b"I'm not going to try again; this message has been in the queue too long.\n"


def accepted(host: str, said: str, duration: float = 0.05) -> Outcome:
    """The host took the message."""
    return Outcome("K", f"{host} accepted message.\nRemote host said: {said}\n".encode(), duration, host)


def recipient_refused(host: str, said: str, duration: float = 0.05) -> Outcome:
    """The host refused the recipient: for good with a 5xx code, for now with 4xx."""
    text = f"{host} does not like recipient.\nRemote host said: {said}\nGiving up on {host}.\n"
    return Outcome(_letter(said), text.encode(), duration, host)


def message_refused(host: str, said: str, duration: float = 0.05) -> Outcome:
    """The host refused the message after it was sent."""
    text = f"{host} failed after I sent the message.\nRemote host said: {said}\n"
    return Outcome(_letter(said), text.encode(), duration, host)


def sender_refused(host: str, said: str, duration: float = 0.05) -> Outcome:
    """The host refused the sender."""
    text = f"Connected to {host} but sender was rejected.\nRemote host said: {said}\n"
    return Outcome(_letter(said), text.encode(), duration, host)


def greeting_failed(host: str, said: str, duration: float = 0.05) -> Outcome:
    """The host greeted with something else than 220: a deferral, whatever the code."""
    text = f"Connected to {host} but greeting failed.\nRemote host said: {said}\n"
    return Outcome("Z", text.encode(), duration, host)


def connection_died(host: str, duration: float = 0.05, *, critical: bool = False) -> Outcome:
    """The connection was lost; `critical`: after the message was sent and before the answer came."""
    doubt = "Possible duplicate! " if critical else ""
    text = f"Connected to {host} but connection died. {doubt}(#4.4.2)\n"
    return Outcome("Z", text.encode(), duration, host)


def timed_out(host: str, duration: float) -> Outcome:
    """The connection could not be made within `timeoutconnect` seconds, which is `duration`."""
    return Outcome("Z", NO_CONNECTION, duration, host, timed_out=True)


def refused(host: str, duration: float = 0.01) -> Outcome:
    """Nothing listens on the host's port 25. The same words as a time-out; tcpto does not count it."""
    return Outcome("Z", NO_CONNECTION, duration, host)


def skipped() -> Outcome:
    """The host is dead in tcpto, so it was not tried."""
    return Outcome("Z", NO_CONNECTION, 0.0)


def dns_temporary(duration: float = 0.05) -> Outcome:
    """The name servers did not answer."""
    return Outcome("Z", b"CNAME lookup failed temporarily. (#4.4.3)\n", duration)


def dns_permanent(domain: str, duration: float = 0.05) -> Outcome:
    """The domain does not exist."""
    return Outcome("D", f"Sorry, I couldn't find any host named {domain}. (#5.1.2)\n".encode(), duration)


def delivered(duration: float = 0.02) -> Outcome:
    """qmail-local put the message into a mailbox."""
    return Outcome("K", b"did 0+0+1\n", duration)


def no_mailbox(duration: float = 0.01) -> Outcome:
    """qmail-local found nobody of that name."""
    return Outcome("D", b"Sorry, no mailbox here by that name. (#5.1.1)\n", duration)


def mailbox_unready(duration: float = 0.01) -> Outcome:
    """qmail-local could not get into the maildir."""
    return Outcome("Z", b"Unable to chdir to maildir. (#4.2.1)\n", duration)


def _letter(said: str) -> str:
    return "D" if said.startswith("5") else "Z"
