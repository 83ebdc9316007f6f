import pytest

from qmail_exporter.formats.envelope import ChannelFile, Message, Sender
from qmail_exporter.formats.log import parse
from qmail_exporter.queue import Flow, Queue
from qmail_exporter.queue.flow import MAX_BORN, MAX_CHANNELS, MAX_OPEN, MAX_UNPLACED, Deferral

T0 = 1_795_340_000.0
IDLE = b"status: local 0/10 remote 0/20"


@pytest.fixture
def flow() -> Flow:
    return Flow(Queue())


def tell(flow: Flow, *lines: bytes, begin: float = T0, step: float = 1.0) -> None:
    """Give the lines of a log to the model, the first written at `begin` and each next `step` seconds later."""
    for number, line in enumerate(lines):
        flow.observe([parse(line, begin + number * step)])


def starting(delivery: int, msg: int = 7, channel: str = "remote", to: str = "a@x.example") -> bytes:
    return f"starting delivery {delivery}: msg {msg} to {channel} {to}".encode()


def hold(flow: Flow, msg: int = 7, content: bytes = b"Ta@x.example\0", arrival: int = int(T0) - 10) -> None:
    """Have the model hold a message."""
    files = (ChannelFile("remote", content, arrival),)
    found = Message(arrival * 10**9, 100, False, Sender.MAIL, arrival, arrival, files, False)
    flow.queue.apply(msg, found)


def deferred(flow: Flow) -> int:
    flow.queue.settle()
    return sum(flow.queue.sums.domains.deferred.values())


def test_delivery_counts_by_channel_and_result(flow: Flow) -> None:
    """A delivery that ends counts with its result, its duration and, of a remote one, its domain."""
    tell(flow, starting(1), b"delivery 1: success: 192.0.2.1_accepted_message./", begin=T0, step=2.5)
    tell(flow, starting(2, channel="local", to="me@here.example"), b"delivery 2: failure: no/")
    tell(
        flow,
        starting(3, to="b@X.example."),
        b"delivery 3: deferral: CNAME_lookup_failed_temporarily._(#4.4.3)/",
    )
    traffic = flow.traffic
    assert traffic.started == {"remote": 2, "local": 1}
    assert traffic.results == {("remote", "success"): 1, ("local", "failure"): 1, ("remote", "deferral"): 1}
    assert traffic.problems == {("local", "failure", "local"): 1, ("remote", "deferral", "dns"): 1}
    assert traffic.bounced == {"local": 1}
    assert traffic.domains.shown()["x.example"] == {"success": 1, "deferral": 1}
    assert traffic.durations["remote", "success"].sum == 2.5
    assert traffic.lines == {"starting": 3, "delivery": 3}
    assert (flow.open, flow.last) == ({}, T0 + 1)


def test_mangled_report_is_a_deferral(flow: Flow) -> None:
    """A report that qmail-send cannot read defers the recipient, for reasons of this system."""
    hold(flow)
    tell(flow, starting(1), b"delivery 1: report mangled, will defer")
    assert flow.traffic.results == {("remote", "deferral"): 1}
    assert flow.traffic.problems == {("remote", "deferral", "system"): 1}
    assert deferred(flow) == 1


def test_end_without_a_start_counts_as_unknown(flow: Flow) -> None:
    """A delivery that began before the log does has a result, but neither channel, duration nor domain."""
    tell(flow, b"delivery 9: deferral: Sorry,_I_wasn't_able_to_establish_an_SMTP_connection._(#4.4.1)/")
    assert flow.traffic.results == {("unknown", "deferral"): 1}
    assert flow.traffic.problems == {("unknown", "deferral", "connect"): 1}
    assert (flow.traffic.durations, flow.unplaced) == ({}, [])


def test_first_line_is_no_start(flow: Flow) -> None:
    """Wherever the log is begun to be read, an idle status line there does not count as a start."""
    tell(flow, IDLE)
    assert (flow.traffic.restarts, flow.queue.send_since) == (0, None)


def test_start_shows_as_zeros_that_follow_nothing(flow: Flow) -> None:
    """An idle status line after a delivery's end is usual; another one is a start, after which nothing is open."""
    tell(flow, starting(1), b"status: local 0/10 remote 1/20", b"delivery 1: success: ok/", IDLE)
    assert flow.traffic.restarts == 0
    tell(flow, IDLE, begin=T0 + 10)
    assert (flow.traffic.restarts, flow.queue.send_since) == (1, T0 + 10)


def test_killed_qmail_send_leaves_nothing_open(flow: Flow) -> None:
    """What was open when qmail-send was killed is not after its start; the numbers begin again at 1."""
    tell(flow, starting(1), b"status: local 0/10 remote 1/20", starting(2), b"status: local 0/10 remote 2/20")
    tell(flow, IDLE, begin=T0 + 100)
    assert (flow.open, flow.traffic.restarts) == ({}, 1)
    tell(flow, starting(1), b"delivery 1: success: ok/", begin=T0 + 200)
    assert flow.traffic.durations["remote", "success"].sum == 1.0


def test_numbers_that_start_again_replace_what_was_open(flow: Flow) -> None:
    """If the log misses the start, a number's second `starting` line is the one that its end belongs to."""
    tell(flow, starting(1), begin=T0)
    tell(flow, starting(1, msg=8), b"delivery 1: success: ok/", begin=T0 + 50)
    assert flow.traffic.durations["remote", "success"].sum == 1.0
    assert flow.traffic.forgotten == 0


def test_idle_is_idle(flow: Flow) -> None:
    """Zeros mean that nothing is open, even where a delivery's end was before them and another's was missed."""
    tell(flow, starting(1), starting(2), b"delivery 2: success: ok/", IDLE)
    assert (flow.open, flow.traffic.restarts) == ({}, 0)


def test_exit_and_start(flow: Flow) -> None:
    """A qmail-send that exits leaves nothing open, and the next status line is a start."""
    tell(flow, starting(1), b"status: local 0/10 remote 1/20 exitasap", b"delivery 1: success: ok/")
    tell(flow, b"status: local 0/10 remote 0/20 exitasap", b"status: exiting", begin=T0 + 5)
    assert (flow.traffic.restarts, [use.used for use in flow.use]) == (0, [0, 0])
    tell(flow, IDLE, begin=T0 + 7)
    assert (flow.traffic.restarts, flow.queue.send_since) == (1, T0 + 7)


def test_log_that_begins_with_an_exit(flow: Flow) -> None:
    """After `exiting`, even as the first line read, the next idle status is a start."""
    tell(flow, b"status: exiting", IDLE)
    assert flow.traffic.restarts == 1


def test_exitasap_and_delayed_jobs_are_no_start(flow: Flow) -> None:
    """Idle status lines of a qmail-send that is about to exit, or of an indimail that put a job off, are no starts."""
    tell(
        flow,
        IDLE,
        b"status: local 0/10 remote 0/20 exitasap",
        b"status: local 0/10 remote 0/20 delayed jobs=2 queue1",
    )
    assert flow.traffic.restarts == 0


def test_use_is_that_of_the_last_status(flow: Flow) -> None:
    """What is in use is what the last status line says."""
    tell(flow, b"status: local 1/10 remote 3/20", b"status: local 2/10 remote 255/255")
    assert [tuple(use) for use in flow.use] == [("local", 2, 10), ("remote", 255, 255)]


def test_bounces_count_when_their_message_comes(flow: Flow) -> None:
    """A bounce counts once its message is preprocessed; the sender tells which kind it is."""
    tell(flow, b"bounce msg 7 qp 500", b"bounce msg 8 qp 501", b"bounce msg 9 qp 502")
    assert flow.traffic.bounces == {}
    tell(
        flow,
        b"info msg 20: bytes 100 from <> qp 500 uid 0",
        b"info msg 21: bytes 200 from <#@[]> qp 501 uid 0",
        b"info msg 22: bytes 300 from <a@x.example> qp 502 uid 0",
        b"info msg 23: bytes 400 from <> qp 503 uid 0",
        b"info msg 24: bytes 500 from <> qp 500 uid 0",
    )
    assert flow.traffic.bounces == {"single": 1, "double": 1}
    assert flow.traffic.message_bytes == 1500


def test_discarded_bounces_count_by_kind(flow: Flow) -> None:
    """A triple bounce is discarded, and counts then; so does what forks discard."""
    tell(flow, b"triple bounce: discarding bounce/7", b"double bounce: discarding bounce/8 queue1")
    assert flow.traffic.bounces == {"triple": 1, "double": 1}


def test_complaints_count_by_severity_and_kind(flow: Flow) -> None:
    """Warnings and alerts count by what they are about."""
    tell(
        flow,
        b"alert: out of memory, sleeping...",
        b"warning: trouble in select",
        b"info: qmail-send: q: hello",
    )
    assert flow.traffic.complaints == {("alert", "out_of_memory"): 1, ("warning", "other"): 1}
    assert flow.traffic.lines == {"complaint": 2, "remark": 1}


def test_queue_time_is_from_new_to_end(flow: Flow) -> None:
    """A message's time in the queue is that between its `new` and its `end` line."""
    tell(flow, b"new msg 7", b"end msg 7", step=30.0)
    assert (flow.traffic.queue_time.sum, flow.traffic.messages, flow.traffic.messages_ended) == (30.0, 1, 1)


def test_queue_time_of_an_older_message_is_from_its_arrival(flow: Flow) -> None:
    """Where the log does not reach back to `new`, the arrival that the queue told counts, also just after the message went."""
    hold(flow, msg=7)
    hold(flow, msg=8)
    flow.queue.apply(8, None)
    tell(flow, b"end msg 7", b"end msg 8", b"end msg 9", step=0.0)
    assert (flow.traffic.queue_time.sum, sum(flow.traffic.queue_time.counts)) == (20.0, 2)


def test_number_of_the_next_message_does_not_count(flow: Flow) -> None:
    """An end that is read when the next message has got the number is not timed by that one's arrival."""
    hold(flow, msg=7, arrival=int(T0) + 5)
    tell(flow, b"end msg 7")
    assert sum(flow.traffic.queue_time.counts) == 0


def test_message_from_1970() -> None:
    """A `new` line at second 0 is one like any other."""
    flow = Flow(Queue())
    tell(flow, b"new msg 7", b"end msg 7", begin=0.0)
    assert flow.traffic.queue_time.sum == 1.0


def test_new_forgets_what_the_number_meant(flow: Flow) -> None:
    """A deferral is of the message that had the number then, not of the one that begins now."""
    hold(flow)
    tell(flow, starting(1), b"delivery 1: deferral: x/")
    assert deferred(flow) == 1
    tell(flow, b"new msg 7", begin=T0 + 50)
    assert deferred(flow) == 0


def test_deferral_of_a_message_not_held_waits(flow: Flow) -> None:
    """A deferral that the model has no message for waits for a look at it."""
    tell(
        flow,
        starting(1, msg=9),
        b"delivery 1: deferral: Sorry,_I_wasn't_able_to_establish_an_SMTP_connection._(#4.4.1)/",
    )
    assert flow.unplaced == [Deferral(9, "remote", b"a@x.example", "connect", T0 + 1)]
    hold(flow, msg=9)
    assert flow.queue.deferred(*flow.unplaced[0])
    assert deferred(flow) == 1


def test_recalled_lines_give_state_and_no_counts(flow: Flow) -> None:
    """Old lines tell what is open, in use and deferred, and when qmail-send started, and count nothing."""
    hold(flow)
    with flow.recalling():
        tell(
            flow,
            IDLE,
            IDLE,
            b"new msg 7",
            starting(1),
            b"delivery 1: deferral: x/",
            starting(2),
            b"bounce msg 8 qp 5",
        )
    assert not any(
        (
            flow.traffic.lines,
            flow.traffic.started,
            flow.traffic.results,
            flow.traffic.restarts,
            flow.traffic.messages,
        )
    )
    assert (deferred(flow), list(flow.open), flow.queue.send_since) == (1, [2], T0 + 1)
    tell(
        flow,
        b"delivery 2: success: ok/",
        b"end msg 7",
        b"info msg 9: bytes 1 from <> qp 5 uid 0",
        begin=T0 + 100,
    )
    assert flow.traffic.results == {("remote", "success"): 1}
    assert flow.traffic.durations["remote", "success"].sum == 95.0
    assert flow.traffic.queue_time.sum == 99.0
    assert flow.traffic.bounces == {"single": 1}


def test_recalling_ends_with_an_error_too(flow: Flow) -> None:
    """Whatever happens while old lines are read, lines count again after."""
    with pytest.raises(ZeroDivisionError), flow.recalling():
        raise ZeroDivisionError
    tell(flow, IDLE)
    assert flow.traffic.lines == {"status": 1}


def test_open_deliveries_are_bounded(flow: Flow) -> None:
    """A log without ends fills the memory of open deliveries to a limit; each given up is counted."""
    for number in range(1, MAX_OPEN + 4):
        tell(flow, starting(number))
    tell(flow, starting(4))
    assert (len(flow.open), flow.traffic.forgotten, min(flow.open)) == (MAX_OPEN, 3, 4)
    tell(flow, starting(MAX_OPEN + 4))
    assert (len(flow.open), flow.traffic.forgotten, min(flow.open)) == (MAX_OPEN, 4, 4)
    assert 5 not in flow.open


def test_births_are_bounded(flow: Flow) -> None:
    """A log without ends fills the memory of arrivals to a limit."""
    for msg in range(1, MAX_BORN + 3):
        tell(flow, b"new msg %d" % msg)
    assert len(flow._born) == MAX_BORN
    tell(flow, b"end msg 1", b"end msg 3")
    assert sum(flow.traffic.queue_time.counts) == 1


def test_bounces_waited_for_are_bounded(flow: Flow) -> None:
    """Bounces whose messages never come are given up."""
    for qp in range(MAX_OPEN + 5):
        tell(flow, b"bounce msg 7 qp %d" % qp)
    assert len(flow._bounces) == MAX_OPEN


def test_unplaced_deferrals_are_bounded(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody takes them out, the older half of the waiting deferrals is given up at a limit."""
    assert MAX_UNPLACED > 1000
    monkeypatch.setattr("qmail_exporter.queue.flow.MAX_UNPLACED", 4)
    for msg in range(1, 6):
        tell(flow, starting(1, msg=msg), b"delivery 1: deferral: x/")
    assert [deferral.msg for deferral in flow.unplaced] == [3, 4, 5]


def test_channels_are_bounded(flow: Flow) -> None:
    """However many channels a log names, the labels of the counters are few."""
    for number in range(MAX_CHANNELS + 8):
        tell(flow, starting(1, channel=f"c{number}"), b"delivery 1: success: ok/")
    assert len(flow.traffic.started) == len(flow.traffic.results) == MAX_CHANNELS + 1
    assert flow.traffic.started["unknown"] == flow.traffic.results["unknown", "success"] == 8


def test_ends_of_remote_deliveries_are_passed_on(flow: Flow) -> None:
    """Who asks is told of each delivery that ends, on any channel but `local`, and of old ones too; not of unknown ones."""
    heard: list[tuple[str, bytes, str, str, float, float]] = []
    flow.on_delivery = lambda *told: heard.append(told)
    with flow.recalling():
        tell(flow, starting(1), b"delivery 1: success: ok/")
    tell(
        flow,
        starting(1, channel="slow", to="b@Y.example"),
        b"delivery 1: report mangled, will defer",
        step=3.0,
    )
    tell(flow, starting(1, channel="local"), b"delivery 1: success: ok/", b"delivery 2: success: ok/")
    assert heard == [
        ("x.example", b"ok/", "success", "", T0 + 1, 1.0),
        ("y.example", b"", "deferral", "system", T0 + 3, 3.0),
    ]


def test_no_records_tell_nothing() -> None:
    """Where no line came, the time of the last one stays unknown."""
    flow = Flow(Queue())
    flow.observe([])
    assert flow.last is None
    assert not flow.traffic.lines
