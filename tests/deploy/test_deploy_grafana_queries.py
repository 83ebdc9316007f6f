"""What queries of the dashboards make of given series: promtool evaluates them."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

pytest.importorskip("promql_parser", reason="promql-parser reads the queries")

from dashboards import FILES, filled, load, panels

_AT = 'instance="mx1:1", job="qmail"'
_MX1 = f'{_AT}, queue="default"'
_BYTES = {
    f"qmail_queue_filesystem_size_bytes{{{_MX1}}}": "100x20",
    f"qmail_queue_filesystem_free_bytes{{{_MX1}}}": "50x20",
}


def _inodes(size: int, free: int) -> dict[str, str]:
    return {
        f"qmail_queue_filesystem_size_inodes{{{_MX1}}}": f"{size}x20",
        f"qmail_queue_filesystem_free_inodes{{{_MX1}}}": f"{free}x20",
    }


class Case(NamedTuple):
    """What a query, the first of a panel, makes of series by their values a minute."""

    fact: str
    board: str
    panel: str
    series: dict[str, str]
    value: float


def _state(**values: int) -> dict[str, str]:
    return {
        f'qmail_outage_state{{{_MX1}, state="{name}"}}': f"{values.get(name, 0)}x20"
        for name in ("clear", "outage", "settling", "recovered")
    }


def _deliveries(**rates: int) -> dict[str, str]:
    return {
        f'qmail_deliveries_total{{{_MX1}, channel="remote", result="{result}"}}': f"0+{rate}x20"
        for result, rate in rates.items()
    }


CASES = [
    Case(
        "inodes count where they are scarcer",
        "qmail-fleet",
        "Free on the queue's file system",
        _BYTES | _inodes(size=200, free=20),
        0.1,
    ),
    Case(
        "space counts where it is scarcer",
        "qmail-fleet",
        "Free on the queue's file system",
        _BYTES | _inodes(size=200, free=180),
        0.5,
    ),
    Case(
        "a file system that has no number of inodes lacks none",
        "qmail-fleet",
        "Free on the queue's file system",
        _BYTES | _inodes(size=0, free=0),
        0.5,
    ),
    *(
        Case(f"{name} has its number", board, "The network, as mail tells", _state(**{name: 1}), value)
        for board in ("qmail-fleet", "qmail-outage")
        for value, name in enumerate(("clear", "outage", "settling", "recovered"))
    ),
    Case(
        "an exporter that has gone is down, and another job's target is none of ours",
        "qmail-fleet",
        "Hosts down",
        {
            f"up{{{_AT}}}": "1x9 0x10",
            f'qmail_exporter_build_info{{{_AT}, version="1"}}': "1x9 stale",
            'up{instance="mx2:1", job="qmail"}': "1x20",
            'qmail_exporter_build_info{instance="mx2:1", job="qmail", version="1"}': "1x20",
            'up{instance="mx1:9100", job="node"}': "0x20",
        },
        1,
    ),
    Case(
        "a share of attempts is of all results",
        "qmail-fleet",
        "Deferred",
        _deliveries(success=10, deferral=30, failure=20),
        0.5,
    ),
    Case(
        "the oldest message of several queues is the oldest of all",
        "qmail-queue",
        "Oldest message",
        {
            f'qmail_queue_oldest_message_timestamp_seconds{{{_AT}, queue="in"}}': "300x20",
            f'qmail_queue_oldest_message_timestamp_seconds{{{_AT}, queue="out"}}': "600x20",
        },
        900,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.board}: {case.fact}")
def test_query(case: Case, tmp_path: Path) -> None:
    """At twenty minutes a panel's query has the value that the series before it make."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    board = load(next(path for path in FILES if path.stem == case.board))
    (panel,) = (panel for panel in panels(board) if panel["title"] == case.panel)
    expr = filled(panel["targets"][0]["expr"], rate_interval="4m", span="15m")
    series = [{"series": name, "values": values} for name, values in case.series.items()]
    asked = {
        "expr": f"round(sum({expr}), 0.01)",
        "eval_time": "20m",
        "exp_samples": [{"labels": "{}", "value": case.value}],
    }
    tests = [{"interval": "1m", "input_series": series, "promql_expr_test": [asked]}]
    written = tmp_path / "query.test.yml"
    written.write_text(json.dumps({"evaluation_interval": "1m", "tests": tests}))
    done = subprocess.run(
        [promtool, "test", "rules", str(written)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
