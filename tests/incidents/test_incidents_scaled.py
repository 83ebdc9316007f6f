"""The clock that runs faster: what is made of rules and of Alertmanager's configuration."""

import re

import pytest
import yaml

from incidents import scaled
from incidents.play import ALERTMANAGER, RULES


def _expressions() -> list[str]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule["expr"] for group in groups for rule in group["rules"]]


@pytest.mark.parametrize(
    ("duration", "expected"), [("5m", 300), ("1h30m", 5400), ("200ms", 0.2), ("1d", 86400), ("45s", 45)]
)
def test_durations_are_read(duration: str, expected: float) -> None:
    """A duration of Prometheus's is read in seconds."""
    assert scaled.seconds(duration) == expected


@pytest.mark.parametrize("text", ["", "5", "m", "5m ", "5m3", "1.5h"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """What Prometheus would not take is no duration."""
    with pytest.raises(ValueError, match="no duration"):
        scaled.seconds(text)


def test_expression_on_a_faster_clock() -> None:
    """Ranges, offsets, the distance of a prediction, `time()` and `rate` are of the faster clock; numbers are not."""
    text = 'rate(a{b="rate(c)"}[10m]) > 1800 and time() - d > 3600 or predict_linear(e[6h], 24 * 3600) offset 1h < 0'
    done = scaled.expression(text.replace("rate(c)", "c"), 60, birth=1000, start=500)
    assert done == (
        '(rate(a{b="c"}[10000ms]) / 60) > 1800 and (1000.000 + 60 * (time() - 500.000)) - d > 3600'
        " or predict_linear(e[360000ms], (24 * 3600) / 60) offset 60000ms < 0"
    )


def test_factor_one_changes_no_duration() -> None:
    """On a clock as fast as the real one every duration of the shipped rules is as it was."""
    before = yaml.safe_load(RULES.read_text())
    after = yaml.safe_load(scaled.rules(RULES.read_text(), 1, birth=0, start=0))
    for old, new in zip(before["groups"], after["groups"], strict=True):
        for one, other in zip(old["rules"], new["rules"], strict=True):
            assert one.keys() == other.keys()
            for name in ("for", "keep_firing_for"):
                assert scaled.seconds(one.get(name, "1s")) == scaled.seconds(other.get(name, "1s"))
            ranges = [re.findall(r"\[(\w+)\]", rule["expr"]) for rule in (one, other)]
            assert [scaled.seconds(d) for d in ranges[0]] == [scaled.seconds(d) for d in ranges[1]]


def test_every_duration_of_the_rules_is_divided() -> None:
    """No range, offset or waiting time of the shipped rules is left as long as it was."""
    text = scaled.rules(RULES.read_text(), 60, birth=0, start=0)
    found = re.findall(r"\[(\w+)\]|offset (\w+)|(?:for|keep_firing_for): (\w+)$", text, re.MULTILINE)
    durations = {duration for row in found for duration in row if duration}
    assert durations
    assert all(duration.endswith("ms") for duration in durations)
    assert "time()" not in text.replace("(time() - ", "")


def test_rules_call_only_what_can_be_put_on_a_faster_clock() -> None:
    """The shipped rules use no function, subquery or `@` of which it is not known what a faster clock makes of it."""
    for text in _expressions():
        assert scaled.functions(text) <= scaled.KNOWN, text
        assert "@" not in text
        assert not re.search(r"\[\w+:\w*\]", text), text


def test_alertmanager_on_a_faster_clock() -> None:
    """Waiting times are divided, routes and inhibitions are as they were, and all receivers are the given ones."""
    shipped = (ALERTMANAGER / "alertmanager.example.yml").read_text()
    before = yaml.safe_load(shipped)
    text = scaled.alertmanager(shipped, 60, pager="http://a/p", chat="http://a/c", templates="t.tmpl")
    after = yaml.safe_load(text)
    assert after["inhibit_rules"] == before["inhibit_rules"]
    assert scaled.seconds(after["route"]["group_interval"]) * 60 == scaled.seconds(
        before["route"]["group_interval"]
    )
    assert [route["matchers"] for route in after["route"]["routes"]] == [
        route["matchers"] for route in before["route"]["routes"]
    ]
    assert re.findall(r"https?://\S+", text) == ["http://a/p", "http://a/c"]
