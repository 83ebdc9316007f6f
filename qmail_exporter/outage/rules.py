"""The numbers that outages are judged by, each with the reason for its value."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The parameters of a `Machine`; times are seconds.

    Attributes:
        window: how long an attempt counts. A host that mails little makes its few attempts in ten minutes or so; qmail's
            first retry, after 400 s, is among them.
        sample: how many domains count, those tried last. Few, so that what was reached before an outage is soon
            outnumbered: qmail's 20 deliveries at once all time out together.
        domains: as many must fail for an outage. One or two hosts are down at any time, and a large provider is one domain,
            or a few.
        reached_share: of the domains in the sample, fewer must be reached. Where half of the hosts are out, half of the
            domains are reached, give or take; where all is well, nearly all are.
        chronic: a domain that has failed for longer does not count towards an outage. Bounces to hosts that do not exist are
            tried for a week; at night they may be all that is tried.
        passed_over: a connection that failed sooner may not have been tried, while tcpto has hosts that qmail passes over. A
            timeout takes longer (`timeoutconnect`, 60), passing over takes no longer than DNS does.
        hosts: so many must answer again. One or two may have been down for themselves and be back; if qmail passes over
            fewer, those.
        probe_share: of the hosts probed since the first answer, as many must answer. Most; among the hosts in tcpto are some
            that never do.
        probes_speak: for so long after a probe's end, domains that have not failed count for nothing. They may be of the
            half that works, while probes ask the other half. Several times the probes' interval.
        flowing: it is over, too, when of the domains tried since then, half a sample at least, so many are reached. An outage
            may have been taken for one of the network that was that of a few hosts, which stay away for days. More than
            `reached_share`, or it would come and go.
        settle: for so long it must hold. A link that flaps comes and goes within a second or two. What it adds is added to
            the wait of every message.
        settle_most: when it has not held by then, the outage goes on. Long enough for the probes that do not answer to
            time out and say so.
        forget: an outage of which nothing was heard for so long is over. A host is tried again 97 minutes after its last
            timeout at the latest, if there is mail for it; so by then there was none.
        cooldown: the least time between two runs. Each makes every message due and every dead host be tried; a network
            that comes and goes must not do that all the time. Three minutes at the least lie between an emptied table and
            another dead host.
        backoff: a failed action is tried again after this, then after twice as long, and so on.
        backoff_most: the longest such wait.
        worth: an action not run by then is not run. qmail has tried every host again by itself, 91 * 64 s after.
    """

    window: float = 600.0
    sample: int = 40
    domains: int = 5
    reached_share: float = 0.6
    chronic: float = 3600.0
    passed_over: float = 1.0
    hosts: int = 3
    probe_share: float = 0.5
    probes_speak: float = 30.0
    flowing: float = 0.8
    settle: float = 4.0
    settle_most: float = 30.0
    forget: float = 7200.0
    cooldown: float = 600.0
    backoff: float = 5.0
    backoff_most: float = 300.0
    worth: float = 5824.0
