"""The status page: facts to HTML, by `page.html`.  Pure, but for the time zone in which moments are shown.

Every value that the template prints is made harmless and escaped; only the pictures and the style are markup.
"""

import base64
import hashlib
from collections.abc import Callable, Iterator
from datetime import datetime, timezone, tzinfo
from functools import cache, partial, wraps
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from qmail_exporter.status import chart, health, mail
from qmail_exporter.status.facts import Facts, QueueFacts, Unknown, Waiting
from qmail_exporter.status.history import Rate
from qmail_exporter.status.text import harmless
from qmail_exporter.status.trouble import Trouble, by_level, count, duration

if TYPE_CHECKING:
    from jinja2 import Template

REFRESH = 30
"""Seconds after which the page asks for itself again."""
_HOSTS_SHOWN = 12
_STATES = {
    "clear": "No outage.",
    "outage": "Out: hosts that took mail before do not answer.",
    "settling": "Hosts answer again; that must hold before anything is done.",
    "recovered": "Back; what is to be done about it is due.",
}
_UNITS = ("bytes", "kB", "MB", "GB")

Told = list[tuple[str, Trouble]]
"""Troubles, each with the name of its queue."""


def render(facts: Facts, zone: tzinfo | None = None) -> str:
    """Return the page.  Moments are shown in a time zone, by default this machine's."""
    urgent, notes = attention(facts)
    summary, verdict = summed_up(facts, urgent)
    present = datetime.fromtimestamp(facts.now, timezone.utc).astimezone(zone)
    return template().render(
        facts=facts,
        urgent=urgent,
        notes=notes,
        summary=summary,
        verdict=verdict,
        clock=partial(_clock, present),
        zone=f"{present:%Z}",
    )


def attention(facts: Facts) -> tuple[Told, Told]:
    """Return what needs attention, worst first, and what is only to be noted of the exporter itself."""
    own = _each(facts, health.troubles)
    of_mail = _each(facts, lambda queue, now: () if _is_absent(queue) else mail.troubles(queue, now))
    urgent = [each for each in own if each[1].level != "note"]
    # Of equal level, what the exporter cannot see comes first: it tells what of the rest to believe.
    return _worst_first([*urgent, *of_mail]), [each for each in own if each[1].level == "note"]


def summed_up(facts: Facts, urgent: Told) -> tuple[str, str]:
    """Return the page's first words, and their kind: `act`, `look` or `ok`."""
    if all(map(_is_absent, facts.queues)):
        return "No queue to be read", "act"
    acts, looks = (sum(trouble.level == level for _, trouble in urgent) for level in ("act", "look"))
    if acts:
        return f"{count(acts, 'thing')} to act on" + (f", {looks} to look at" if looks else ""), "act"
    return (f"{count(looks, 'thing')} to look at", "look") if looks else ("Nothing to act on", "ok")


def _each(facts: Facts, troubles: Callable[[QueueFacts, float], Any]) -> Told:
    return [(queue.name, each) for queue in facts.queues for each in troubles(queue, facts.now)]


def _worst_first(told: Told) -> Told:
    order = by_level(trouble for _, trouble in told)
    return sorted(told, key=lambda each: order.index(each[1]))


def _is_absent(queue: QueueFacts) -> bool:
    return any(source.name == "queue" and not source.up for source in queue.sources)


# --- values in words; what is unknown stays so


def _known(function: Callable[..., str]) -> Callable[..., Any]:
    @wraps(function)
    def filtered(value: Any, *arguments: Any) -> Any:
        return value if isinstance(value, Unknown) else function(value, *arguments)

    return filtered


def _clock(present: datetime, moment: float, *, seconds: bool = False) -> str:
    """Say when something was: the time of the day, with the date unless that is today's."""
    try:
        utc = datetime.fromtimestamp(moment, timezone.utc)
        local = utc.astimezone(present.tzinfo)
    except (OverflowError, ValueError, OSError):  # a log may tell of any moment
        return "an impossible time"
    text = f"{local:%H:%M:%S}" if seconds else f"{local:%H:%M}"
    if local.date() != present.date():
        text = f"{local:%-d %b} {text}"
    return Markup('<time datetime="{}">{}</time>').format(f"{utc:%Y-%m-%dT%H:%M:%SZ}", text)


def _bytes(size: int) -> str:
    value = float(size)
    for unit in _UNITS:
        if value < 999.5 or unit == _UNITS[-1]:
            break
        value /= 1000
    return f"{value:,.0f} {unit}" if unit == "bytes" or value >= 99.5 else f"{value:.1f} {unit}"


def _age(birth: float | None, now: float) -> str:
    return "none" if birth is None else duration(now - birth)


def _deferred(waiting: Waiting) -> str:
    return f"{waiting.deferred:,}"


def _rate(rate: Rate, result: str) -> str:
    value = rate.a_minute(result)
    return f"{value:,.0f}" if value >= 9.95 else f"{value:.1f}".removesuffix(".0")


def _or_unknown(value: Any) -> Any:
    return "unknown" if isinstance(value, Unknown) else value


def _printed(value: Any) -> Any:
    return harmless(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def prepare() -> Iterator[None]:
    """Have the template ready, in steps of some fifty milliseconds."""
    import jinja2  # noqa: F401, PLC0415

    yield
    template()


@cache
def template() -> "Template":
    """Return what makes the page.  The first time takes a tenth of a second, which an exporter that starts has better use for."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415

    environment = Environment(
        loader=PackageLoader("qmail_exporter.status", "."),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printed,
        trim_blocks=True,
    )
    environment.filters |= {
        "number": _known("{:,}".format),
        "bytes": _known(_bytes),
        "age": _known(_age),
        "deferred": _known(_deferred),
        "rate": _rate,
        "duration": duration,
        "counted": count,
        "or_unknown": _or_unknown,
    }
    environment.tests |= {"unknown": lambda value: isinstance(value, Unknown), "absent": _is_absent}
    environment.globals |= {
        "chart": chart,
        "hosts_shown": _HOSTS_SHOWN,
        "states": _STATES,
        "refresh": REFRESH,
        "style": Markup(_STYLE),  # noqa: S704 - the package's own file
    }
    return environment.get_template("page.html")


_STYLE = files("qmail_exporter.status").joinpath("style.css").read_text(encoding="utf-8")
_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode("ascii")
POLICY = f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""The Content-Security-Policy that the page is to be sent with: nothing is loaded, and no style but its own is applied."""
