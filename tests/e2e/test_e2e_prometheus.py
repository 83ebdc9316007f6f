"""A real Prometheus scrapes a running exporter."""

import json
import shutil
import signal
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from rig import Rig, family, ledger_state, samples, shown, still
from serving import Exporter, until

MakeRig = Callable[..., Rig]
CONFIG = """
global: {{scrape_interval: 1s}}
scrape_configs:
- {{job_name: qmail, static_configs: [{{targets: ["{target}"]}}]}}
"""


@contextmanager
def prometheus(binary: str, directory: Path, config: str) -> Iterator[Callable[[str], Any]]:
    """Run a Prometheus on loopback; gives a function that asks its HTTP API."""
    (directory / "prometheus.yml").write_text(config)
    command = [binary, f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/data",
               "--web.listen-address=127.0.0.1:0", "--log.level=info"]  # fmt: skip
    log = directory / "prometheus.log"
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            address = until(lambda: _address(log.read_text(), process))

            def ask(path: str) -> Any:
                with urllib.request.urlopen(f"http://{address}/api/v1/{path}", timeout=10) as answer:
                    return json.load(answer)["data"]

            until(lambda: _ready(f"http://{address}/-/ready"))
            yield ask
        finally:
            process.send_signal(signal.SIGKILL)


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10):  # noqa: S310 - a URL of the test
            return True
    except urllib.error.HTTPError:
        return False


def _address(log: str, process: "subprocess.Popen[bytes]") -> str:
    """Return where it listens, by its own log."""
    assert process.poll() is None, log
    for line in log.splitlines():
        if "Listening on" in line and "address=" in line:
            return line.rpartition("address=")[2].split()[0]
    return ""


@pytest.mark.slow
def test_prometheus_takes_all_of_it(rig: MakeRig, tmp_path: Path) -> None:
    """Its target is up without an error, and each series of a scrape is in it with the value that was shown."""
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.skip("there is no prometheus")
    made = rig()
    for _ in range(20):
        made.send(b"defer@x.example", b"fail@y.example", b"joe", b"hole@z.example", b'a@quo"te\\.example')
    made.qmail.pump()
    with Exporter(f"--qmail.home={made.home}", f"--qmail.log={made.home}/log") as exporter:
        until(exporter.ready)
        target = exporter.urls[0].removeprefix("http://")
        with prometheus(binary, tmp_path, CONFIG.format(target=target)) as ask:
            (found,) = until(lambda: [t for t in ask("targets")["activeTargets"] if t["health"] != "unknown"])
            assert (found["health"], found["lastError"]) == ("up", "")
            until(lambda: asked(ask, "qmail_queue_messages"))
            series = exporter.series()
            held = asked(ask, '{job="qmail", __name__!~"up|scrape_.*"}')
            host = ("qmail_process_", "qmail_running_")  # of a qmail that may come or go on this host
            assert {k for k in held if not k[0].startswith(host)} == {
                k for k in series if not k[0].startswith(host)
            }
            steady = still(series)
            assert {key: held[key] for key in steady} == steady
            assert len({name for name, _ in steady}) > 25
            ages = family(held, "qmail_queue_message_age_seconds_bucket")
            assert ages["mail", "+Inf"] == 20


def asked(ask: Callable[[str], Any], query: str) -> dict[Any, float]:
    """Return the result of an instant query as `samples` returns a scrape."""
    found = {}
    for entry in ask(f"query?query={urllib.parse.quote(query)}")["result"]:
        labels = {
            key: value for key, value in entry["metric"].items() if key not in ("__name__", "job", "instance")
        }
        found[entry["metric"].get("__name__", ""), tuple(sorted(labels.items()))] = float(entry["value"][1])
    return found


@pytest.mark.slow
def test_demo_is_scraped_in_both_formats(rig: MakeRig) -> None:
    """A live scrape has the same series, with the same values, in the text format and in OpenMetrics."""
    made = rig()
    made.send(b"defer@x.example")
    made.qmail.pump()
    with Exporter(f"--qmail.home={made.home}", f"--qmail.log={made.home}/log") as exporter:
        until(exporter.ready)
        text = exporter.series()
        status, body = exporter.get("/metrics", accept="application/openmetrics-text; version=1.0.0")
        assert status == 200
        assert body.endswith("# EOF\n")
        openmetrics = samples(parse_openmetrics(body))
        assert text.keys() == openmetrics.keys()
        assert shown(text) == shown(openmetrics) == ledger_state(made.qmail)
        assert still(text) == still(openmetrics)
        assert family(text, "qmail_up") == {(): 1.0}


def test_promtool_finds_nothing_in_a_live_scrape(rig: MakeRig) -> None:
    """`promtool check metrics` has nothing to say about what a running exporter answers."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("there is no promtool")
    made = rig()
    made.send(b"defer@x.example")
    made.qmail.pump()
    with Exporter(f"--qmail.home={made.home}", f"--qmail.log={made.home}/log") as exporter:
        until(exporter.ready)
        body = exporter.get("/metrics")[1]
    done = subprocess.run(
        [promtool, "check", "metrics"], input=body.encode(), capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
