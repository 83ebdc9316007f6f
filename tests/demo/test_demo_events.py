"""The order of inotify events is that of the recorded notqmail, message by message."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

RECORDED = Path(__file__).parents[1] / "data" / "recorded"
Event = tuple[str, str]
QUEUE_MAKES = {
    ("intd", "CREATE"),
    ("intd", "MODIFY"),
    ("intd", "CLOSE_WRITE"),
    ("todo", "CREATE"),
    ("mess", "CREATE"),
}


def by_message(events: Iterable[tuple[str, str, str]]) -> list[list[Event]]:
    """Group events by message, in the order of the messages' arrival; repeated events become one.

    A message's number is reused when it has ended, and its `pid` file has another name. What an admin's touch causes
    is left out, as are messages whose beginning is not among the events.
    """
    messages: list[list[Event]] = []
    current: dict[str, list[Event]] = {}
    receiving: str | None = None
    for directory, event, name in events:
        kind = directory.partition("/")[0]
        if kind == "lock" or event == "ATTRIB":
            continue
        if (kind, event) == ("pid", "CREATE"):
            receiving = name
            current[name] = []
            messages.append(current[name])
        elif (kind, event) == ("mess", "CREATE") and receiving:
            current[name] = current[receiving]
            receiving = None
        if name in current and current[name][-1:] != [(kind, event)]:
            current[name].append((kind, event))
    return messages


def split(message: list[Event]) -> tuple[list[Event], list[Event]]:
    """Separate what qmail-queue did from what qmail-send and qmail-clean did: they run at the same time."""
    queue = [event for event in message if event[0] == "pid" or event in QUEUE_MAKES]
    return queue, [event for event in message if event not in queue]


def recorded() -> list[list[Event]]:
    """Return the messages of all rounds."""
    messages = []
    for path in sorted(RECORDED.glob("*/events.txt")):
        events = (line.split(" ", 3) for line in path.read_text().splitlines())
        messages += by_message((directory, event, name) for _, directory, event, name in events)
    return messages


def script(message: list[Event]) -> list[bytes]:
    """Work out recipients, and how and when each attempt must end, for a message's events to come about.

    Success and failure mark the record, a failure after writing to `bounce`; a channel whose file stays has a
    recipient that is deferred. A channel written to before `info` is closed has more than 1024 bytes of recipients.
    """
    send = split(message)[1]
    started = send.index(("todo", "DELETE"))
    early = send[: send.index(("info", "CLOSE_WRITE"))]
    channels = [kind for kind, event in early if event == "CREATE" and kind != "info"]
    recipients: dict[str, list[bytes]] = {channel: [] for channel in channels}
    failing = False
    for count, (kind, event) in enumerate(send[started:]):
        failing = failing or kind == "bounce"
        if kind in channels and event == "CLOSE_WRITE":
            way = b"fail" if failing else b"ok"
            recipients[kind].append(b"%b-%d" % (way, count + 1))
            failing = False
    for channel, boxes in recipients.items():
        if (channel, "DELETE") not in send:
            boxes.append(b"defer-1")
        filler = b"." + b"x" * 900 if (channel, "MODIFY") in early else b""
        host = (
            b"@mail.test"
            if channel == "local" and not filler
            else b"@" + channel.encode() + filler + b".example"
        )
        recipients[channel] = [box + host for box in boxes]
    first = [recipients[channel].pop(0) for channel in channels]
    return first + [recipient for boxes in recipients.values() for recipient in boxes]


MESSAGES = recorded()


def test_recordings_hold_every_kind_of_message() -> None:
    """The recordings have messages delivered, bounced, deferred, in both channels, and of many recipients."""
    sends = [split(message)[1] for message in MESSAGES]
    assert len(sends) > 100
    assert any(("bounce", "DELETE") in send for send in sends)
    assert any(("remote", "CREATE") in send and ("remote", "DELETE") not in send for send in sends)
    assert any(("remote", "DELETE") in send and ("local", "DELETE") in send for send in sends)
    assert max(send.count(("remote", "CLOSE_WRITE")) for send in sends) > 20


@pytest.mark.parametrize("message", MESSAGES, ids=range(len(MESSAGES)))
def test_simulated_events_are_those_recorded(message: list[Event], simulate: Any, record: Any) -> None:
    """A message with the same recipients and the same reports causes the recorded events in the recorded order."""
    domains = [b"local." + b"x" * 900 + b".example"]
    simulation = simulate(stamp_files=False, concurrency={"local": 400, "remote": 400}, local_domains=domains)
    recorder = record(simulation.home / "queue")
    body = b"x" * (400 if message.count(("pid", "MODIFY")) else 0)
    simulation.send(*script(message), body=body)
    simulation.qmail.run_until(simulation.clock.now + 390)
    simulated = by_message(recorder.events())[0]
    assert split(simulated) == split(message)


def test_script_of_a_bounce() -> None:
    """A failed recipient is told by the write to `bounce` before the mark."""
    message = next(message for message in MESSAGES if ("bounce", "DELETE") in message)
    assert any(recipient.startswith(b"fail-") for recipient in script(message))
