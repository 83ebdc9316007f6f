"""Whether a run told what its script says, and the page that shows it."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

import yaml

from incidents.play import RULES, Played
from incidents.script import Page, Script
from incidents.served import Notice

_RECEIVERS = {"critical": "pager", "warning": "chat"}


class Told(NamedTuple):
    """What was told of one alert of a run, in minutes since the exporter's start.

    `over` is None while it lasts; `again` is when it was told of once more after it was over.
    """

    first: float
    over: float | None
    again: float | None


@cache
def severities() -> dict[str, str]:
    """The severity of each alert."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    return {rule["alert"]: rule["labels"]["severity"] for rule in rules}


def of_script(played: Played, script: Script) -> list[Notice]:
    """The notices of a script's host, up to its end."""
    return [
        notice
        for notice in sorted(played.notices)
        if notice.host == script.name and notice.moment <= script.length
    ]


def told(played: Played, script: Script) -> dict[str, Told]:
    """What was told of each alert that fired; that something is over of which nobody heard does not count."""
    found: dict[str, Told] = {}
    for notice in of_script(played, script):
        before = found.get(notice.alert)
        if before is None:
            if notice.firing:
                found[notice.alert] = Told(notice.moment, None, None)
        elif not notice.firing:
            found[notice.alert] = before._replace(over=before.over or notice.moment)
        elif before.over is not None:
            found[notice.alert] = before._replace(again=before.again or notice.moment)
    return found


def held(played: Played, script: Script) -> set[str]:
    """The alerts that Prometheus raised and of which nobody was told."""
    raised = {alert for host, alert in played.raised if host == script.name}
    return raised - told(played, script).keys()


def faults(played: Played, script: Script) -> Iterator[str]:
    """Say in what a run was not as its script has it."""
    for fault in _faults(played, script):
        yield f"{script.name}: {fault}"


def _faults(played: Played, script: Script) -> Iterator[str]:
    found, notices = told(played, script), of_script(played, script)
    for page in script.pages:
        yield from _untimely(script, page, found.get(page.alert))
    for alert in found.keys() - {page.alert for page in script.pages}:
        yield f"{alert} was told at {found[alert].first:.1f}"
    if (back := held(played, script)) != script.held:
        yield f"held back were {sorted(back)}"
    for notice in notices:
        if notice.receiver != _RECEIVERS[severities()[notice.alert]]:
            yield f"{notice.alert} went to {notice.receiver}"
    for alert, words in script.says.items():
        if not any(words in notice.text for notice in notices if notice.alert == alert):
            yield f"the text of {alert} does not have: {words}"


def _untimely(script: Script, page: Page, found: Told | None) -> Iterator[str]:
    if found is None:
        yield f"{page.alert} was not told"
        return
    if not script.began <= found.first <= script.began + page.within:
        yield f"{page.alert} was told at {found.first:.1f}"
    if found.over is None or not script.ended <= found.over <= script.ended + page.over:
        yield f"{page.alert} was over at {found.over}"
    if found.again is not None:
        yield f"{page.alert} was told again at {found.again:.1f}"


# --- the page

_PAGE = """# Incidents

Written by `make incidents`. What befell simulated hosts, and of what an administrator with the files of `deploy/prometheus` and
`deploy/alertmanager` was told.

Each host is a simulated qmail on a directory of its own, with its usual mail all the while, that of 2,400 messages a day where nothing
else is said, and the exporter's own collector beside it, on one clock. Only what cannot be had there is made up: whether qmail's processes run, and
how full the file system is. The answers to a scrape a minute are recorded, and played, several hosts at once, to a Prometheus that has an
Alertmanager behind it, whose receivers note what comes, and when.

The recordings are played {factors} times as fast. So in the rules and in Alertmanager's configuration every duration is divided by as much:
ranges, offsets, `for`, `keep_firing_for`, the distance that `predict_linear` looks ahead, `group_wait`, `group_interval`,
`repeat_interval`. `time()` is the run's clock, and `rate` is a second of it. Rules are evaluated once a minute of the run, as scrapes are made. Not scaled are
Prometheus's lookback of 5 minutes and its resending of alerts. All times here are minutes of the run.

{programs}. {hosts} hosts, {runs} evaluations of a group of rules, of which {missed} were left out as the one before had not ended, and {failed} scrapes
that failed for lack of processor time.

## Incidents

"Told" is how long after the beginning the notification came, "over" how long after the end the one that all is well. What is raised and
held back is inhibited by the alert beside it. Nothing else was told.

| Incident | What happens | Alert | Severity | Told after | Over after | Held back |
|---|---|---|---|---|---|---|
{incidents}

## Calm runs

Nothing was told, and no alert raised.

| Run | What happens | Length |
|---|---|---|
{calm}

## Which incident shows which alert

| Alert | Severity | Told in | Held back in |
|---|---|---|---|
{alerts}
"""


def page(played: Played, scripts: Sequence[Script]) -> str:
    """Return docs/incidents.md, of a run that was as its scripts have it."""
    missed, runs = played.missed
    return _PAGE.format(
        factors=" or ".join(f"{factor:g}" for factor in sorted(set(played.factors.values()), reverse=True)),
        failed=played.failed,
        programs=" and ".join(program[:1].upper() + program[1:] for program in played.programs),
        hosts=len(scripts),
        runs=f"{runs:,}",
        missed=missed,
        incidents="\n".join(_incidents(played, scripts)),
        calm="\n".join(f"| {s.name} | {s.story} | {s.length // 60} h |" for s in scripts if not s.pages),
        alerts="\n".join(_alerts(played, scripts)),
    )


def table(played: Played, scripts: Sequence[Script]) -> str:
    """Return what was told of each run, a line an alert, for a terminal."""
    lines = []
    for script in scripts:
        found = told(played, script)
        for alert, (first, over, _) in found.items():
            after = "-" if over is None else f"{over - script.ended:.0f}"
            lines.append(f"{script.name:22} {alert:30} told {first - script.began:4.0f}  over {after:>4}")
        lines += [f"{script.name:22} {alert:30} held back" for alert in sorted(held(played, script))]
        if not found:
            lines.append(f"{script.name:22} nothing")
    return "\n".join(lines)


def _incidents(played: Played, scripts: Sequence[Script]) -> Iterator[str]:
    for script in scripts:
        what = f"| {script.name} | {script.story} "
        back = ", ".join(sorted(script.held))
        for wanted in script.pages:
            first, over, _ = told(played, script)[wanted.alert]
            after = (over or 0) - script.ended
            severity = severities()[wanted.alert]
            yield f"{what}| {wanted.alert} | {severity} | {first - script.began:.0f} | {after:.0f} | {back} |"
            what, back = "| | ", ""


def _alerts(played: Played, scripts: Sequence[Script]) -> Iterator[str]:
    for alert, severity in sorted(severities().items()):
        shown = ", ".join(script.name for script in scripts if alert in told(played, script))
        back = ", ".join(script.name for script in scripts if alert in held(played, script))
        yield f"| {alert} | {severity} | {shown} | {back} |"
