"""One host: what is in its queue, how old it is, what comes and goes, and what will happen to it."""

from boards.board import Board, Row
from boards.flow import CONCURRENCY, FLOW
from boards.look import AGE, NONE_IS_GOOD, UP
from boards.panel import BAD, FAIR, PLAIN, Subject, bars, heat, lines, number, states, total
from boards.query import Query

_AGES = "sum by (le) (qmail_queue_message_age_seconds_bucket{HERE})"
_NOW = Row(
    "Now",
    [
        number(
            Subject(
                "Messages",
                "In the queue, as qmail-qstat counts them.",
                [Query("sum(qmail_queue_messages{HERE})")],
                runbooks=["QmailQueueStuck"],
                width=3,
            )
        ),
        number(
            Subject(
                "Not preprocessed",
                "Messages in todo. More than a few for more than a minute: qmail-send does not keep up, or does not run.",
                [Query("sum(qmail_queue_todo_messages{HERE})")],
                runbooks=["QmailTodoNotDrained", "QmailTodoBacklog"],
                steps=((None, PLAIN), (100, FAIR), (1000, BAD)),
                width=3,
            )
        ),
        number(
            Subject(
                "Waiting, remote",
                "Recipients elsewhere that have not been delivered to.",
                [Query('sum(qmail_queue_recipients{HERE, channel="remote", status="pending"})')],
                width=3,
            )
        ),
        number(
            Subject(
                "Deferred",
                "Recipients whose last attempt was put off.",
                [Query("sum(qmail_domain_deferred_recipients{HERE})")],
                empty="none",
                runbooks=["QmailDestinationDeferring"],
                width=3,
            )
        ),
        number(
            Subject(
                "Oldest message",
                "Its age as qmail sees it: at queuelifetime, a week by default, it bounces.",
                [Query("time() - min(qmail_queue_oldest_message_timestamp_seconds{HERE})")],
                unit="s",
                empty="the queue is empty",
                runbooks=["QmailOldestMessageTooOld"],
                steps=AGE,
                width=3,
            ),
            decimals=1,
        ),
        number(
            Subject(
                "Due now",
                "Messages whose next attempt is due or overdue. They wait for a free slot, or qmail-send does not look.",
                [Query('sum(qmail_queue_next_attempt_seconds_bucket{HERE, le="0.0"})')],
                runbooks=["QmailQueueStuck", "QmailConcurrencySaturated"],
                width=3,
            )
        ),
        number(
            Subject(
                "Expire in 6 hours",
                "Messages that bounce within 6 hours unless they are delivered.",
                [Query('sum(qmail_queue_expiring_messages{HERE, within="6h"})')],
                runbooks=["QmailMailExpiring"],
                width=3,
            )
        ),
        total(
            Subject(
                "Alert lines",
                "Alerts that qmail-send wrote to its log in the time that is shown: it cannot go on without help.",
                [Query("sum(increase(qmail_send_alerts_total{HERE}[$__range]))")],
                runbooks=["QmailSendAlerts"],
                steps=NONE_IS_GOOD,
                width=3,
            )
        ),
    ],
)

_DEPTH = Row(
    "Depth",
    [
        lines(
            Subject(
                "Messages",
                "All messages; those that qmail-send has not preprocessed; those with a recipient that has failed, which bounce when the others are done.",
                [
                    Query("sum(qmail_queue_messages{HERE})", "all"),
                    Query("sum(qmail_queue_todo_messages{HERE})", "not preprocessed"),
                    Query("sum(qmail_queue_failed_messages{HERE})", "with failures"),
                    Query("sum(qmail_queue_orphan_messages{HERE})", "never finished"),
                ],
                runbooks=["QmailTodoBacklog"],
            )
        ),
        lines(
            Subject(
                "Recipients",
                "Recipients of the queued messages, by channel, and whether they are done. One message may have thousands.",
                [Query("sum by (channel, status) (qmail_queue_recipients{HERE})", "{{channel}} {{status}}")],
            ),
            style="stack",
        ),
        lines(
            Subject(
                "Mail and bounces",
                "What the queued messages are: mail, bounces, and bounces of bounces. Many bounces that stay are answers to forged senders.",
                [
                    Query("sum(qmail_queue_messages{HERE}) - sum(qmail_queue_bounce_messages{HERE})", "mail"),
                    Query("sum by (kind) (qmail_queue_bounce_messages{HERE})", "{{kind}}"),
                ],
                runbooks=["QmailBounceStorm", "QmailDoubleBounces"],
            ),
            style="stack",
        ),
    ],
)

_AGE = Row(
    "Age",
    [
        heat(
            Subject(
                "How old the messages are",
                "Messages by their age as qmail sees it, now and over time. A band that climbs to the right is mail that cannot be delivered.",
                [Query(_AGES)],
                unit="s",
                runbooks=["QmailOldestMessageTooOld"],
                width=12,
            )
        ),
        lines(
            Subject(
                "Age of the messages",
                "The age that half, 95% and 99% of the messages have not reached, and that of the oldest one.",
                [
                    Query(f"histogram_quantile(0.5, {_AGES}) >= 0", "half"),
                    Query(f"histogram_quantile(0.95, {_AGES}) >= 0", "95%"),
                    Query(f"histogram_quantile(0.99, {_AGES}) >= 0", "99%"),
                    Query("time() - min(qmail_queue_oldest_message_timestamp_seconds{HERE})", "oldest"),
                    Query("max(qmail_control_queuelifetime_seconds{HERE})", "queuelifetime"),
                ],
                unit="s",
                empty="the queue is empty",
                runbooks=["QmailOldestMessageTooOld"],
                width=12,
            ),
            scale="log",
            colours={"queuelifetime": BAD},
        ),
    ],
)

_COMING = Row(
    "What comes",
    [
        bars(
            Subject(
                "Expire within",
                "Messages that reach queuelifetime within 1, 6 and 24 hours; 0: have passed it, and bounce at their next attempt.",
                [
                    Query(
                        "sort(sum by (within) (qmail_queue_expiring_messages{HERE}))", "{{within}}", now=True
                    )
                ],
                runbooks=["QmailMailExpiring"],
                steps=((None, "blue"),),
                width=6,
            )
        ),
        lines(
            Subject(
                "What expires, over time",
                "The same over time. A wave that comes nearer is mail of one day that cannot be delivered.",
                [Query("sum by (within) (qmail_queue_expiring_messages{HERE})", "within {{within}}")],
                runbooks=["QmailMailExpiring"],
                width=6,
            )
        ),
        heat(
            Subject(
                "When the next attempts are due",
                "Messages by the time to their next remote attempt; below 0 they are overdue. After an outage all of it is far off, unless the hook has them tried.",
                [Query('sum by (le) (qmail_queue_next_attempt_seconds_bucket{HERE, channel="remote"})')],
                unit="s",
                runbooks=["QmailQueueStuck"],
                pages=["outage.md"],
                width=12,
            )
        ),
        lines(
            Subject(
                "Due and overdue",
                "Messages whose next attempt is due, and those for which it has been for more than five minutes.",
                [
                    Query(
                        'sum by (channel) (qmail_queue_next_attempt_seconds_bucket{HERE, le="0.0"})',
                        "{{channel}} due",
                    ),
                    Query(
                        'sum by (channel) (qmail_queue_next_attempt_seconds_bucket{HERE, le="-300.0"})',
                        "{{channel}} overdue",
                    ),
                ],
                runbooks=["QmailQueueStuck", "QmailConcurrencySaturated"],
                width=24,
                height=7,
            )
        ),
    ],
)

_HOST = Row(
    "Host",
    [
        lines(
            Subject(
                "Free on the queue's file system",
                "Space and inodes that are free. Without either no mail is accepted.",
                [
                    Query(
                        "min(qmail_queue_filesystem_free_bytes{HERE} / qmail_queue_filesystem_size_bytes{HERE})",
                        "space",
                    ),
                    Query(
                        "min(qmail_queue_filesystem_free_inodes{HERE} / (qmail_queue_filesystem_size_inodes{HERE} > 0))",
                        "inodes",
                    ),
                ],
                unit="percentunit",
                runbooks=["QmailQueueDiskFilling", "QmailQueueDiskFull"],
            ),
            scale="share",
        ),
        lines(
            Subject(
                "Size of the queue",
                "Sum of the sizes of the messages, and the space that is free.",
                [
                    Query("sum(qmail_queue_bytes{HERE})", "queue"),
                    Query("min(qmail_queue_filesystem_free_bytes{HERE})", "free"),
                ],
                unit="bytes",
                runbooks=["QmailQueueDiskFilling"],
            )
        ),
        lines(
            Subject(
                "Alerts and warnings of qmail-send",
                "Such lines in its log; alerts by kind. An alert is something that it cannot mend by itself.",
                [
                    Query(
                        "sum by (kind) (increase(qmail_send_alerts_total{HERE}[$__rate_interval]))",
                        "alert: {{kind}}",
                    ),
                    Query("sum(increase(qmail_send_warnings_total{HERE}[$__rate_interval]))", "warnings"),
                ],
                runbooks=["QmailSendAlerts"],
            ),
            style="bars",
        ),
        states(
            Subject(
                "qmail's programs",
                "Whether they run for this queue.",
                [Query("min by (program) (qmail_process_up{HERE})", "{{program}}")],
                unit="none",
                runbooks=["QmailSendDown", "QmailSendRestarting"],
                width=24,
                height=6,
            ),
            UP,
        ),
    ],
)

BOARD = Board(
    "qmail-queue",
    "qmail: queue",
    "The queue of one host; of several, where several are chosen, the sum.",
    [_NOW, _DEPTH, _AGE, FLOW, CONCURRENCY, _COMING, _HOST],
    one=True,
)
