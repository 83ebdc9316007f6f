"""What a queue's model does with single looks and lines, each case whole."""

from math import isqrt

import pytest

from qmail_exporter.formats import FormatError
from qmail_exporter.formats.envelope import ChannelFile, Message, Sender
from qmail_exporter.formats.retry import next_attempt
from qmail_exporter.queue import Queue
from qmail_exporter.queue.model import MAX_DEPARTED
from qmail_exporter.queue.sums import Sums

T0 = 1_795_340_000
SECOND = 10**9


def message(
    *files: tuple[str, bytes], birth: int | None = T0, changed: int = T0, arrival: int = T0
) -> Message:
    """A preprocessed message with these files."""
    channels = tuple(ChannelFile(channel, content, arrival) for channel, content in files)
    return Message(arrival * SECOND, 1000, False, Sender.MAIL, birth, changed, channels, False)


ONE = message(("remote", b"Ta@x.example\0"))
THREE = message(("remote", b"Ta@x.example\0Tb@y.example\0Tc@x.example\0"))


def oldest(queue: Queue, name: str) -> int | None:
    domain = queue.sums.domains.get(name)
    return domain.births.first() if domain and domain.births else None


@pytest.mark.parametrize(
    "files",
    [
        [("remote", b"Xa@x.example\0")],
        [("remote", b"\0")],
        [("remote", b"Ta@x.example\0Tb")],
        [("remote", b"Ta@x.example")],
        [("remote", b"Ta@x.example\0Xb@x.example\0")],
        [("local", b"Ta\0"), ("remote", b"Ta@x.example\0Tb")],
    ],
)
def test_what_is_not_qmails_changes_nothing(files: list[tuple[str, bytes]]) -> None:
    """A file in another format is an error, and leaves the model as it was, with or without that message in it."""
    queue = Queue()
    with pytest.raises(FormatError):
        queue.apply(7, message(*files))
    assert (len(queue), len(queue.sums.domains), queue.sums.bytes) == (0, 0, 0)
    queue.apply(7, ONE)
    with pytest.raises(FormatError):
        queue.apply(7, message(*files))
    assert (len(queue), queue.sums.domains.pending, queue.sums.bytes) == (1, 1, 1000)


@pytest.mark.parametrize("moment", [-(2**62), 2**62, 2**63 - 1])
def test_absurd_times_are_errors(moment: int) -> None:
    """A time that no row could hold, such as root may give a file, is an error and not a crash."""
    queue = Queue()
    queue.log_since = 0.0
    for bad in (
        ONE._replace(arrival_ns=moment),
        ONE._replace(birth=moment),
        ONE._replace(channels=(ChannelFile("remote", b"Ta\0", moment),)),
        ONE._replace(channels=(ChannelFile("remote", b"Ta\0Tb\0", moment),)),
    ):
        with pytest.raises(FormatError):
            queue.apply(7, bad)
    assert len(queue) == 0


@pytest.mark.parametrize("birth", [2**62 - 1, -(2**62) + 1, 0, 2**31])
def test_strange_times_are_held(birth: int) -> None:
    """Any other time is held, attempts at such a message are scheduled, and all of it goes away again."""
    queue = Queue()
    for found in (ONE, THREE):
        queue.apply(7, found._replace(birth=birth, info_changed=0))
        queue.started(7, "remote", b"a@x.example", T0 + 5.0)
        assert queue.sums.due[0].first() == birth + (min(isqrt(max(T0 + 5 - birth, 0)), 65535) + 20) ** 2
        queue.apply(7, None)
    assert queue.sums.due[0].first() is None


def test_files_without_a_birth_do_not_count() -> None:
    """What the channels' files say is not valid before `info` is, so nobody is pending then."""
    queue = Queue()
    queue.apply(7, message(("remote", b"Ta@x.example\0"), birth=None, changed=0))
    assert (len(queue), queue.sums.domains.pending, queue.sums.pending) == (1, 0, [])


def test_empty_file_is_no_file() -> None:
    """A channel's file that is empty counts nobody, alone or beside another."""
    queue = Queue()
    queue.apply(7, message(("remote", b"")))
    assert queue.sums.domains.pending == 0
    queue.apply(7, message(("local", b""), ("remote", b"Ta@x.example\0")))
    assert (queue.sums.domains.pending, queue.sums.channels) == (1, ["remote"])


def test_apply_tells_whether_anything_differs() -> None:
    """The same look twice differs once; a message that never was does not differ from one that is gone."""
    queue = Queue()
    for found in (ONE, THREE):
        assert queue.apply(7, found)
        assert not queue.apply(7, found)
        assert queue.apply(7, found._replace(failed=True))
    assert queue.apply(7, None)
    assert not queue.apply(7, None)


def test_touching_moves_the_schedule_from_the_next_attempt_on() -> None:
    """An attempt before the touch was scheduled by the birth as it was; one after it goes by the new birth."""
    for files in ([("remote", b"Ta@x.example\0")], [("remote", b"Ta@x.example\0Tb@x.example\0")]):
        queue = Queue()
        queue.apply(7, message(*files))
        queue.started(7, "remote", b"a@x.example", T0 + 100.0)
        assert queue.sums.due[0].first() == T0 + (10 + 20) ** 2
        queue.apply(7, message(*files, birth=T0 - 86400, changed=T0 + 200))
        assert queue.sums.due[0].first() == T0 + (10 + 20) ** 2
        queue.deferred(7, "remote", b"a@x.example", "connect", T0 + 101.0)
        queue.started(7, "remote", b"a@x.example", T0 + 300.0)
        assert queue.sums.due[0].first() == T0 - 86400 + (isqrt(86700) + 20) ** 2


def test_attempt_in_the_second_of_the_birth_goes_by_it() -> None:
    """A message tried in the very second in which its `info` was written is scheduled by that, not by the arrival."""
    queue = Queue()
    queue.apply(7, message(("remote", b"Ta@x.example\0"), arrival=T0 - 50))
    queue.started(7, "remote", b"a@x.example", T0 + 0.9)
    assert queue.sums.due[0].first() == T0 + 400


def test_attempt_told_after_the_touch_is_scheduled_as_it_was() -> None:
    """When the line of an attempt is read after a look has seen a later touch, the birth was still the arrival."""
    queue = Queue()
    queue.apply(7, message(("remote", b"Ta@x.example\0"), birth=T0 - 86400, changed=T0 + 200))
    queue.started(7, "remote", b"a@x.example", T0 + 100.0)
    assert queue.sums.due[0].first() == T0 + (10 + 20) ** 2


def test_pass_takes_each_recipient_once() -> None:
    """All deliveries of one pass over a file belong to one attempt; who is tried again begins the next."""
    queue = Queue()
    queue.apply(7, THREE)
    for begin in (10, 500, 2000):
        for at, name in enumerate((b"a@x.example", b"b@y.example", b"c@x.example")):
            queue.started(7, "remote", name, T0 + begin + 100.0 * at)
            queue.deferred(7, "remote", name, "connect", T0 + begin + 100.0 * at + 50)
            assert queue.sums.due[0].first() == T0 + (isqrt(begin) + 20) ** 2
    assert queue.sums.due[0].total == 1


def test_deferral_without_a_start_is_of_an_earlier_pass() -> None:
    """The same address twice, deferred in a pass whose start is not known: its two starts are one pass."""
    queue = Queue()
    queue.apply(7, message(("local", b"Ta\0Ta\0")))
    queue.deferred(7, "local", b"a", "local", T0 + 1.0)
    for time in (10, 11):
        queue.started(7, "local", b"a", T0 + float(time))
    assert queue.sums.due[0].first() == next_attempt(T0, T0 + 10, 10)


def test_long_pass_keeps_its_beginning() -> None:
    """A pass that takes longer than the time to the next attempt does not put that off: it is overdue."""
    queue = Queue()
    queue.apply(7, THREE)
    for at, name in enumerate((b"a@x.example", b"b@y.example", b"c@x.example")):
        queue.started(7, "remote", name, T0 + 1000.0 * at)
    assert queue.sums.due[0].first() == T0 + 400


def test_oldest_deferred_is_by_the_age_that_qmail_sees() -> None:
    """The oldest deferred message of a domain is the one with the earliest `info` mtime, one or many recipients."""
    queue = Queue()
    queue.apply(7, THREE._replace(birth=T0 - 50, info_changed=T0 + 9))
    queue.apply(8, ONE._replace(birth=T0 - 40, info_changed=T0 + 9))
    for msg in (7, 8):
        queue.deferred(msg, "remote", b"a@x.example", "connect", T0 + 1.0)
    queue.settle()
    assert (oldest(queue, "x.example"), oldest(queue, "y.example")) == (T0 - 50, None)
    queue.apply(7, None)
    assert oldest(queue, "x.example") == T0 - 40


def test_number_may_be_given_again() -> None:
    """What the log told of a message is not held against the next one of its number, however soon it comes."""
    queue = Queue()
    for found in (ONE, THREE):
        queue.apply(7, found)
        queue.deferred(7, "remote", b"a@x.example", "connect", T0 + 1.0)
        queue.apply(7, found._replace(arrival_ns=(T0 + 2) * SECOND))
        queue.deferred(7, "remote", b"a@x.example", "connect", T0 + 1.5)
        queue.settle()
        assert oldest(queue, "x.example") is None
        queue.apply(7, None)


def test_deferral_of_an_unknown_start_is_forgotten_too() -> None:
    """Where the log tells of a deferral, and not of the attempt, a new message of that number has neither."""
    queue = Queue()
    queue.apply(7, ONE)
    assert queue.deferred(7, "remote", b"a@x.example", "greylist", T0 + 9.0)
    assert sum(queue.sums.domains.deferred.values()) == 1
    queue.renew(7)
    assert sum(queue.sums.domains.deferred.values()) == 0


def test_arrival_is_that_of_the_message_that_was() -> None:
    """The arrival of a message that has gone, or whose number another one has got, is known for a while."""
    queue = Queue()
    assert queue.arrival(7) is None
    queue.apply(7, ONE)
    assert queue.arrival(7) == T0
    queue.apply(7, ONE._replace(arrival_ns=(T0 + 100) * SECOND))
    assert (queue.arrival(7), queue.arrival(7, T0 + 50), queue.arrival(7, T0 - 1)) == (T0 + 100, T0, None)
    queue.apply(7, None)
    assert (queue.arrival(7), queue.arrival(7, T0 + 50)) == (T0 + 100, None)
    queue.renew(7)
    assert queue.arrival(7) is None


def test_arrivals_of_the_gone_are_bounded() -> None:
    """Of the messages that have gone, so many are remembered and no more."""
    queue = Queue()
    for msg in range(1, MAX_DEPARTED + 2):
        queue.apply(msg, ONE)
        queue.apply(msg, None)
    assert (queue.arrival(1), queue.arrival(2), queue.arrival(MAX_DEPARTED + 1)) == (None, T0, T0)


def test_local_deferrals_are_of_no_domain() -> None:
    """A local recipient is pending in its channel, and counts for no domain, deferred or not."""
    queue = Queue()
    for content in (b"Ta@x.example\0", b"Ta@x.example\0Tb@x.example\0"):
        queue.apply(7, message(("local", content)))
        queue.deferred(7, "local", b"a@x.example", "local", T0 + 1.0)
        queue.settle()
        assert (queue.sums.pending, queue.sums.domains.pending) == ([content.count(b"T")], 0)
        assert not any(queue.sums.domains.deferred.values())


def test_deferral_of_who_is_done_does_not_count() -> None:
    """When the file already says that the recipient is done, an earlier deferral that the log tells of late is history."""
    queue = Queue()
    for content in (b"Da@x.example\0", b"Da@x.example\0Tb@x.example\0"):
        queue.apply(7, message(("remote", content)))
        assert queue.deferred(7, "remote", b"a@x.example", "connect", T0 + 1.0)
        queue.settle()
        assert not any(queue.sums.domains.deferred.values())


def test_message_that_went_before_it_was_settled() -> None:
    """A message with many recipients that goes between a deferral and the next reading leaves nothing."""
    queue = Queue()
    queue.apply(7, THREE)
    queue.deferred(7, "remote", b"a@x.example", "connect", T0 + 1.0)
    queue.apply(7, None)
    queue.settle()
    assert len(queue.sums.domains) == 0


def test_rescheduling_goes_by_parts() -> None:
    """Messages that come and go while all are scheduled anew, in steps, do no harm."""
    queue = Queue()
    for msg in range(1, 5000):
        queue.apply(msg, ONE)
    queue.log_since = T0 - 1.0
    for step, _ in enumerate(queue.reschedule()):
        queue.apply(5 * step + 1, None)
        queue.apply(100_000 + step, ONE)
    assert queue.sums.due[0].total == queue.sums.pending[0] == len(queue)


def test_rescheduling_is_left_out_where_it_changes_nothing() -> None:
    """A log that begins after all messages came, and tells of no start, makes no message due; all others may."""
    queue = Queue()
    queue.apply(7, ONE)
    queue.log_since = T0 + 1.0
    assert list(queue.reschedule()) == []
    queue.log_since = T0 + 0.5
    assert list(queue.reschedule()) != []
    assert queue.sums.due[0].total == 0
    queue.send_since = T0 + 5.0
    assert list(queue.reschedule()) != []
    assert queue.sums.due[0].sum == T0
    queue.log_since, queue.send_since = T0 + 9.0, None
    assert list(queue.reschedule()) != []
    assert queue.sums.due[0].total == 0


def test_channels_are_bounded() -> None:
    """More channels than a row can tell apart are an error."""
    sums = Sums(1)
    for number in range(255):
        assert sums.channel(f"c{number}") == number
    assert sums.channel("c7") == 7
    with pytest.raises(FormatError):
        sums.channel("one-more")


def test_the_log_brings_up_no_channel() -> None:
    """A channel that no file has is none, whatever the log names."""
    queue = Queue()
    queue.apply(7, THREE)
    queue.apply(8, ONE)
    for msg in (7, 8):
        queue.started(msg, "odd", b"a@x.example", T0 + 1.0)
        assert queue.deferred(msg, "odd", b"a@x.example", "connect", T0 + 2.0)
    assert queue.sums.channels == ["remote"]


def test_what_was_told_outlives_the_other_channel() -> None:
    """When one of two recipients is done and its file gone, what the log told of the other one still holds."""
    queue = Queue()
    both = message(("local", b"Tme\0"), ("remote", b"Ta b@x.example\0"))
    queue.apply(7, both)
    queue.started(7, "remote", b"a_b@x.example", T0 + 100.0)
    queue.deferred(7, "remote", b"a_b@x.example", "connect", T0 + 101.0)
    queue.apply(7, message(("remote", b"Ta b@x.example\0")))
    assert (oldest(queue, "x.example"), queue.sums.due[1].sum) == (T0, T0 + 900)
    queue.apply(8, both)
    queue.deferred(8, "remote", b"a_b@x.example", "connect", T0 + 101.0)
    queue.apply(8, message(("local", b"Tme\0")))
    assert queue.sums.domains.pending == 1
    queue.apply(8, message(("slow", b"Tme@y.example\0")))
    assert oldest(queue, "y.example") is None


def test_file_without_pending_recipients_has_no_next_attempt() -> None:
    """A file whose recipients are all done is about to be deleted, and is not tried again."""
    for content in (b"Da@x.example\0", b"Da@x.example\0Db@x.example\0"):
        queue = Queue()
        queue.send_since = T0 - 5.0
        queue.apply(7, message(("remote", content)))
        queue.started(7, "remote", b"a@x.example", T0 + 1.0)
        queue.log_since = T0 - 5.0
        assert len(list(queue.reschedule())) == len(list(queue.parts()))
        assert (queue.sums.due[0].total, queue.sums.done) == (0, [content.count(b"D")])
        queue.renew(7)
        queue.apply(7, None)
        assert (queue.sums.due[0].total, queue.sums.done) == (0, [0])


def test_new_start_ends_a_pass() -> None:
    """The first delivery after a start of qmail-send begins a pass, though the one before was cut short."""
    queue = Queue()
    queue.apply(7, THREE)
    queue.started(7, "remote", b"a@x.example", T0 + 10.0)
    queue.send_since = T0 + 500.0
    queue.started(7, "remote", b"a@x.example", T0 + 600.0)
    assert queue.sums.due[0].first() == T0 + (isqrt(600) + 20) ** 2


def test_membership() -> None:
    """A message is in the model while it is in the queue."""
    queue = Queue()
    queue.apply(7, ONE)
    assert (7 in queue, 8 in queue, list(queue)) == (True, False, [7])


def test_domain_shared_by_channels() -> None:
    """Recipients of one domain in two channels of a fork both wait for it."""
    queue = Queue()
    queue.apply(7, message(("remote", b"Ta@x.example\0"), ("slow", b"Tb@x.example\0")))
    for channel, name in (("remote", b"a@x.example"), ("slow", b"b@x.example")):
        queue.deferred(7, channel, name, "connect", T0 + 1.0)
    queue.settle()
    domain = queue.sums.domains.get("x.example")
    assert domain is not None
    assert (domain.pending, sum((domain.deferred or {}).values()), oldest(queue, "x.example")) == (2, 2, T0)
