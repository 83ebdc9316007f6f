"""Write docs/metrics.md, the manual page, and the tables of other pages, from the code that they describe: `make docs`."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import manpage

from qmail_exporter.cli import main
from qmail_exporter.collect.sweeps import REASONS as SWEEPS
from qmail_exporter.flags.option import Option
from qmail_exporter.flags.page import headed
from qmail_exporter.formats.log import KINDS
from qmail_exporter.formats.reason import REASONS
from qmail_exporter.hook import RESULTS
from qmail_exporter.metrics import FAMILIES, Family
from qmail_exporter.outage import SKIPS, State
from qmail_exporter.readings.queue import HORIZONS
from qmail_exporter.sources.host import PROGRAMS

_ROOT = Path(__file__).parents[1]
PAGES = (_ROOT / "README.md", _ROOT / "docs" / "configuration.md")
"""Those with tables that are made."""
_TYPES = {"gaugehistogram": "histogram of present state"}
# Each chapter begins with the family of that name: `FAMILIES` is in the order of the page.
_CHAPTERS = {
    "qmail_up": (
        "The queue",
        "What is in the queue directory, exact as of the moment that the scrape began.",
    ),
    "qmail_messages_total": (
        "The log",
        """What qmail-send's log has told since the exporter started. The retained log is read at the start for what it says of the present
(who is deferred, which deliveries are open), and not counted.""",
    ),
    "qmail_tcpto_hosts": (
        "The host",
        "What runs, what is set, what room is left, and which hosts qmail has given up on for now.",
    ),
    "qmail_double_bounces_total": (
        "Double bounces",
        """From the log that `qmail-exporter record-double-bounce` writes, if `--double-bounces.log` names it. Only what comes after the
exporter's start is counted.""",
    ),
    "qmail_outage_state": (
        "The outage hook",
        "What deliveries and probes tell of the network, and what was done about it. [outage.md](outage.md) explains the states and reasons.",
    ),
    "qmail_exporter_source_up": (
        "The exporter",
        """How far the rest can be trusted. The usual `process_*` series of the exporter's own process are there too, and, without the
label `queue`, `qmail_exporter_build_info`, always 1, with the labels `version` and `python`, and with `--web.config.file`
`qmail_exporter_web_config_last_reload_successful`: 0 while that file is wrong, and what it said before in force.""",
    ),
}
_MARKED = re.compile("(<!-- ([a-z ]+) -->).*?(<!-- -->)", re.DOTALL)
_HEAD = """# Metrics

Generated from `qmail_exporter/metrics.py` by `make docs`.

Every series has the label `queue`: `default` where there is one queue. Times are in seconds, sizes in bytes. A series is absent while
its value is not known: nothing is 0 because it could not be read. `qmail_exporter_source_up` says which source is at fault.

A histogram of present state (a gauge histogram in OpenMetrics) tells how many messages there are now at or below each bound. Its
buckets rise and fall, so it is queried without `rate()`:

```
histogram_quantile(0.95, qmail_queue_message_age_seconds_bucket{kind="mail"})
```
"""
_LABELS = """
## Label values

| Label | Values |
|---|---|
| `channel` | `local`, `remote`, and whatever else the queue has; `unknown` for a delivery of which the log told only the end |
| `status` | `pending`, `done` |
| `result` | `success`, `failure`, `deferral` |
| `reason` | {reasons}; of `qmail_exporter_rescans_total`: {sweeps} |
| `domain` | a remote domain, in lower case, or `(other)` for all that have no series of their own; `(none)` for an address without one |
| `kind` of `qmail_queue_message_age_seconds` | `mail`, `bounce` |
| `kind` of `qmail_queue_bounce_messages` | `bounce`, `double` |
| `kind` of `qmail_bounces_total` | `single`, `double`, `triple` |
| `kind` of `qmail_send_alerts_total` | {alerts} |
| `kind` of `qmail_send_warnings_total` | {warnings} |
| `within` | {horizons}: `0` is those that have passed `queuelifetime` and not been tried since |
| `program` | {programs} |
| `state` | `suspect`: has timed out; `dead`: twice or more, and qmail-remote passes it over for 64 to 97 minutes after the last time |
| `state` of `qmail_outage_state` | {states} |
| `action` | `tcpok`, `command`, `redeliver`: those that are set |
| `result` of `qmail_hook_runs_total` | {results} |
| `reason` of `qmail_hook_skipped_total` | {skips} |
| `source` | an area of the queue (`mess`, `todo`, `info`, `bounce`, a channel), `inotify`, `log`, `tcpto`, `control`, `filesystem`, `processes` |
"""


def metrics() -> str:
    """Return docs/metrics.md."""
    page = _HEAD
    for family in FAMILIES:
        if family.name in _CHAPTERS:
            title, text = _CHAPTERS[family.name]
            page += f"\n## {title}\n\n{text}\n\n| Metric | Type | Labels | Meaning |\n|---|---|---|---|\n"
        page += _row(family)
    return page + _LABELS.format(
        reasons=_codes(REASONS),
        alerts=_codes(KINDS["alert"]),
        warnings=_codes(KINDS["warning"]),
        horizons=_codes(HORIZONS),
        programs=_codes(PROGRAMS),
        sweeps=_codes(SWEEPS),
        states=_codes(state.value for state in State),
        results=_codes(RESULTS),
        skips=_codes(SKIPS),
    )


def flags(command: str) -> str:
    """Return the tables of a command's flags, one a heading."""
    shown = main.commands[command]
    tables = []
    for heading, options in headed(shown).items():
        rows = [_flag(option) for option in options if isinstance(option, Option)]
        tables.append(
            "\n".join([f"### {heading}", "", "| Flag | Default | Meaning |", "|---|---|---|", *rows])
        )
    return "\n\n".join(["", *tables, ""])


_SMALLER = re.compile(r"\b10{1,2},000 messages")


def figures() -> str:
    """Return the machine and the table of docs/benchmarks.md, which `make bench` writes: of what has a goal, the first row each."""
    page = (_ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    lines = page.partition("\n\n- ")[2].partition("\n\n## ")[0].join(("- ", "")).splitlines()
    shown, seen = [], set()
    for line in lines:
        cells = [cell.strip() for cell in line.split("|")]
        if line.startswith("| ") and (cells[-2] == "none" or cells[1] in seen or _SMALLER.search(cells[1])):
            continue
        seen.add(cells[1] if len(cells) > 1 else line)
        shown.append(line)
    return "\n".join(shown)


def with_tables(page: str) -> str:
    """Return a page with what stands between `<!-- NAME -->` and the next `<!-- -->` made anew."""
    return _MARKED.sub(lambda marked: f"{marked[1]}\n{_TABLES[marked[2]]()}\n{marked[3]}", page)


def _row(family: Family) -> str:
    kind = _TYPES.get(family.kind, family.kind)
    return f"| `{family.name}` | {kind} | {_codes(family.labels)} | {family.help} |\n"


def _flag(option: Option) -> str:
    cells = (
        f"`{' '.join(option.synopsis).rstrip()}`",
        f"`{option.usual}`" if option.usual else "",
        option.help or "",
    )
    return "| " + " | ".join(text.replace("|", r"\|") for text in cells) + " |"


def _codes(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


_TABLES: dict[str, Callable[[], str]] = {"flags of serve": lambda: flags("serve"), "figures": figures}


def write() -> None:
    """Write all of them."""
    (_ROOT / "docs" / "metrics.md").write_text(metrics(), encoding="utf-8")
    (_ROOT / "docs" / "qmail-exporter.1").write_text(manpage.manual(), encoding="utf-8")
    for page in PAGES:
        page.write_text(with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    write()
