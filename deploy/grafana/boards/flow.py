"""Rows of the dashboard of one queue: what comes and goes, and how many deliveries there are at once."""

from boards.board import Row
from boards.look import BUSY, RESULTS
from boards.panel import BAD, Subject, lines
from boards.query import Query

FLOW = Row(
    "Flow",
    [
        lines(
            Subject(
                "Messages in and out",
                "Messages that came and that left, a second. Where the first stays above the second, the queue grows.",
                [
                    Query("sum(rate(qmail_messages_total{HERE}[$__rate_interval]))", "in"),
                    Query("sum(rate(qmail_messages_ended_total{HERE}[$__rate_interval]))", "out"),
                ],
                unit="mps",
                runbooks=["QmailQueueStuck"],
            )
        ),
        lines(
            Subject(
                "Remote attempts",
                "Delivery attempts elsewhere, a second, by what came of them.",
                [
                    Query(
                        'sum by (result) (rate(qmail_deliveries_total{HERE, channel="remote"}[$__rate_interval]))',
                        "{{result}}",
                    )
                ],
                unit="ops",
                runbooks=["QmailQueueStuck"],
            ),
            style="stack",
            colours=RESULTS,
        ),
        lines(
            Subject(
                "Local attempts",
                "Delivery attempts on this host, a second, by what came of them.",
                [
                    Query(
                        'sum by (result) (rate(qmail_deliveries_total{HERE, channel="local"}[$__rate_interval]))',
                        "{{result}}",
                    )
                ],
                unit="ops",
            ),
            style="stack",
            colours=RESULTS,
        ),
        lines(
            Subject(
                "Why attempts do not succeed",
                "Attempts, local and remote, that were deferred or failed, a second, by reason.",
                [
                    Query(
                        "sum by (reason) (rate(qmail_delivery_problems_total{HERE}[$__rate_interval])) > 0",
                        "{{reason}}",
                    )
                ],
                unit="ops",
                empty="none",
                runbooks=["QmailDestinationDeferring"],
            ),
            style="stack",
        ),
        lines(
            Subject(
                "Time in the queue",
                "How long half, 95% and 99% of the messages that left had been in the queue at most.",
                [
                    Query(
                        f"histogram_quantile({share}, sum by (le) (rate(qmail_message_queue_time_seconds_bucket{{HERE}}[$__rate_interval]))) >= 0",
                        name,
                    )
                    for share, name in ((0.5, "half"), (0.95, "95%"), (0.99, "99%"))
                ],
                unit="s",
                empty="none left",
            ),
            scale="log",
        ),
        lines(
            Subject(
                "Bounces",
                "Bounces a second: sent, bounces of bounces, and those that were discarded.",
                [Query("sum by (kind) (rate(qmail_bounces_total{HERE}[$__rate_interval]))", "{{kind}}")],
                unit="mps",
                runbooks=["QmailBounceStorm", "QmailDoubleBounces"],
            )
        ),
        lines(
            Subject(
                "Bytes in",
                "Sizes of the messages that came, a second.",
                [Query("sum(rate(qmail_message_bytes_total{HERE}[$__rate_interval]))", "in")],
                unit="Bps",
            )
        ),
        lines(
            Subject(
                "Duration of remote attempts",
                "How long 95% of the attempts elsewhere took at most, by what came of them.",
                [
                    Query(
                        "histogram_quantile(0.95, sum by (le, result) "
                        '(rate(qmail_delivery_duration_seconds_bucket{HERE, channel="remote"}[$__rate_interval]))) >= 0',
                        "{{result}}",
                    )
                ],
                unit="s",
                empty="no attempts",
            ),
            colours=RESULTS,
        ),
        lines(
            Subject(
                "What remote slots are busy with",
                "Slots that attempts took on average, by what came of them. Slots that deferrals take are not there for mail that could be delivered.",
                [
                    Query(
                        'sum by (result) (rate(qmail_delivery_duration_seconds_sum{HERE, channel="remote"}[$__rate_interval]))',
                        "{{result}}",
                    )
                ],
                runbooks=["QmailTcptoFull", "QmailConcurrencySaturated"],
            ),
            style="stack",
            colours=RESULTS,
        ),
    ],
)

CONCURRENCY = Row(
    "Concurrency",
    [
        lines(
            Subject(
                f"{channel.capitalize()} deliveries at once",
                "Deliveries in progress, and how many may be, by the log's last status line.",
                [
                    Query(f'sum(qmail_concurrency_used{{HERE, channel="{channel}"}})', "in progress"),
                    Query(f'sum(qmail_concurrency_limit{{HERE, channel="{channel}"}})', "allowed"),
                ],
                runbooks=["QmailConcurrencySaturated"],
            ),
            colours={"allowed": BAD},
        )
        for channel in ("remote", "local")
    ]
    + [
        lines(
            Subject(
                "Share of the slots in use",
                "Of each channel. At 100% for long, mail waits though its destination would take it.",
                [
                    Query(
                        "sum by (channel) (qmail_concurrency_used{HERE}) / (sum by (channel) (qmail_concurrency_limit{HERE}) > 0)",
                        "{{channel}}",
                    )
                ],
                unit="percentunit",
                runbooks=["QmailConcurrencySaturated"],
                steps=BUSY,
            ),
            scale="share",
        )
    ],
)
