"""Where mail goes: which domains it waits for, why, who refuses this host, and who does not answer."""

from boards.board import Board, Row
from boards.look import AGE
from boards.panel import BAD, FAIR, GOOD, Column, Subject, bars, lines, number, rows, total
from boards.query import DOMAIN, Query
from boards.reasons import POLICIES, REASONS

_NOW = Row(
    "Now",
    [
        number(
            Subject(
                "Domains with mail",
                "Remote domains with a recipient that has not been delivered to; all that have no series of their own count as one.",
                [Query(f"count(sum by (domain) (qmail_domain_pending_recipients{{{DOMAIN}}}) > 0)")],
                empty="none",
                width=4,
            )
        ),
        number(
            Subject(
                "Recipients that wait",
                "Recipients at these domains that have not been delivered to.",
                [Query(f"sum(qmail_domain_pending_recipients{{{DOMAIN}}})")],
                width=4,
            )
        ),
        number(
            Subject(
                "Of them deferred",
                "Recipients whose last attempt was put off.",
                [Query(f"sum(qmail_domain_deferred_recipients{{{DOMAIN}}})")],
                empty="none",
                runbooks=["QmailDestinationDeferring"],
                width=4,
            )
        ),
        number(
            Subject(
                "Longest deferred",
                "Age of the oldest message with a deferred recipient.",
                [Query(f"time() - min(qmail_domain_oldest_deferred_timestamp_seconds{{{DOMAIN}}})")],
                unit="s",
                empty="none",
                runbooks=["QmailOldestMessageTooOld"],
                steps=AGE,
                width=4,
            ),
            decimals=1,
        ),
        total(
            Subject(
                "Refused by policy",
                "Remote attempts in the time that is shown that were refused because of this host, its senders, or what the mail holds.",
                [
                    Query(
                        'sum(increase(qmail_delivery_problems_total{HERE, channel="remote", reason="policy"}[$__range]))'
                    )
                ],
                runbooks=["QmailRefusedByPolicy"],
                width=4,
            )
        ),
        number(
            Subject(
                "Hosts passed over",
                "Hosts that timed out twice or more: qmail does not try them for 64 to 97 minutes.",
                [Query('sum(qmail_tcpto_hosts{HERE, state="dead"})')],
                runbooks=["QmailTcptoFull"],
                pages=["outage.md"],
                width=4,
            )
        ),
    ],
)

_BY_DOMAIN = Row(
    "Domains",
    [
        rows(
            Subject(
                "Domains with most mail",
                "The domains with most mail, as of now; attempts and their results in the time that is shown. All others are (other).",
                [
                    Query(
                        f"sum by (domain) (qmail_domain_pending_recipients{{{DOMAIN}}})", "Waiting", now=True
                    ),
                    Query(
                        f"sum by (domain) (qmail_domain_deferred_recipients{{{DOMAIN}}})",
                        "Deferred",
                        now=True,
                    ),
                    Query(
                        f"time() - min by (domain) (qmail_domain_oldest_deferred_timestamp_seconds{{{DOMAIN}}})",
                        "Deferred for",
                        now=True,
                    ),
                    Query(
                        f"sum by (domain) (increase(qmail_domain_deliveries_total{{{DOMAIN}}}[$__range]))",
                        "Attempts",
                        now=True,
                    ),
                    Query(
                        f'sum by (domain) (increase(qmail_domain_deliveries_total{{{DOMAIN}, result="success"}}[$__range]))'
                        f" / (sum by (domain) (increase(qmail_domain_deliveries_total{{{DOMAIN}}}[$__range])) > 0)",
                        "Succeeded",
                        now=True,
                    ),
                    Query(
                        f'sum by (domain) (increase(qmail_domain_deliveries_total{{{DOMAIN}, result="failure"}}[$__range]))',
                        "Failed",
                        now=True,
                    ),
                ],
                empty="-",
                runbooks=["QmailDestinationDeferring"],
                width=14,
                height=14,
            ),
            {"domain": "Domain"},
            {
                "Deferred for": Column("s", AGE, decimals=1),
                "Attempts": Column("locale", decimals=0),
                "Succeeded": Column("percentunit", ((None, BAD), (0.2, FAIR), (0.8, GOOD)), decimals=0),
                "Failed": Column("locale", decimals=0),
            },
            sort="Waiting",
        ),
        bars(
            Subject(
                "Most deferred",
                "Recipients whose last attempt was put off, by domain and reason: the fifteen largest.",
                [
                    Query(
                        f"topk(15, sum by (domain, reason) (qmail_domain_deferred_recipients{{{DOMAIN}}}))",
                        "{{domain}}: {{reason}}",
                        now=True,
                    )
                ],
                empty="none",
                runbooks=["QmailDestinationDeferring"],
                steps=((None, "blue"),),
                width=10,
                height=14,
            )
        ),
        lines(
            Subject(
                "Recipients that wait",
                "By domain: at each moment the ten with most.",
                [
                    Query(
                        f"topk(10, sum by (domain) (qmail_domain_pending_recipients{{{DOMAIN}}}))",
                        "{{domain}}",
                    )
                ],
                runbooks=["QmailDestinationDeferring"],
                width=12,
                height=9,
            ),
            style="stack",
        ),
        lines(
            Subject(
                "Attempts",
                "Delivery attempts a second, by domain: at each moment the ten with most.",
                [
                    Query(
                        f"topk(10, sum by (domain) (rate(qmail_domain_deliveries_total{{{DOMAIN}}}[$__rate_interval])))",
                        "{{domain}}",
                    )
                ],
                unit="ops",
                width=12,
                height=9,
            ),
            style="stack",
        ),
    ],
)

_TCPTO = Row(
    "Hosts that time out (tcpto)",
    [
        lines(
            Subject(
                "Hosts in tcpto",
                "Hosts that timed out once (suspect), and twice or more (dead), which qmail passes over; and how many it has room for. Entries never expire.",
                [
                    Query("sum by (state) (qmail_tcpto_hosts{HERE})", "{{state}}"),
                    Query("sum(qmail_tcpto_slots{HERE})", "room for"),
                ],
                runbooks=["QmailTcptoFull"],
                pages=["outage.md"],
                width=12,
            ),
            colours={"suspect": FAIR, "dead": BAD, "room for": "text"},
        ),
        lines(
            Subject(
                "Since the last timeout",
                "How long ago a connection last timed out. While this rises nothing new is given up; at 97 minutes every host will be tried again.",
                [Query("time() - max(qmail_tcpto_latest_timeout_timestamp_seconds{HERE})", "ago")],
                unit="s",
                empty="none",
                pages=["outage.md"],
                width=12,
            )
        ),
    ],
)

BOARD = Board(
    "qmail-destinations",
    "qmail: destinations",
    "Where mail waits and why, who refuses it, and who does not answer.",
    [_NOW, _BY_DOMAIN, REASONS, POLICIES, _TCPTO],
    domains=True,
)
