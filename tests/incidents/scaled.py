"""The shipped files on a clock that runs faster by one factor.

A run's clock shows `birth + factor * (real - start)`.  For rules that see it as they see the real one in production,
every duration in them is divided by the factor: ranges, offsets, `for`, `keep_firing_for`, and how far ahead `predict_linear`
looks.  `time()` becomes the run's time and `rate` is brought to its seconds.  Names, thresholds, labels and texts stay.
"""

import re
from typing import Any

import yaml

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+)(ms|[smhd])")
_RANGE = re.compile(r"\[(\w+)\]")
_OFFSET = re.compile(r"\boffset (\w+)")
_RATE = re.compile(r"\brate\(([^()]*)\)")
_PREDICT = re.compile(r"\bpredict_linear\(([^,()]*), ([^()]*)\)")
_FUNCTION = re.compile(r"\b([a-z_]+)(?=\()")
_OWN = frozenset(
    {"for", "keep_firing_for", "group_wait", "group_interval", "repeat_interval", "resolve_timeout"}
)
KNOWN = frozenset({
    "sum", "count", "min", "max", "absent", "sqrt", "time", "rate", "increase", "predict_linear", "avg_over_time",
    "max_over_time", "min_over_time", "without", "ignoring", "on", "by", "group_left", "sort_desc", "and", "or", "unless",
})  # fmt: skip
"""What an expression may call: of these, it is known what a faster clock does to them."""


def seconds(duration: str) -> float:
    """Return a duration of Prometheus's, such as `1h30m`, in seconds.

    Raises:
        ValueError: it is none.
    """
    parts = _DURATION.findall(duration)
    if not parts or "".join(map("".join, parts)) != duration:
        raise ValueError(f"no duration: {duration}")
    return sum(int(number) * _UNITS[unit] for number, unit in parts)


def shorter(duration: str, factor: float) -> str:
    """Return a duration divided by the factor, in whole milliseconds and at least one."""
    return f"{max(round(seconds(duration) * 1000 / factor), 1)}ms"


def expression(text: str, factor: float, *, birth: float, start: float) -> str:
    """Return an expression, or a text with some in it, for a clock that is faster by `factor`.

    `birth` is what the run's clock shows at `start`; both are Unix seconds.
    """
    text = _RATE.sub(rf"(rate(\1) / {factor:g})", text)
    text = _PREDICT.sub(rf"predict_linear(\1, (\2) / {factor:g})", text)
    text = _RANGE.sub(lambda found: f"[{shorter(found[1], factor)}]", text)
    text = _OFFSET.sub(lambda found: f"offset {shorter(found[1], factor)}", text)
    return text.replace("time()", f"({birth:.3f} + {factor:g} * (time() - {start:.3f}))")


def functions(text: str) -> set[str]:
    """Return the functions and keywords before a parenthesis in an expression; strings do not count."""
    return set(_FUNCTION.findall(re.sub(r'"[^"]*"', '""', text)))


def rules(shipped: str, factor: float, *, birth: float, start: float) -> str:
    """Return a file of rules for a clock that is faster by `factor`."""
    document = yaml.safe_load(shipped)
    for rule in (rule for group in document["groups"] for rule in group["rules"]):
        rule["expr"] = expression(rule["expr"], factor, birth=birth, start=start)
        for name, text in rule.get("annotations", {}).items():
            rule["annotations"][name] = expression(text, factor, birth=birth, start=start)
        _durations(rule, factor)
    return yaml.safe_dump(document, sort_keys=False, width=1000)


def alertmanager(shipped: str, factor: float, *, pager: str, chat: str, templates: str) -> str:
    """Return a configuration of Alertmanager for such a clock, with its receivers at these addresses."""
    document = yaml.safe_load(shipped)
    _durations(document, factor)
    document["templates"] = [templates]
    for receiver in document["receivers"]:
        for one in receiver.get("webhook_configs", ()):
            one["url"] = pager
        for one in receiver.get("slack_configs", ()):
            one["api_url"] = chat
    return yaml.safe_dump(document, sort_keys=False, width=1000)


def _durations(node: Any, factor: float) -> None:
    """Divide every duration in a document, in place."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in _OWN and isinstance(value, str):
                node[key] = shorter(value, factor)
            else:
                _durations(value, factor)
    elif isinstance(node, list):
        for value in node:
            _durations(value, factor)
