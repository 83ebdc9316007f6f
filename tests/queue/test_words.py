"""The last report of each domain, bounded."""

from hypothesis import given
from hypothesis import strategies as st

from qmail_exporter.formats.log import parse
from qmail_exporter.queue import Flow, Queue
from qmail_exporter.queue import words as module
from qmail_exporter.queue.words import LastWords, Said, Words

REPORT = b"192.0.2.1_does_not_like_recipient./Remote_host_said:_451_4.7.1_Greylisted/"


def told(flow: Flow, *lines: str) -> None:
    for place, line in enumerate(lines):
        flow.observe([parse(line.encode(), 100.0 + place)])


def test_deferral_and_failure_are_remembered() -> None:
    """The report of the last deferral or failure of a domain is kept with its time; a success changes nothing."""
    flow = Flow(Queue())
    told(
        flow,
        "starting delivery 1: msg 7 to remote joe@x.example",
        "delivery 1: deferral: first/",
        "starting delivery 2: msg 7 to remote joe@x.example",
        "delivery 2: failure: second/",
        "starting delivery 3: msg 7 to remote ann@x.example",
        "delivery 3: success: third/",
    )
    assert flow.words.get("x.example") == Said(Words(103.0, b"joe@x.example", b"second/"), None)
    assert len(flow.words) == 1


def test_what_the_host_said_outlasts_what_qmail_says() -> None:
    """Beside the last report the last one stays in which the remote host itself spoke."""
    words = LastWords()
    words.put("x.example", 1.0, b"a@x.example", REPORT)
    words.put("x.example", 2.0, b"b@x.example", b"Sorry,_no_connection./")
    said = words.get("x.example")
    assert said is not None
    assert (said.last.time, said.remote) == (2.0, Words(1.0, b"a@x.example", REPORT))


def test_local_words_are_not_kept() -> None:
    """A local delivery has no remote domain, and no words are kept of it."""
    flow = Flow(Queue())
    told(flow, "starting delivery 1: msg 7 to local joe@x.example", "delivery 1: deferral: full/")
    assert len(flow.words) == 0


def test_words_are_kept_while_recalling() -> None:
    """What the retained log tells is remembered, too, as it is of the present."""
    flow = Flow(Queue())
    with flow.recalling():
        told(
            flow,
            "starting delivery 1: msg 7 to remote joe@x.example",
            f"delivery 1: deferral: {REPORT.decode()}",
        )
    said = flow.words.get("x.example")
    assert said is not None
    assert said.last.report == REPORT


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.binary(max_size=3000)), max_size=50),
    st.integers(min_value=2, max_value=6),
)
def test_bounds(puts: list[tuple[str, bytes]], most: int) -> None:
    """There are never more domains than the limit, those heard of last stay, and no report or address is longer than its limit."""
    whole, module.MAX_DOMAINS = module.MAX_DOMAINS, most
    words = LastWords()
    try:
        for place, (domain, report) in enumerate(puts):
            words.put(domain, float(place), report, report + b"Remote_host_said:_no/")
            assert len(words) <= most
    finally:
        module.MAX_DOMAINS = whole
    for domain in list(dict.fromkeys(domain for domain, _ in reversed(puts)))[: most // 2]:
        said = words.get(domain)
        assert said is not None
        assert len(said.last.report) <= module.LONGEST >= len(said.last.recipient)
    assert words._remote.keys() <= words._last.keys()
