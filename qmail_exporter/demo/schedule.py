"""When qmail-send tries which message next: its priority queues (pqadd, pqstart, pqfinish, pqrun in qmail-send.c).

They live in memory. A clean exit leaves each channel file's next attempt in the file's mtime, whence the next
qmail-send takes it; after a kill, what was scheduled is due at the file's last change: now.
"""

import heapq
import os
from collections.abc import Iterator

from qmail_exporter.demo.host import CHANNELS, Host, Steps


class Schedule:
    """Messages by the time they are due, Unix seconds.

    Attributes:
        due: for each channel a heap of (time, message number).
        done: a heap of messages with no recipients left.
    """

    def __init__(self, host: Host) -> None:
        self.due: dict[str, list[tuple[int, int]]] = {channel: [] for channel in CHANNELS}
        self.done: list[tuple[int, int]] = []
        self._host = host

    def load(self) -> None:
        """Take in every preprocessed message of the queue (pqstart)."""
        for number in numbers(self._host, "info"):
            self._load(number)

    def add(self, number: int, channels: list[str]) -> None:
        """Let a message be due now in those channels; with none, it is done."""
        now = int(self._host.clock())
        for channel in channels:
            heapq.heappush(self.due[channel], (now, number))
        if not channels:
            heapq.heappush(self.done, (now, number))

    def all_due(self, now: int) -> None:
        """Let every message be due now, as SIGALRM does."""
        self.due = {channel: sorted((now, n) for _, n in due) for channel, due in self.due.items()}

    def make_due(self, number: int, channel: str) -> None:
        """Let one message be the next in a channel. Not a thing that qmail can do.

        Raises:
            ValueError: the message does not wait in that channel.
        """
        others = [entry for entry in self.due[channel] if entry[1] != number]
        if len(others) == len(self.due[channel]):
            raise ValueError(f"message {number} does not wait in {channel}")
        self.due[channel] = [(0, number), *sorted(others)]

    def save(self) -> Steps[None]:
        """Leave the times in the channel files (pqfinish); a message whose pass is open is not among them."""
        for channel in CHANNELS:
            for due, number in sorted(self.due[channel]):
                os.utime(self._host.path(channel, number), (due, due))
                yield f"{channel} utime"

    def _load(self, number: int) -> None:
        host = self._host
        if os.path.exists(host.path("todo", number)):
            return
        waiting = False
        for channel in CHANNELS:
            try:
                due = os.stat(host.path(channel, number)).st_mtime_ns // 10**9
            except FileNotFoundError:
                continue
            heapq.heappush(self.due[channel], (due, number))
            waiting = True
        if not waiting:
            self.add(number, [])


def numbers(host: Host, kind: str) -> Iterator[int]:
    """Yield the numbers of the files in a split directory."""
    for part in range(host.split):
        for name in os.listdir(f"{host.queue}/{kind}/{part}"):
            if name.isdecimal():
                yield int(name)
