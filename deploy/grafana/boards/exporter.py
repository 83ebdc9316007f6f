"""Rows on the exporter itself: how far it can be trusted, what it does, and what that costs."""

from boards.board import Row
from boards.look import NONE_IS_BETTER, NONE_IS_GOOD, UP, WHOLE
from boards.panel import BAD, FAIR, GOOD, Column, Subject, lines, number, rows, states, total
from boards.query import SEEN, Query

_ALMOST_ALWAYS = ((None, BAD), (0.99, FAIR), (0.999, GOOD))
_OWN = "and on (job, instance) qmail_exporter_build_info{HOST}"

_SETTINGS = {0: ("wrong", BAD), 1: ("in force", GOOD)}

TRUST = Row(
    "How far the exporter can be trusted",
    [
        total(
            Subject(
                "Scrapes answered",
                "Share of the scrapes in the time that is shown that were answered.",
                [Query(f"avg(avg_over_time(up{{HOST}}[$__range]) {SEEN})")],
                unit="percentunit",
                runbooks=["QmailExporterDown"],
                steps=_ALMOST_ALWAYS,
                width=4,
            ),
            decimals=2,
        ),
        total(
            Subject(
                "Picture whole",
                "Share of that time for which the picture of the queue was whole.",
                [Query("avg(avg_over_time(qmail_up{HERE}[$__range]))")],
                unit="percentunit",
                runbooks=["QmailExporterHalfBlind"],
                steps=_ALMOST_ALWAYS,
                width=4,
            ),
            decimals=2,
        ),
        number(
            Subject(
                "Slowest scrape",
                "The longest that a scrape took in that time. Prometheus gives up after 10 s unless told otherwise.",
                [Query(f"max(max_over_time(scrape_duration_seconds{{HOST}}[$__range]) {SEEN})")],
                unit="s",
                steps=((None, GOOD), (1, FAIR), (5, BAD)),
                width=4,
            ),
            sparkline=False,
        ),
        total(
            Subject(
                "Drift",
                "Messages that a routine rescan found changed without an event in that time. It should be 0.",
                [Query("sum(increase(qmail_exporter_rescan_drift_messages_total{HERE}[$__range]))")],
                runbooks=["QmailDriftFound"],
                steps=NONE_IS_GOOD,
                width=4,
            )
        ),
        total(
            Subject(
                "Overflows",
                "Times in that time that the kernel dropped events. Figures stay right, at the cost of a rescan; raise fs.inotify.max_queued_events.",
                [Query("sum(increase(qmail_exporter_event_overflows_total{HERE}[$__range]))")],
                steps=NONE_IS_BETTER,
                width=4,
            )
        ),
        total(
            Subject(
                "Lines not understood",
                "Log lines in that time that the exporter could not read; its own log shows the first ones.",
                [Query("sum(increase(qmail_exporter_log_unparsed_lines_total{HERE}[$__range]))")],
                runbooks=["QmailExporterHalfBlind"],
                steps=NONE_IS_BETTER,
                width=4,
            )
        ),
        states(
            Subject(
                "Sources",
                "Whether each could be read. What comes from one that cannot is absent, and is never 0.",
                [Query("min by (source) (qmail_exporter_source_up{HERE})", "{{source}}")],
                unit="none",
                runbooks=["QmailExporterHalfBlind"],
                width=14,
                height=9,
            ),
            UP,
        ),
        rows(
            Subject(
                "Exporters",
                "What runs where. Settings: whether --web.config.file, as it is now, is in force; without such a file there is no such column.",
                [
                    Query(
                        "max by (instance, version, python) (qmail_exporter_build_info{HOST})",
                        "Exporter",
                        now=True,
                    ),
                    Query("min by (instance) (qmail_up{HERE})", "Picture", now=True),
                    Query(
                        "min by (instance) (qmail_exporter_web_config_last_reload_successful{HOST})",
                        "Settings",
                        now=True,
                    ),
                    Query(
                        f"max by (instance) (time() - process_start_time_seconds{{HOST}} {_OWN})",
                        "Running for",
                        now=True,
                    ),
                ],
                empty="-",
                runbooks=["QmailExporterDown", "QmailWebConfigWrong"],
                width=10,
                height=9,
            ),
            {"instance": "Host", "version": "Version", "python": "Python"},
            {
                "Exporter": Column(names=UP),
                "Picture": Column(names=WHOLE),
                "Settings": Column(names=_SETTINGS),
                "Running for": Column("s", decimals=1),
            },
            sort="Running for",
        ),
    ],
)

WORK = Row(
    "The exporter's work",
    [
        lines(
            Subject(
                "Events",
                "inotify events a second, by host.",
                [
                    Query(
                        "sum by (instance) (rate(qmail_exporter_events_total{HERE}[$__rate_interval]))",
                        "{{instance}}",
                    )
                ],
                unit="cps",
            )
        ),
        lines(
            Subject(
                "Pending looks",
                "Messages of which an event told and that had not been looked at when the scrape was answered: its budget did not suffice. 0 is exact.",
                [Query("sum by (instance) (qmail_exporter_pending_looks{HERE})", "{{instance}}")],
            )
        ),
        lines(
            Subject(
                "Log lag",
                "Age of the last log line that was read, while more wait. Seconds are fine; what only grows is a log that comes faster than it is read.",
                [Query("max by (instance) (qmail_exporter_log_lag_seconds{HERE})", "{{instance}}")],
                unit="s",
                runbooks=["QmailLogSilent"],
            )
        ),
        lines(
            Subject(
                "Log lines",
                "Lines read a second, by kind; foreign ones are other programs'.",
                [
                    Query(
                        "sum by (kind) (rate(qmail_exporter_log_lines_total{HERE}[$__rate_interval])) > 0",
                        "{{kind}}",
                    ),
                    Query(
                        "sum(rate(qmail_exporter_log_unparsed_lines_total{HERE}[$__rate_interval]))",
                        "not understood",
                    ),
                ],
                unit="cps",
                runbooks=["QmailLogSilent"],
            ),
            style="stack",
            colours={"not understood": BAD},
        ),
        lines(
            Subject(
                "Since the last log line",
                "How long ago the last line that was read had been written. A line comes with each message and each delivery.",
                [
                    Query(
                        "time() - max by (instance) (qmail_exporter_log_last_line_timestamp_seconds{HERE})",
                        "{{instance}}",
                    )
                ],
                unit="s",
                runbooks=["QmailLogSilent"],
            )
        ),
        lines(
            Subject(
                "Scans of the whole queue",
                "Scans begun, by why. One an hour is a routine check; others follow upon an overflow or a directory that was replaced.",
                [
                    Query(
                        "sum by (reason) (increase(qmail_exporter_rescans_total{HERE}[$__rate_interval]))",
                        "{{reason}}",
                    )
                ],
                runbooks=["QmailDriftFound"],
            ),
            style="bars",
        ),
        lines(
            Subject(
                "Duration of the last scan",
                "It runs in short steps, between which scrapes are answered.",
                [Query("max by (instance) (qmail_exporter_scan_duration_seconds{HERE})", "{{instance}}")],
                unit="s",
            )
        ),
        lines(
            Subject(
                "Progress of a scan",
                "How much of the scan under way is done; 100% when none is.",
                [Query("min by (instance) (qmail_exporter_scan_progress_ratio{HERE})", "{{instance}}")],
                unit="percentunit",
            ),
            scale="share",
        ),
        lines(
            Subject(
                "Errors of sources",
                "What could not be read or was lost, by source and kind.",
                [
                    Query(
                        "sum by (source, kind) (increase(qmail_exporter_source_errors_total{HERE}[$__rate_interval]))",
                        "{{source}}: {{kind}}",
                    )
                ],
                runbooks=["QmailExporterHalfBlind"],
            ),
            style="bars",
        ),
    ],
)

COST = Row(
    "What it costs",
    [
        lines(
            Subject(
                "Duration of a scrape",
                "As Prometheus measures it. It does not grow with the queue, but with the domains shown.",
                [Query(f"max by (instance) (scrape_duration_seconds{{HOST}} {_OWN})", "{{instance}}")],
                unit="s",
                width=8,
            )
        ),
        lines(
            Subject(
                "Samples of a scrape",
                "Series of a scrape; --domains.max limits those by domain.",
                [Query(f"max by (instance) (scrape_samples_scraped{{HOST}} {_OWN})", "{{instance}}")],
                width=8,
            )
        ),
        lines(
            Subject(
                "Memory",
                "Resident memory of the exporter: some 100 bytes for each message above what it takes anyway.",
                [Query(f"max by (instance) (process_resident_memory_bytes{{HOST}} {_OWN})", "{{instance}}")],
                unit="bytes",
                width=8,
            )
        ),
        lines(
            Subject(
                "Processor time",
                "Share of one processor.",
                [
                    Query(
                        f"max by (instance) (rate(process_cpu_seconds_total{{HOST}}[$__rate_interval]) {_OWN})",
                        "{{instance}}",
                    )
                ],
                unit="percentunit",
                width=12,
            )
        ),
        lines(
            Subject(
                "Open files",
                "Descriptors that the exporter has open, of those that it may have.",
                [
                    Query(
                        f"max by (instance) (process_open_fds{{HOST}} / process_max_fds{{HOST}} {_OWN})",
                        "{{instance}}",
                    )
                ],
                unit="percentunit",
                width=12,
            )
        ),
    ],
)
