"""Queries, and the labels by which the variables of a dashboard select.

A query is written as PromQL, with `HERE` in the braces where the chosen hosts and queues are meant, and `HOST` for series
that have no label `queue`: `sum(qmail_queue_messages{HERE})`.

Where nothing happened there is nothing to divide by, and no quantile. `> 0` after a divisor, or `>= 0` after a quantile, makes
that a gap: a NaN would end a stack of lines, and be shown as such.
"""

import re
from dataclasses import dataclass

HOST = 'job=~"$job", instance=~"$instance"'
HERE = f'{HOST}, queue=~"$queue"'
DOMAIN = 'HERE, domain=~"$domain"'
"""For series by domain, where the dashboard has that variable."""
SEEN = "and on (job, instance) last_over_time(qmail_exporter_build_info{HOST}[$__range])"
"""Of series that every target has, such as `up`: those of the exporters that were there in the time that is shown.

The variable `job` alone would let through any job while `All` is chosen.
"""
_PLACE = re.compile(r"\b(HERE|HOST)\b")


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel.

    Attributes:
        promql: as above; `expr` is what Grafana gets.
        legend: of its series, with `{{label}}`; in a table, the column's name.
        now: ask for the last value only, not for the time that is shown.
    """

    promql: str
    legend: str = ""
    now: bool = False

    @property
    def expr(self) -> str:
        """The query with the labels in it."""
        return select(self.promql)


def select(promql: str) -> str:
    """Return PromQL with labels in place of `HERE` and `HOST`."""
    return _PLACE.sub(lambda found: {"HERE": HERE, "HOST": HOST}[found[1]], promql)
