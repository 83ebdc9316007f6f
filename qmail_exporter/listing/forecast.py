"""When qmail-send tries a message next: the model of `queue`, asked about one message at a time."""

from collections.abc import Mapping

from qmail_exporter.formats.envelope import Message
from qmail_exporter.queue import Queue


class Forecast:
    """Next attempts, by the rules of `Queue`, so that they are those of the metrics.

    Args:
        log_since: from when on the log is known, Unix seconds; None if it is not.
        send_since: when qmail-send last started, as far as the log tells; None if it does not.
    """

    def __init__(self, log_since: float | None, send_since: float | None) -> None:
        self._queue = Queue(seats=0)
        self._queue.log_since = log_since
        self._queue.send_since = send_since

    def due(self, msg: int, message: Message, passes: Mapping[str, float]) -> dict[str, int | None]:
        """Return by channel when the message is tried next, Unix seconds; None where that cannot be known.

        A channel without a pending recipient is not there.  A time in the past means that it is due, and waits for its
        turn or for qmail-send to run.

        Args:
            msg: the message's number.
            message: its present state.
            passes: by channel, when the last attempt began.

        Raises:
            FormatError: a channel's file is not in qmail's format, or a time is absurd.
        """
        queue, sums = self._queue, self._queue.sums
        queue.apply(msg, message)
        try:
            for channel, began in passes.items():
                queue.started(msg, channel, b"", began)
            waiting = [channel for channel, number in sums.numbers.items() if sums.pending[number]]
            return {channel: sums.due[sums.numbers[channel]].first() for channel in waiting}
        finally:
            queue.apply(msg, None)
