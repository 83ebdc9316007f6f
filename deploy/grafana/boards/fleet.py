"""All hosts at a glance: which of them wants attention."""

from boards.board import Board, Row
from boards.look import AGE, BUSY, DEFERRED, FREE, NETWORK, NONE_IS_GOOD, WHOLE
from boards.panel import Column, Subject, lines, number, rows
from boards.query import SEEN, Query
from boards.shared import NAME, free, network, network_states, problems

_BY = "job, instance, queue"
_CLOSER = (
    "/d/qmail-queue?${__url_time_range}&${datasource:queryparam}&${job:queryparam}"
    "&var-instance=${__data.fields.Host}&var-queue=${__data.fields.Queue}"
)

_NOW = Row(
    "Now",
    [
        number(
            Subject(
                "Hosts down",
                "Exporters that cannot be scraped now, of those that were there in the time that is shown. Nothing else can be told of them.",
                [Query(f"sum(1 - (up{{HOST}} {SEEN}))")],
                runbooks=["QmailExporterDown"],
                steps=NONE_IS_GOOD,
                width=3,
            )
        ),
        number(
            Subject(
                "Half blind",
                "Queues of which the exporter cannot tell all: a directory that cannot be read, or a scan under way.",
                [Query("sum(1 - qmail_up{HERE})")],
                runbooks=["QmailExporterHalfBlind"],
                steps=NONE_IS_GOOD,
                width=3,
            )
        ),
        number(
            Subject(
                "Outages now",
                "Queues whose mail tells that the network is away, or has only just come back.",
                [Query('sum(max by (instance, queue) (qmail_outage_state{HERE, state=~"outage|settling"}))')],
                runbooks=["QmailDestinationsUnreachable"],
                pages=["outage.md"],
                steps=NONE_IS_GOOD,
                width=3,
            )
        ),
        number(
            Subject(
                "Messages",
                "In all queues, as qmail-qstat counts them.",
                [Query("sum(qmail_queue_messages{HERE})")],
                runbooks=["QmailQueueStuck"],
                width=3,
            )
        ),
        number(
            Subject(
                "Waiting recipients",
                "Recipients that have not been delivered to, local and remote.",
                [Query('sum(qmail_queue_recipients{HERE, status="pending"})')],
                width=3,
            )
        ),
        number(
            Subject(
                "Delivered",
                "Deliveries that succeeded, a second.",
                [Query('sum(rate(qmail_deliveries_total{HERE, result="success"}[$__rate_interval]))')],
                unit="ops",
                width=3,
            )
        ),
        number(
            Subject(
                "Deferred",
                "Share of the delivery attempts that were put off. Greylisting alone makes for a third on some hosts.",
                [
                    Query(
                        'sum(rate(qmail_deliveries_total{HERE, result="deferral"}[$__rate_interval]))'
                        " / (sum(rate(qmail_deliveries_total{HERE}[$__rate_interval])) > 0)"
                    )
                ],
                unit="percentunit",
                empty="no attempts",
                runbooks=["QmailDestinationsUnreachable"],
                steps=DEFERRED,
                width=3,
            ),
            decimals=0,
        ),
        number(
            Subject(
                "Expire in a day",
                "Messages that reach queuelifetime within 24 hours: unless they are delivered by then, they bounce.",
                [Query('sum(qmail_queue_expiring_messages{HERE, within="24h"})')],
                runbooks=["QmailMailExpiring"],
                width=3,
            )
        ),
    ],
)

_HOSTS = Row(
    "Hosts",
    [
        rows(
            Subject(
                "Hosts and their queues",
                "One line for each queue, as of now; what is deferred, of the attempts in the time that is shown. A host's name leads to its queue.",
                [
                    Query(f"min by ({_BY}) (qmail_up{{HERE}})", "Picture", now=True),
                    Query(network(_BY), "Network", now=True),
                    Query(f"max by ({_BY}) (qmail_queue_messages{{HERE}})", "Messages", now=True),
                    Query(
                        f"max by ({_BY}) (qmail_queue_todo_messages{{HERE}})", "Not preprocessed", now=True
                    ),
                    Query(
                        f'sum by ({_BY}) (qmail_queue_recipients{{HERE, status="pending"}})',
                        "Recipients",
                        now=True,
                    ),
                    Query(
                        f"time() - min by ({_BY}) (qmail_queue_oldest_message_timestamp_seconds{{HERE}})",
                        "Oldest",
                        now=True,
                    ),
                    Query(
                        f'sum by ({_BY}) (increase(qmail_deliveries_total{{HERE, result="deferral"}}[$__range]))'
                        f" / (sum by ({_BY}) (increase(qmail_deliveries_total{{HERE}}[$__range])) > 0)",
                        "Deferred",
                        now=True,
                    ),
                    Query(
                        f'max by ({_BY}) (qmail_concurrency_used{{HERE, channel="remote"}}'
                        ' / (qmail_concurrency_limit{HERE, channel="remote"} > 0))',
                        "Remote slots",
                        now=True,
                    ),
                    Query(
                        f'max by ({_BY}) (qmail_tcpto_hosts{{HERE, state="dead"}})',
                        "Hosts passed over",
                        now=True,
                    ),
                    Query(
                        f'max by ({_BY}) (qmail_queue_expiring_messages{{HERE, within="24h"}})',
                        "Expire in a day",
                        now=True,
                    ),
                    Query(free(_BY), "Disk free", now=True),
                ],
                runbooks=["QmailQueueStuck", "QmailSendDown"],
                empty="-",
                width=24,
                height=7,
            ),
            {"job": "Job", "instance": "Host", "queue": "Queue"},
            {
                "Job": Column(width=90),
                "Host": Column(link=_CLOSER),
                "Picture": Column(names=WHOLE),
                "Network": Column(names=NETWORK),
                "Oldest": Column("s", AGE, decimals=1),
                "Deferred": Column("percentunit", DEFERRED, decimals=0),
                "Remote slots": Column("percentunit", BUSY, decimals=0),
                "Disk free": Column("percentunit", FREE, decimals=0),
            },
            sort="Oldest",
        ),
        network_states(),
    ],
)

_COURSE = Row(
    "Over time",
    [
        lines(
            Subject(
                "Messages",
                "Messages in each queue. A rise that does not end is mail that comes faster than it goes.",
                [Query("max by (instance, queue) (qmail_queue_messages{HERE})", NAME)],
                runbooks=["QmailQueueStuck"],
            )
        ),
        lines(
            Subject(
                "Oldest message",
                "Age of the oldest message as qmail sees it. It should fall to minutes or hours from time to time, or end at queuelifetime.",
                [
                    Query(
                        "time() - min by (instance, queue) (qmail_queue_oldest_message_timestamp_seconds{HERE})",
                        NAME,
                    )
                ],
                unit="s",
                empty="the queue is empty",
                runbooks=["QmailOldestMessageTooOld"],
            )
        ),
        lines(
            Subject(
                "Delivery attempts",
                "Attempts that ended, a second, whatever came of them.",
                [
                    Query(
                        "sum by (instance, queue) (rate(qmail_deliveries_total{HERE}[$__rate_interval]))",
                        NAME,
                    )
                ],
                unit="ops",
            )
        ),
        lines(
            Subject(
                "Attempts deferred",
                "Share of the attempts that were put off. All hosts together: the network, or a large destination; one host alone: its address may be blocklisted.",
                [
                    Query(
                        'sum by (instance, queue) (rate(qmail_deliveries_total{HERE, result="deferral"}[$__rate_interval]))'
                        " / (sum by (instance, queue) (rate(qmail_deliveries_total{HERE}[$__rate_interval])) > 0)",
                        NAME,
                    )
                ],
                unit="percentunit",
                empty="no attempts",
                runbooks=["QmailDestinationsUnreachable", "QmailRefusedByPolicy"],
            ),
            scale="share",
        ),
        problems(
            "Why attempts are deferred",
            "Deferred remote attempts of all hosts, a second, by reason.",
            "deferral",
            "QmailDestinationDeferring",
        ),
        lines(
            Subject(
                "Bounces",
                "Bounces that were sent, a second.",
                [
                    Query(
                        'sum by (instance, queue) (rate(qmail_bounces_total{HERE, kind="single"}[$__rate_interval]))',
                        NAME,
                    )
                ],
                unit="mps",
                runbooks=["QmailBounceStorm"],
            )
        ),
        lines(
            Subject(
                "Remote slots in use",
                "Share of concurrencyremote that deliveries take. All of it for hours, while mail is due: too few slots, or slow destinations.",
                [
                    Query(
                        'max by (instance, queue) (qmail_concurrency_used{HERE, channel="remote"}'
                        ' / (qmail_concurrency_limit{HERE, channel="remote"} > 0))',
                        NAME,
                    )
                ],
                unit="percentunit",
                runbooks=["QmailConcurrencySaturated"],
            ),
            scale="share",
        ),
        lines(
            Subject(
                "Hosts passed over",
                "Destinations that timed out twice or more (tcpto): qmail does not try them for 64 to 97 minutes.",
                [Query('max by (instance, queue) (qmail_tcpto_hosts{HERE, state="dead"})', NAME)],
                runbooks=["QmailTcptoFull"],
            )
        ),
        lines(
            Subject(
                "Free on the queue's file system",
                "Of space or of inodes, whichever is scarcer. A queue needs an inode or more for each message.",
                [Query(free("instance, queue"), NAME)],
                unit="percentunit",
                runbooks=["QmailQueueDiskFilling", "QmailQueueDiskFull"],
            ),
            scale="share",
        ),
    ],
)

BOARD = Board(
    "qmail-fleet",
    "qmail: fleet",
    "All hosts and queues at a glance.",
    [_NOW, _HOSTS, _COURSE],
    quiet=True,
)
