import pytest

from qmail_exporter.formats.envelope import Sender
from qmail_exporter.listing.entry import Entry, Recipient
from qmail_exporter.listing.select import Top, Wanted, domain_criterion, in_order, placed, sender_criterion


def entry(msg: int = 1, *recipients: Recipient, **given: object) -> Entry:
    fields: dict[str, object] = {
        "queue": "default",
        "arrival": 1000.0,
        "birth": 1000,
        "size": 10,
        "sender": b"A@Mail.test",
        "kind": Sender.MAIL,
        "todo": False,
        "failed": False,
        "expires": 2000,
        "next_attempts": {},
        "whole": True,
        "log_complete": True,
    }
    return Entry(msg=msg, recipients=recipients, **(fields | given))  # type: ignore[arg-type]


WAITS = Recipient("remote", b"x@A.Example.")
DEFERRED = Recipient("remote", b"y@b.a.example", reason="greylist", attempts=3)
DONE = Recipient("remote", b"z@done.example", done=True, reason="greylist")
LOCAL = Recipient("local", b"u@mail.test")


@pytest.mark.parametrize(
    ("text", "criterion"),
    [("A.Example.", "a.example"), (".example", ".example"), ("(none)", "(none)"), ("b\xfccher", "b__cher")],
)
def test_domain_criterion(text: str, criterion: str) -> None:
    """A domain is written as the metrics write it; a dot before it stands for all below it."""
    assert domain_criterion(text) == criterion


@pytest.mark.parametrize("text", ["", ".", ".."])
def test_no_domain(text: str) -> None:
    """An empty domain is none."""
    with pytest.raises(ValueError, match="is no domain"):
        domain_criterion(text)


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("a@mail.TEST", True),
        ("@mail.test", True),
        ("@test", False),
        ("mail.test", False),
        ("<>", False),
        ("*", False),
    ],
)
def test_sender_criterion(text: str, fits: bool) -> None:
    """A sender fits its address and its domain, whole and without regard to case."""
    wanted = Wanted(senders=(sender_criterion(text),))
    assert (wanted.chosen(entry(1, WAITS), 0) is not None) == fits


def test_recipients_that_are_done_do_not_count() -> None:
    """A message is listed for its pending recipients only."""
    assert Wanted().chosen(entry(1, DONE, WAITS), 0) == [WAITS]
    assert Wanted(domains=("done.example",)).chosen(entry(1, DONE, WAITS), 0) is None
    assert Wanted(deferred=True).chosen(entry(1, DONE, WAITS), 0) is None


def test_one_recipient_must_fit_all() -> None:
    """Domain, channel and deferral are asked of the same recipient."""
    both = entry(1, WAITS, DEFERRED, LOCAL)
    assert Wanted(domains=("a.example",), deferred=True).chosen(both, 0) is None
    assert Wanted(domains=(".a.example",), deferred=True).chosen(both, 0) == [DEFERRED]
    assert Wanted(channels=("local",)).chosen(both, 0) == [LOCAL]


def test_age_has_an_edge() -> None:
    """Older than an hour is older than 3600 seconds."""
    wanted = Wanted(older_than=3600)
    assert wanted.chosen(entry(1, WAITS), 4600) is None
    assert wanted.chosen(entry(1, WAITS), 4601) is not None


def test_what_is_unknown_comes_last_either_way() -> None:
    """Messages whose next attempt is not known stand behind the others, also in reverse order."""
    rows = [
        (entry(msg, WAITS, next_attempts={"remote": due}), [WAITS])
        for msg, due in ((1, None), (2, 30), (3, 20))
    ]
    messages = [placed(row, "next", "") for row in rows]
    assert [message.msg for message in in_order(messages, "next", backwards=False)] == [3, 2, 1]
    assert [message.msg for message in in_order(messages, "next", backwards=True)] == [2, 3, 1]


def test_next_attempt_of_two_channels() -> None:
    """It is the earlier one, and unknown if one of them is."""
    assert entry(next_attempts={"local": 5, "remote": 4}).next_attempt == 4
    assert entry(next_attempts={"local": 5, "remote": None}).next_attempt is None
    assert entry(next_attempts={}).next_attempt is None


def test_top_counts_a_message_once_a_group() -> None:
    """Two recipients of one message at a domain are two recipients and one message."""
    top = Top("domains")
    top.add(entry(1, DEFERRED, DEFERRED), [DEFERRED, DEFERRED])
    top.add(entry(2, WAITS), [WAITS])
    found = {name: (group.recipients, group.messages, group.deferred) for name, group in top.most(None)}
    assert found == {"b.a.example": (2, 1, 2), "a.example": (1, 1, 0)}
    assert [name for name, _ in top.most(1)] == ["b.a.example"]


@pytest.mark.parametrize(
    ("given", "state"),
    [
        ({"todo": True, "birth": None}, "todo"),
        ({"birth": None}, "arriving"),
        ({"whole": False}, "unknown"),
        ({}, "ending"),
    ],
)
def test_state_without_recipients(given: dict[str, object], state: str) -> None:
    """Where a message stands is told by its files."""
    assert entry(1, **given).state == state


def test_state_with_recipients() -> None:
    """Where a preprocessed message stands is told by its pending recipients."""
    assert entry(1, WAITS, DONE).state == "waiting"
    assert entry(1, WAITS, DEFERRED).state == "deferred"
    assert entry(1, DEFERRED, Recipient("remote", b"x", trying=True)).state == "trying"
    assert entry(1, DONE).state == "ending"
