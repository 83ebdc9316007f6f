"""Follow a log into a model as the daemon does, and print what that took and what was counted, as JSON.

A process of its own, as mtail is: `python -m bench.follow LOG`.
"""

import json
import os
import sys
from collections import defaultdict
from pathlib import Path
from time import perf_counter, process_time

from qmail_exporter import collect
from qmail_exporter.collect import LogWatch
from qmail_exporter.formats.envelope import ChannelFile, Message, Sender
from qmail_exporter.formats.log import Starting, parse
from qmail_exporter.formats.prefix import Prefixes
from qmail_exporter.queue import Flow, Queue
from qmail_exporter.sources.logs import open_log

REASONS = ("connect", "dns", "expired", "greylist", "mailbox_full")
"""The reasons that the mtail program tells apart; all others are `other` here too."""


def main(path: str) -> None:
    """Measure, and print."""
    queue = Queue()
    _hold_all(queue, path)
    flow = Flow(queue)
    link = f"{path}.followed"
    log = LogWatch(lambda: open_log(link), {"default": flow})
    log.begin()
    while not log.recall():
        pass
    os.link(path, link)  # from now on the log is there, and every line of it new
    collect.spare()
    wall, cpu = perf_counter(), process_time()
    while (records := log.read()) or log.follower.behind:
        log.observe(records)
    queue.settle()
    wall, cpu = perf_counter() - wall, process_time() - cpu
    os.unlink(link)
    counts = _counts(flow)
    if log.unparsed or log.foreign or flow.unplaced:
        raise RuntimeError("not every line was understood, or not every deferral found its message")
    json.dump({"wall": wall, "cpu": cpu, "counts": counts}, sys.stdout)


def _hold_all(queue: Queue, path: str) -> None:
    """Have the model hold every message that the log names, so that deferrals find theirs."""
    recipients: dict[int, dict[str, set[bytes]]] = defaultdict(lambda: defaultdict(set))
    begin = 0.0
    with Path(path).open("rb") as log:
        for text, time in Prefixes().strip([line.rstrip(b"\n") for line in log], None, 0.0):
            begin = begin or time
            record = parse(text, time)
            if isinstance(record, Starting):
                recipients[record.msg][record.channel].add(record.recipient)
    arrival = int(begin) - 1
    for msg, channels in recipients.items():
        files = tuple(
            ChannelFile(channel, b"".join(b"T%b\0" % address for address in sorted(addresses)), arrival)
            for channel, addresses in channels.items()
        )
        queue.apply(msg, Message(arrival * 10**9, 1000, False, Sender.MAIL, arrival, arrival, files, False))


def _counts(flow: Flow) -> dict[str, float]:
    """What the mtail program counts as well, by its names."""
    traffic = flow.traffic
    counts: dict[str, float] = defaultdict(float)
    counts["messages"] = traffic.messages
    counts["message_bytes"] = traffic.message_bytes
    counts["messages_ended"] = traffic.messages_ended
    counts["restarts"] = traffic.restarts
    for kind, number in traffic.bounces.items():
        counts[f"bounces {kind}"] = number
    for channel, number in traffic.started.items():
        counts[f"deliveries_started {channel}"] = number
    for (channel, result), number in traffic.results.items():
        counts[f"deliveries {channel} {result}"] = number
    for (channel, result, reason), number in traffic.problems.items():
        counts[f"problems {channel} {result} {reason if reason in REASONS else 'other'}"] += number
    for use in flow.use:
        counts[f"concurrency_used {use.channel}"] = use.used
        counts[f"concurrency_limit {use.channel}"] = use.limit
    return {name: number for name, number in counts.items() if number}


if __name__ == "__main__":
    main(sys.argv[1])
