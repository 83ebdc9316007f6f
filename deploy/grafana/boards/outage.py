"""Outages of the network with what the hook did about them, and how far the exporter itself can be trusted."""

from boards.board import Board, Row
from boards.exporter import COST, TRUST, WORK
from boards.look import NONE_IS_GOOD
from boards.panel import BAD, FAIR, GOOD, Subject, bars, lines, number, total
from boards.query import Query
from boards.shared import network_states

_RUNS = {"tcpok: ok": GOOD, "command: ok": "purple", "redeliver: ok": "blue"} | {
    f"{action}: {result}": colour
    for action in ("tcpok", "command", "redeliver")
    for result, colour in (("failed", BAD), ("timeout", FAIR))
}
_OUTAGES = Row(
    "Outages",
    [
        total(
            Subject(
                "Outages begun",
                "Outages that began in the time that is shown.",
                [Query("sum(increase(qmail_outages_total{HERE}[$__range]))")],
                runbooks=["QmailDestinationsUnreachable"],
                width=4,
            )
        ),
        number(
            Subject(
                "The last began",
                "Start of the last outage; it may be from before the exporter's start, as the log tells it.",
                [Query("max(qmail_outage_last_start_timestamp_seconds{HERE}) * 1000")],
                unit="dateTimeFromNow",
                empty="none",
                pages=["outage.md"],
                width=4,
            ),
            sparkline=False,
        ),
        number(
            Subject(
                "The last ended",
                "End of the last outage that is over.",
                [Query("max(qmail_outage_last_clear_timestamp_seconds{HERE}) * 1000")],
                unit="dateTimeFromNow",
                empty="none",
                pages=["outage.md"],
                width=4,
            ),
            sparkline=False,
        ),
        number(
            Subject(
                "The hook last ran",
                "Start of the last run of one of its actions.",
                [Query("max(qmail_hook_last_run_timestamp_seconds{HERE}) * 1000")],
                unit="dateTimeFromNow",
                empty="never",
                pages=["outage.md"],
                width=4,
            ),
            sparkline=False,
        ),
        number(
            Subject(
                "Hosts passed over",
                "Hosts that timed out twice or more: qmail does not try them for 64 to 97 minutes, whether the network is back or not.",
                [Query('sum(qmail_tcpto_hosts{HERE, state="dead"})')],
                runbooks=["QmailTcptoFull"],
                pages=["outage.md"],
                width=4,
            )
        ),
        total(
            Subject(
                "Runs that failed",
                "Runs of the hook's actions in the time that is shown that failed or took too long. A failed one is tried again.",
                [Query('sum(increase(qmail_hook_runs_total{HERE, result!="ok"}[$__range]))')],
                empty="no action is set",
                runbooks=["QmailHookFailing"],
                pages=["outage.md"],
                steps=NONE_IS_GOOD,
                width=4,
            )
        ),
        network_states(),
        lines(
            Subject(
                "Runs of the hook",
                "Runs of its actions, by result.",
                [
                    Query(
                        "sum by (action, result) (increase(qmail_hook_runs_total{HERE}[$__rate_interval]))",
                        "{{action}}: {{result}}",
                    )
                ],
                empty="no action is set",
                runbooks=["QmailHookFailing"],
                pages=["outage.md"],
            ),
            style="bars",
            colours=_RUNS,
        ),
        bars(
            Subject(
                "Why the hook did not act",
                "Times in the time that is shown that it did not act, or not at once, by reason. After most short outages there is no dead host, and nothing to do.",
                [
                    Query(
                        "sum by (reason) (increase(qmail_hook_skipped_total{HERE}[$__range]))",
                        "{{reason}}",
                        now=True,
                    )
                ],
                empty="not followed",
                pages=["outage.md"],
                steps=((None, "blue"),),
            )
        ),
        lines(
            Subject(
                "Connections, as deliveries tell",
                "Remote attempts a second that reached a host, by what came of them, and those for which no connection could be made.",
                [
                    Query(
                        'sum(rate(qmail_deliveries_total{HERE, channel="remote", result="success"}[$__rate_interval]))',
                        "success",
                    ),
                    Query(
                        'sum(rate(qmail_delivery_problems_total{HERE, channel="remote", reason="connect"}[$__rate_interval]))',
                        "no connection",
                    ),
                    Query('sum(qmail_tcpto_hosts{HERE, state="dead"})', "hosts passed over"),
                ],
                runbooks=["QmailDestinationsUnreachable"],
            ),
            colours={"success": GOOD, "no connection": BAD, "hosts passed over": FAIR},
        ),
    ],
)

BOARD = Board(
    "qmail-outage",
    "qmail: outage and exporter",
    "Outages of the network and what the hook did about them; what the exporter sees, and what it costs.",
    [_OUTAGES, TRUST, WORK, COST],
)
