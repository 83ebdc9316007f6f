"""Rows of the dashboard of destinations: why mail waits, and who turns this host away."""

from boards.board import Row
from boards.look import RESULTS
from boards.panel import Subject, bars, lines
from boards.query import DOMAIN, Query
from boards.shared import problems

_POLICY = 'HERE, channel="remote", reason=~"policy|rate_limit|greylist|greeting"'

REASONS = Row(
    "Reasons",
    [
        lines(
            Subject(
                "Why recipients wait",
                "Recipients whose last attempt was deferred, by reason.",
                [Query(f"sum by (reason) (qmail_domain_deferred_recipients{{{DOMAIN}}})", "{{reason}}")],
                empty="none",
                runbooks=["QmailDestinationDeferring"],
            ),
            style="stack",
        ),
        problems(
            "Why attempts are deferred",
            "Deferred remote attempts a second, by reason, to all domains.",
            "deferral",
            "QmailDestinationDeferring",
            "QmailDestinationsUnreachable",
        ),
        problems(
            "Why attempts fail",
            "Remote attempts that failed for good, a second, by reason, to all domains.",
            "failure",
            "QmailBounceStorm",
        ),
        lines(
            Subject(
                "What comes of attempts",
                "Share of the attempts to these domains, by result.",
                [
                    Query(
                        f"sum by (result) (rate(qmail_domain_deliveries_total{{{DOMAIN}}}[$__rate_interval]))"
                        f" / on () group_left () (sum(rate(qmail_domain_deliveries_total{{{DOMAIN}}}[$__rate_interval])) > 0)",
                        "{{result}}",
                    )
                ],
                unit="percentunit",
                empty="no attempts",
            ),
            style="stack",
            scale="share",
            colours=RESULTS,
        ),
        lines(
            Subject(
                "Recipients given up",
                "Recipients that failed for good, local and remote, a second, by reason; expired: queuelifetime was over.",
                [
                    Query(
                        "sum by (reason) (rate(qmail_bounced_recipients_total{HERE}[$__rate_interval])) > 0",
                        "{{reason}}",
                    )
                ],
                unit="ops",
                empty="none",
                runbooks=["QmailBounceStorm", "QmailMailExpiring"],
            ),
            style="stack",
        ),
        lines(
            Subject(
                "Double bounces",
                "Bounces that could not be delivered either, by the domain that the mail was for; an hour's sum. It takes --double-bounces.log.",
                [
                    Query(
                        f"topk(10, sum by (domain) (increase(qmail_double_bounces_total{{{DOMAIN}}}[1h])))",
                        "{{domain}}",
                    )
                ],
                empty="no --double-bounces.log, or none",
                runbooks=["QmailDoubleBounces"],
            ),
            style="stack",
        ),
    ],
)

POLICIES = Row(
    "Policies",
    [
        lines(
            Subject(
                "Who turns this host away",
                "Remote attempts a second that were put off or refused for what this host is or does: policy, rate limits, greylisting, a greeting that says no.",
                [
                    Query(
                        f"sum by (reason, result) (rate(qmail_delivery_problems_total{{{_POLICY}}}[$__rate_interval]))"
                        " > 0",
                        "{{reason}}: {{result}}",
                    )
                ],
                unit="ops",
                empty="nobody",
                runbooks=["QmailRefusedByPolicy"],
                width=12,
            ),
            style="stack",
        ),
        bars(
            Subject(
                "Domains that turn this host away",
                "Recipients that wait because of a policy, a rate limit, greylisting or a greeting that said no: the ten largest.",
                [
                    Query(
                        "topk(10, sum by (domain, reason) (qmail_domain_deferred_recipients"
                        f'{{{DOMAIN}, reason=~"policy|rate_limit|greylist|greeting"}}))',
                        "{{domain}}: {{reason}}",
                        now=True,
                    )
                ],
                empty="none",
                runbooks=["QmailRefusedByPolicy"],
                steps=((None, "orange"),),
                width=12,
            )
        ),
    ],
)
