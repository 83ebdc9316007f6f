"""Every metric of the contract: its name, type and labels, absent where it is not known, valid in every format."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from qmail_exporter.collect import Collection
from qmail_exporter.metrics import FAMILIES, QmailCollector
from qmail_exporter.sources.host import Process, Processes
from rig import Rig, answer, family, samples, series, settle, watching

MakeRig = Callable[..., Rig]
GOLDEN = Path(__file__).parent / "data" / "golden"
"""To write the files anew, after a look at what differs: `python tests/test_metrics.py`."""

CONTRACT = """
qmail_up gauge
qmail_queue_messages gauge
qmail_queue_todo_messages gauge
qmail_queue_bytes gauge
qmail_queue_recipients gauge channel status
qmail_queue_bounce_messages gauge kind
qmail_queue_failed_messages gauge
qmail_queue_message_age_seconds gaugehistogram kind
qmail_queue_oldest_message_timestamp_seconds gauge
qmail_queue_oldest_arrival_timestamp_seconds gauge
qmail_queue_expiring_messages gauge within
qmail_queue_next_attempt_seconds gaugehistogram channel
qmail_queue_orphan_messages gauge
qmail_domain_pending_recipients gauge domain
qmail_domain_deferred_recipients gauge domain reason
qmail_domain_oldest_deferred_timestamp_seconds gauge domain
qmail_messages_total counter
qmail_message_bytes_total counter
qmail_messages_ended_total counter
qmail_deliveries_started_total counter channel
qmail_deliveries_total counter channel result
qmail_delivery_problems_total counter channel result reason
qmail_domain_deliveries_total counter domain result
qmail_bounces_total counter kind
qmail_bounced_recipients_total counter reason
qmail_delivery_duration_seconds histogram channel result
qmail_message_queue_time_seconds histogram
qmail_concurrency_used gauge channel
qmail_concurrency_limit gauge channel
qmail_send_alerts_total counter kind
qmail_send_warnings_total counter kind
qmail_send_restarts_total counter
qmail_tcpto_hosts gauge state
qmail_tcpto_slots gauge
qmail_tcpto_latest_timeout_timestamp_seconds gauge
qmail_process_up gauge program
qmail_process_cpu_seconds_total counter program
qmail_process_resident_memory_bytes gauge program
qmail_process_open_fds gauge program
qmail_process_start_time_seconds gauge program
qmail_running_deliveries gauge channel
qmail_queue_filesystem_size_bytes gauge
qmail_queue_filesystem_free_bytes gauge
qmail_queue_filesystem_size_inodes gauge
qmail_queue_filesystem_free_inodes gauge
qmail_control_queuelifetime_seconds gauge
qmail_control_concurrency gauge channel
qmail_control_smtproutes gauge
qmail_double_bounces_total counter domain
qmail_double_bounce_duplicates_total counter
qmail_double_bounce_other_messages_total counter
qmail_double_bounce_unparsed_lines_total counter
qmail_outage_state gauge state
qmail_outages_total counter
qmail_outage_last_start_timestamp_seconds gauge
qmail_outage_last_clear_timestamp_seconds gauge
qmail_hook_runs_total counter action result
qmail_hook_skipped_total counter reason
qmail_hook_last_run_timestamp_seconds gauge action
qmail_exporter_source_up gauge source
qmail_exporter_source_errors_total counter source kind
qmail_exporter_events_total counter
qmail_exporter_event_overflows_total counter
qmail_exporter_rescans_total counter reason
qmail_exporter_rescan_drift_messages_total counter
qmail_exporter_scan_progress_ratio gauge
qmail_exporter_scan_duration_seconds gauge
qmail_exporter_pending_looks gauge
qmail_exporter_log_lines_total counter kind
qmail_exporter_log_unparsed_lines_total counter
qmail_exporter_log_lag_seconds gauge
qmail_exporter_log_backfill_progress_ratio gauge
qmail_exporter_log_last_line_timestamp_seconds gauge
"""
OPTIONAL = ("qmail_outage", "qmail_hook", "qmail_double_bounce")
"""Of the hook, and of the log of double bounces, where there is one."""
HOSTILE = (b'a@"quoted\\"', b"a@new\nline.example", b"a@caf\xc3\xa9.example", b"a@\xff\xfe", b"a@" + b"x" * 900, b"a@", b"none",
           b"a@(other)", b"a@{}", b"a@\x1b[31m", b"a@#", b"a@ ", b"a@A.example", b"a@a.example.", b"a@[192.0.2.1]", b"a@%00")  # fmt: skip


def populate(made: Rig) -> None:
    """Give a queue something of everything."""
    for sender in (b"a@mail.test", b"", b"#@[]"):
        made.send(
            b"ok@x.example",
            b"defer@x.example",
            b"fail@y.example",
            b"hole-30@z.example",
            b"joe",
            sender=sender,
        )
    made.send(b"full@x.example", age=500_000)
    made.qmail.run_until(made.clock.now + 5000)
    made.send(b"ok-60@x.example", b"defer@mail.test", b"fail@mail.test")
    made.qmail.pump()
    made.log(b"alert: unable to append to bounce message")
    made.log(b"warning: trouble opening remote/1/2; will try again later")
    made.send(b"defer@w.example")


@pytest.fixture
def populated(rig: MakeRig) -> tuple[Rig, Collection]:
    """A queue with something of everything, and a collection that followed all of it."""
    made = rig()
    collection = made.collection()
    settle(collection)
    populate(made)
    settle(collection)
    return made, collection


def registry(collection: Collection, now: float) -> CollectorRegistry:
    """Return a registry of the collection's metrics at some moment."""
    made = CollectorRegistry()
    made.register(QmailCollector(collection, lambda: now))
    return made


def test_contract_is_kept() -> None:
    """Names, types and labels are those of the documentation, no more and no less; each has a sentence of help."""
    found = [" ".join((f.name, f.kind, *f.labels)) for f in FAMILIES]
    assert found == CONTRACT.split("\n")[1:-1]
    assert all(f.help.endswith(".") for f in FAMILIES)
    assert len({f.name for f in FAMILIES}) == len(FAMILIES)


def test_every_family_is_shown(populated: tuple[Rig, Collection]) -> None:
    """On a queue with something of everything each family has samples, with its labels and `queue`."""
    made, collection = populated
    add_processes(collection)
    shown = {metric.name: metric for metric in QmailCollector(collection, made.clock).collect()}
    for expected in FAMILIES:
        metric = shown.get(expected.name.removesuffix("_total"))
        if metric is None:
            assert expected.name.startswith(OPTIONAL)
            continue
        assert metric.type == expected.kind
        for sample in metric.samples:
            assert set(sample.labels) - {"le"} == {"queue", *expected.labels}
            assert all(sample.labels.values())


def add_processes(collection: Collection) -> None:
    """Have the host's processes be those of a qmail, some of whose facts may not be known."""
    found = [Process("qmail-send", 1.5, 4096, 9, 1.7e9), Process("qmail-clean", None, None, None, None)]
    collection.hosts["default"].processes = Processes(found, {"local": 0, "remote": 3})


def test_processes_are_shown_as_far_as_they_are_known(populated: tuple[Rig, Collection]) -> None:
    """Each program is up or not; a fact that this user may not know is absent, and is no zero."""
    made, collection = populated
    add_processes(collection)
    seen = made.series(collection)
    up = family(seen, "qmail_process_up")
    assert {program for (program,), is_up in up.items() if is_up} == {"qmail-send", "qmail-clean"}
    assert len(up) == 4
    assert family(seen, "qmail_process_open_fds") == {("qmail-send",): 9.0}
    assert family(seen, "qmail_running_deliveries") == {("local",): 0.0, ("remote",): 3.0}


def test_text_and_openmetrics_agree(populated: tuple[Rig, Collection]) -> None:
    """Both formats, parsed by prometheus_client's own parsers, have the same samples."""
    made, collection = populated
    shown = registry(collection, made.clock.now)
    text = samples(parse_text(generate_latest(shown).decode()))
    openmetrics = samples(parse_openmetrics(generate_openmetrics(shown).decode()))
    assert text == openmetrics == samples(QmailCollector(collection, made.clock).collect())
    assert len(text) > 300


def test_hostile_names_are_valid_labels(rig: MakeRig) -> None:
    """Whatever stands behind an address's last @ is one label value in both formats, and none is there twice."""
    made = rig(respond=lambda *_: answer("", b"defer@x", 0.0))
    collection = made.collection()
    settle(collection)
    for address in HOSTILE:
        made.send(address)
    made.qmail.run_until(made.clock.now + 2)
    settle(collection)
    shown = registry(collection, made.clock.now)
    text = samples(parse_text(generate_latest(shown).decode()))
    assert text == samples(parse_openmetrics(generate_openmetrics(shown).decode()))
    remote = sum(
        len(m.channels["remote"].pending)
        for m in made.qmail.ledger.messages.values()
        if "remote" in m.channels
    )
    assert sum(family(text, "qmail_domain_pending_recipients").values()) == remote
    assert sum(family(text, "qmail_domain_deferred_recipients").values()) == remote
    assert all(
        name.isprintable() and len(name) < 300 for (name,) in family(text, "qmail_domain_pending_recipients")
    )


def test_one_name_can_be_asked_for(populated: tuple[Rig, Collection]) -> None:
    """`name[]` gives the series of that name alone, for gauges, counters and histograms, and works before the first scan."""
    made, collection = populated
    shown = registry(collection, made.clock.now)
    for name in (
        "qmail_up",
        "qmail_messages_total",
        "qmail_queue_message_age_seconds_bucket",
        "qmail_exporter_build_info",
    ):
        found = samples(shown.restricted_registry([name]).collect())
        assert found
        assert {sample for sample, _ in found} == {name}
    assert registry(made.collection(), 0.0).restricted_registry(["qmail_up"])


def test_unknown_is_absent(rig: MakeRig, tmp_path: Path) -> None:
    """Of a host with nothing on it the exporter shows its own series, and that the queue is not up; no zero stands for no."""
    made = rig(start=False)
    collection = watching([tmp_path / "none"])
    settle(collection)
    found = {name for name, _ in series(collection, made.clock.now)}
    assert {name for name in found if not name.startswith("qmail_exporter_")} <= {
        "qmail_up",
        "qmail_process_up",
    }
    collection.close()


def test_recipients_beyond_the_seats_are_the_others(rig: MakeRig) -> None:
    """With fewer seats than domains the sums stay: what has no seat is in (other)."""
    made = rig()
    for number in range(30):
        made.send(b"defer@d%02d.example" % number, b"full@d%02d.example" % number)
    made.qmail.run_until(made.clock.now + 3)
    collection = made.collection(seats=4)
    settle(collection)
    seen = made.series(collection)
    pending = family(seen, "qmail_domain_pending_recipients")
    assert len(pending) == 5
    assert pending["(other)",] == 52
    deferred = family(seen, "qmail_domain_deferred_recipients")
    assert deferred["(other)", "greylist"] == deferred["(other)", "mailbox_full"] == 26
    assert sum(deferred.values()) == 60


def calls(work: Callable[[], object]) -> int:
    """Return how many Python functions a piece of work calls."""
    count = 0

    def profile(_: FrameType, event: str, __: Any) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def add(made: Rig, msg: int, address: bytes) -> None:
    """Put a preprocessed message that was deferred into the queue, faster than qmail would."""
    for kind, content in (
        ("mess", b"Hello.\n"),
        ("info", b"Fa@mail.test\0"),
        ("remote", b"T" + address + b"\0"),
    ):
        path = made.qmail.path(kind, msg)
        path.write_bytes(content)
        os.utime(path, (made.clock.now - msg % 900,) * 2)
    made.log(b"starting delivery %d: msg %d to remote %b" % (msg, msg, address))
    made.log(
        b"delivery %d: deferral: 192.0.2.1_does_not_like_recipient./Remote_host_said:_451_4.7.1_Greylisted/"
        % msg
    )


@pytest.mark.slow
def test_cost_of_a_scrape_does_not_grow_with_the_queue(rig: MakeRig, in_memory: Path) -> None:
    """A scrape at 10,000 messages calls as many functions as one at 100, with the same domains."""
    found = []
    for messages in (100, 10_000):
        made = rig(home=in_memory / str(messages))
        for msg in range(1, messages + 1):
            add(made, msg, b"x@d%02d.example" % (msg % 20))
        collection = made.collection()
        settle(collection)

        def scrape(collection: Collection = collection, made: Rig = made) -> None:
            collection.refresh(1.0)
            generate_latest(registry(collection, made.clock.now))

        scrape()
        assert (
            family(made.series(collection), "qmail_domain_deferred_recipients")["d00.example", "greylist"]
            == messages // 20
        )
        found.append(calls(scrape))
    small, large = found
    assert large < small * 1.02


# --- golden files


def render(home: Path) -> dict[str, bytes]:
    """Return what a certain queue with a certain past looks like in both formats, less what the host decides."""
    with Rig(home) as made:
        collection = made.collection()
        settle(collection)
        populate(made)
        settle(collection)
        kept = CollectorRegistry()
        kept.register(Fixed(QmailCollector(collection, made.clock)))
        return {"text.prom": generate_latest(kept), "openmetrics.prom": generate_openmetrics(kept)}


class Fixed:
    """A collector without the samples that differ from host to host and from run to run."""

    differing = (
        "qmail_queue_filesystem",
        "qmail_exporter_build_info",
        "qmail_exporter_events",
        "qmail_exporter_scan_duration",
        "qmail_process_up",
    )

    def __init__(self, collector: QmailCollector) -> None:
        self._collector = collector

    def collect(self) -> Any:
        """Give the families that are the same everywhere, their samples in order."""
        for metric in self._collector.collect():
            if not metric.name.startswith(self.differing):
                yield metric


def test_exposition_is_as_recorded(tmp_path: Path) -> None:
    """A fixed past gives the same bytes as ever, in both formats."""
    for name, body in render(tmp_path).items():
        assert body.decode() == (GOLDEN / name).read_text()


def test_promtool_finds_nothing_in_it() -> None:
    """`promtool check metrics` has nothing to say about the text format."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("there is no promtool")
    body = (GOLDEN / "text.prom").read_bytes()
    done = subprocess.run([promtool, "check", "metrics"], input=body, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


if __name__ == "__main__":
    import tempfile

    GOLDEN.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        for name, body in render(Path(directory)).items():
            (GOLDEN / name).write_bytes(body)
