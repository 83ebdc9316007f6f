"""What Prometheus scrapes and Alertmanager tells: recordings served, notifications noted."""

import asyncio
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from incidents.host import SCRAPE

_TITLE = re.compile(r"\[\w+(?: \d+)?\] qmail on (\S+)")
_FIRING = re.compile(r"^(CRITICAL|WARNING) (Qmail\w+): ", re.MULTILINE)
_OVER = re.compile(r"^Over: (Qmail\w+): ", re.MULTILINE)
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_PATIENCE = 30.0
_NOTHING = b""


class Notice(NamedTuple):
    """What came to a receiver about an alert of a host: `firing` or over; `moment` is in minutes of the run."""

    moment: float
    receiver: str
    host: str
    alert: str
    firing: bool
    text: str


class Stage:
    """An HTTP server that answers scrapes from recordings, and takes what Alertmanager sends.

    Args:
        frames: by host, what a scrape gets each minute; afterwards there is nothing to see.
        factor: how much faster than the real clock the run's is.
    """

    def __init__(self, frames: Mapping[str, Sequence[bytes | None]], factor: float) -> None:
        self.frames = frames
        self.factor = factor
        self.start = float("inf")
        self.notices: list[Notice] = []
        self.scrapes = 0
        self.scraped: set[str] = set()
        self.port = 0
        self.connections: set[Any] = set()  # transports
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def minutes(self) -> float:
        """The run's clock, in minutes since its start."""
        return (time.time() - self.start) * self.factor / 60

    def __enter__(self) -> "Stage":  # noqa: PYI034 - typing.Self came with Python 3.11
        self._thread.start()
        self._ready.wait(_PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE)

    def scrape(self, host: str) -> bytes | None:
        """Return the answer to a scrape of a host, gzipped; None if nobody answers."""
        self.scrapes += 1
        self.scraped.add(host)
        place = int(self.minutes * 60 / SCRAPE) if self.start <= time.time() else -1
        frames = self.frames[host]
        return frames[place] if 0 <= place < len(frames) else _NOTHING

    def take(self, receiver: str, body: bytes) -> None:
        """Take a notification."""
        moment, message = self.minutes, json.loads(body)
        read = from_webhook if receiver == "pager" else from_chat
        for host, alert, firing, text in read(message):
            self.notices.append(Notice(moment, receiver, host, alert, firing, text))

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            self._loop.create_server(lambda: _Connection(self), "127.0.0.1", 0)
        )
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for connection in self.connections:
            connection.abort()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()


class _Connection(asyncio.Protocol):
    """One connection: requests of Prometheus and Alertmanager, which are well-formed, one after the other."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._stage.connections.add(self._transport)

    def connection_lost(self, _: Exception | None) -> None:
        self._stage.connections.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end]
            found = _LENGTH.search(head)
            whole = end + 4 + (int(found[1]) if found else 0)
            if len(self._data) < whole:
                return
            body, self._data = self._data[end + 4 : whole], self._data[whole:]
            self._answer(head.split(b" ", 2)[1].decode(), body)

    def _answer(self, path: str, body: bytes) -> None:
        kind, _, name = path.strip("/").partition("/")
        if kind == "take":
            self._stage.take(name, body)
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            return
        frame = self._stage.scrape(name)
        if frame is None:
            self._transport.close()
            return
        coding = b"content-encoding: gzip\r\n" if frame else b""
        self._transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\n%bcontent-length: %d\r\n\r\n%b"
            % (coding, len(frame), frame)
        )


def from_webhook(message: dict[str, Any]) -> Iterator[tuple[str, str, bool, str]]:
    """Yield host, alert, whether it fires, and its text, of a message to a webhook."""
    for alert in message["alerts"]:
        labels = alert["labels"]
        text = f"{alert['annotations']['summary']} {alert['annotations']['description']}"
        yield labels.get("instance", ""), labels["alertname"], alert["status"] == "firing", text


def from_chat(message: dict[str, Any]) -> Iterator[tuple[str, str, bool, str]]:
    """Yield the same of a message to a chat, which has the words of the template."""
    (attachment,) = message["attachments"]
    found = _TITLE.match(attachment["title"])
    host, text = found[1] if found else "", attachment["text"]
    for name in sorted({name for _, name in _FIRING.findall(text)}):
        yield host, name, True, text
    for name in sorted(set(_OVER.findall(text))):
        yield host, name, False, text
