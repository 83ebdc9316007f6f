"""The page's pictures as SVG: depth over the last hour, deliveries a minute, messages by age.  Pure.

Every picture has a title and a description that says in words what it shows.  Colours come from the page's style, by class.
"""

from collections.abc import Iterable, Sequence
from itertools import count as numbered

from markupsafe import Markup, escape

from qmail_exporter.status.facts import Ages
from qmail_exporter.status.history import BROKEN, MINUTE, RESULTS, SPAN, Point

WIDTH, HEIGHT = 360, 132
_LEFT, _RIGHT, _TOP, _BASE = 38, 354, 12, 110
_LEFT_OUT = frozenset({60, 1800, 7200, 28800})
_STEPS = (1, 2, 3, 4, 5, 6, 8)


def depth(points: Sequence[Point], name: str) -> Markup:
    """Draw how many messages there were in the last hour; `name` tells this picture's ids from others'."""
    known = [point.depth for point in points if point.depth is not None]
    if len(known) < 2:
        return _picture(name, "Messages, last hour", "Nothing is known yet.", [_empty()])
    top = ceiling(max(known))
    now = points[-1].time
    body = [*_grid(top), *_hours()]
    for run in _runs(points):
        line = " ".join(f"{_x(1 - (now - time) / SPAN)} {_y(depth, top)}" for time, depth in run)
        first, last = (_x(1 - (now - run[place][0]) / SPAN) for place in (0, -1))
        body.append(f'<path class="area" d="M{first} {_BASE}L{line}L{last} {_BASE}Z"/>')
        body.append(f'<path class="line" d="M{line}"/>')
    text = f"Between {min(known):,} and {max(known):,} messages; {known[-1]:,} at last."
    return _picture(name, "Messages, last hour", text, body)


def deliveries(minutes: Sequence[dict[str, int] | None], name: str) -> Markup:
    """Draw the deliveries that ended in each of the last 60 minutes, by result."""
    known = [minute for minute in minutes if minute is not None]
    title = "Deliveries a minute, last hour"
    if not known:
        return _picture(name, title, "Nothing is known yet.", [_empty()])
    top = ceiling(max(sum(minute.values()) for minute in known))
    width = (_RIGHT - _LEFT) / len(minutes)
    body = [*_grid(top), *_hours()]
    for place, minute in enumerate(minutes):
        if minute:
            parts = [(f"bar {result}", minute[result]) for result in RESULTS]
            body += _stack(_LEFT + place * width, width - 1, parts, top)
    sums = ", ".join(f"{sum(minute[result] for minute in known):,} {result}" for result in RESULTS)
    return _picture(name, title, f"In {len(known)} minutes: {sums}.", body)


def ages(found: Ages, name: str) -> Markup:
    """Draw how many messages there are of each age."""
    found = merged(found)
    top = ceiling(max(mail + bounces for mail, bounces in zip(found.mail, found.bounces, strict=True)))
    labels = [short(bound) for bound in found.bounds]
    width = (_RIGHT - _LEFT) / len(found.mail)
    body = _grid(top)
    told = []
    for place, mail, bounces in zip(numbered(), found.mail, found.bounces, strict=False):
        left = _LEFT + place * width
        body += _stack(left + 1, width - 2, [("bar mail", mail), ("bar bounce", bounces)], top)
        number = mail + bounces
        upto = labels[place] if place < len(labels) else f">{labels[-1]}"
        body.append(f'<text x="{left + width / 2:.1f}" y="{_BASE + 13}" class="middle small">{upto}</text>')
        if number:
            y = _y(number, top) - 3
            body.append(
                f'<text x="{left + width / 2:.1f}" y="{y:.1f}" class="middle small value">{brief(number)}</text>'
            )
            told.append(f"{number:,} {'up to ' if place < len(labels) else ''}{upto}")
    return _picture(name, "Messages by age", f"{'; '.join(told) or 'None'}.", body)


def merged(found: Ages) -> Ages:
    """Return the ages with those bounds only that there is room for."""
    bounds = [bound for bound in found.bounds if bound not in _LEFT_OUT]
    parts: list[list[int]] = [[], []]
    for part, counts in zip(parts, (found.mail, found.bounces), strict=True):
        carried = 0
        for bound, count in zip((*found.bounds, None), counts, strict=True):
            carried += count
            if bound not in _LEFT_OUT:
                part.append(carried)
                carried = 0
    return Ages(tuple(bounds), *map(tuple, parts))


def ceiling(most: float) -> int:
    """Return a round number not below `most`, for the top of an axis."""
    power = 1
    while power * 10 < most:
        power *= 10
    return next((step * power for step in _STEPS if step * power >= most), 10 * power)


def brief(number: int) -> str:
    """Say a number in four characters or so: 999, 1.2k, 45k, 1.0M."""
    for unit, size in (("M", 1_000_000), ("k", 1_000)):
        if number >= size * 0.9995:
            value = number / size
            return f"{value:.1f}{unit}" if value < 9.95 else f"{value:.0f}{unit}"
    return str(number)


def short(seconds: int) -> str:
    """Say a bound: 1m, 4h, 7d."""
    for unit, size in (("d", 86400), ("h", 3600)):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds // MINUTE}m"


def _runs(points: Iterable[Point]) -> list[list[tuple[float, int]]]:
    """The known depths, in runs that nothing interrupts."""
    runs: list[list[tuple[float, int]]] = [[]]
    for time, depth, _ in points:
        if depth is None or (runs[-1] and time - runs[-1][-1][0] > BROKEN):
            runs.append([])
        if depth is not None:
            runs[-1].append((time, depth))
    return [run for run in runs if run]


def _x(share: float) -> str:
    return f"{_LEFT + share * (_RIGHT - _LEFT):.1f}"


def _y(value: float, top: float) -> float:
    return round(_BASE - value / top * (_BASE - _TOP), 1)


def _stack(left: float, width: float, parts: Iterable[tuple[str, int]], top: int) -> list[str]:
    """Bars on top of each other, the first at the bottom; what is there is seen, however little."""
    bars, below = [], float(_BASE)
    for kind, value in parts:
        if value:
            height = max(value / top * (_BASE - _TOP), 0.8)
            below -= height
            bars.append(
                f'<rect class="{kind}" x="{left:.1f}" y="{below:.1f}" width="{width:.1f}" height="{height:.1f}"/>'
            )
    return bars


def _grid(top: int) -> list[str]:
    lines = [(0, _BASE), (top, _TOP)]
    if top % 2 == 0:
        lines.append((top // 2, (_BASE + _TOP) // 2))
    return [
        f'<path class="grid" d="M{_LEFT} {y}H{_RIGHT}"/><text x="{_LEFT - 5}" y="{y + 3.5}" class="end">{brief(value)}</text>'
        for value, y in lines
    ]


def _hours() -> list[str]:
    places = ((_LEFT, "start", "60 min ago"), ((_LEFT + _RIGHT) / 2, "middle", "30"), (_RIGHT, "end", "now"))
    return [f'<text x="{x}" y="{_BASE + 15}" class="{anchor}">{text}</text>' for x, anchor, text in places]


def _empty() -> str:
    return f'<text x="{WIDTH / 2}" y="{HEIGHT / 2}" class="middle">not known yet</text>'


def _picture(name: str, title: str, text: str, body: Iterable[str]) -> Markup:
    safe = escape(name)
    return Markup(  # noqa: S704 - the body is made above, of numbers and fixed words
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{safe}-t {safe}-d">'
        f'<title id="{safe}-t">{escape(title)}</title><desc id="{safe}-d">{escape(text)}</desc>{"".join(body)}</svg>'
    )
