import pytest

from qmail_exporter.formats.log import Delivery, End, New, Record, Starting
from qmail_exporter.listing import history
from qmail_exporter.listing.history import History

GREY = b"192.0.2.1_does_not_like_recipient./Remote_host_said:_451_4.7.1_Greylisted/"


def start(
    time: float, delivery: int, recipient: bytes = b"x@a.example", msg: int = 7, channel: str = "remote"
) -> Record:
    return Starting(time, delivery, msg, channel, recipient, b"")


def end(time: float, delivery: int, result: str = "deferral", report: bytes = GREY) -> Record:
    return Delivery(time, delivery, result, report, b"")


def told(*records: Record) -> History:
    found = History()
    found.observe(records)
    return found


def test_attempts_at_one_recipient() -> None:
    """Each start is an attempt; the last one's moment and the last deferral's reason are kept."""
    found = told(
        start(10, 1),
        end(11, 1),
        start(410, 2),
        end(411, 2, "deferral", b"Sorry,_I_wasn't_able_(#4.4.1)/"),
        start(1610, 3),
    )
    tried = found.tried(7, 0)["remote", b"x@a.example"]
    assert (tried.starts, tried.began) == (3, 1610)
    assert tried.outcome is not None
    assert tried.outcome.reason == "connect"
    assert found.passes(7) == {"remote": 1610}


def test_a_pass_begins_with_its_first_delivery() -> None:
    """The deliveries of one pass, however long they wait for their turn, have one beginning."""
    a, b = b"a@a.example", b"b@b.example"
    first = [start(10, 1, a), end(12, 1), start(15, 2, b), end(16, 2)]
    found = told(*first)
    assert found.passes(7) == {"remote": 10}
    found.observe([start(410, 3, a), start(415, 4, b)])
    assert found.passes(7) == {"remote": 410}
    assert {key[1]: tried.starts for key, tried in found.tried(7, 0).items()} == {a: 2, b: 2}


def test_same_address_twice_is_no_new_pass() -> None:
    """A second delivery to one address while the first is under way is one of the same pass."""
    found = told(start(10, 1, b"a@a"), start(11, 2, b"b@b"), start(12, 3, b"a@a"))
    assert found.passes(7) == {"remote": 10}


def test_pass_of_one_delivered_first_goes_on() -> None:
    """A pass whose first recipient was delivered still began with that one."""
    found = told(start(10, 1, b"a@a"), end(12, 1, "success", b"ok/"), start(13, 2, b"b@b"), end(14, 2))
    assert found.passes(7) == {"remote": 10}


def test_channels_are_apart() -> None:
    """Each channel has its own passes."""
    found = told(start(10, 1), start(20, 2, b"u@mail.test", channel="local"))
    assert found.passes(7) == {"remote": 10, "local": 20}


@pytest.mark.parametrize("last", [New(30, 7, b""), End(30, 7, b"")])
def test_an_ended_message_is_forgotten(last: Record) -> None:
    """After the end of a message, or where another begins under its number, nothing is left of it."""
    found = told(start(10, 1), end(11, 1), last)
    assert (found.tried(7, 0), found.passes(7)) == ({}, {})


def test_what_was_before_the_message_does_not_count() -> None:
    """Attempts earlier than a message's arrival were another one's, even if the log does not tell where it began."""
    assert told(start(10, 1), end(11, 1)).tried(7, 10.5) == {}


def test_outcomes_are_shared_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal outcomes are one object; beyond the bound only the reason is kept."""
    monkeypatch.setattr(history, "MAX_OUTCOMES", 2)
    records = []
    for number in range(5):
        report = GREY + b"%d" % (number if number > 1 else 0)
        records += [start(10, 1, msg=number), end(11, 1, report=report)]
    found = told(*records)
    outcomes = [found.tried(number, 0)["remote", b"x@a.example"].outcome for number in range(5)]
    assert outcomes[0] is outcomes[1]
    assert [outcome.report for outcome in outcomes if outcome] == [
        GREY + b"0",
        GREY + b"0",
        GREY + b"2",
        b"",
        b"",
    ]
    assert {outcome.reason for outcome in outcomes if outcome} == {"greylist"}


def test_open_deliveries_end_with_qmail_send() -> None:
    """It is a Flow: the open deliveries are those that have not ended."""
    assert len(told(start(10, 1), start(11, 2, b"b@b"), end(12, 1)).open) == 1
