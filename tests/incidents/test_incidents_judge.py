"""How a run is judged."""

import pytest

from incidents.judge import faults, held, page, severities, told
from incidents.play import Played, Raised
from incidents.script import Page, Script
from incidents.scripts import CALM, INCIDENTS, SCRIPTS
from incidents.served import Notice, from_chat, from_webhook

SCRIPT = Script("a", "it falls", {}, 100, (Page("QmailSendDown", 10, 10),), began=20, ended=50)


def _played(*notices: tuple[float, str, bool], also: str = "") -> Played:
    made = [Notice(moment, "pager", "a", alert, firing, "text") for moment, alert, firing in notices]
    raised = {Raised("a", notice.alert) for notice in made} | ({Raised("a", also)} if also else set())
    return Played(made, raised, (0, 1), 0, ("prometheus 9", "alertmanager 9"), {"a": 300.0})


GOOD = ((25.0, "QmailSendDown", True), (55.0, "QmailSendDown", False))


def test_run_as_its_script_has_it() -> None:
    """A page in time that is over in time is no fault, nor is it one when Alertmanager repeats it."""
    assert not list(faults(_played(*GOOD), SCRIPT))
    assert not list(faults(_played(*GOOD, (40.0, "QmailSendDown", True)), SCRIPT))


@pytest.mark.parametrize(
    ("notices", "also", "fault"),
    [
        ((), "", "was not told"),
        (((15.0, "QmailSendDown", True), GOOD[1]), "", "was told at 15.0"),
        (((31.0, "QmailSendDown", True), GOOD[1]), "", "was told at 31.0"),
        ((GOOD[0],), "", "was over at None"),
        ((GOOD[0], (61.0, "QmailSendDown", False)), "", "was over at 61.0"),
        ((GOOD[0], (45.0, "QmailSendDown", False)), "", "was over at 45.0"),
        ((*GOOD, (58.0, "QmailSendDown", True)), "", "was told again at 58.0"),
        ((*GOOD, (58.0, "QmailQueueStuck", True)), "", "QmailQueueStuck was told at 58.0"),
        ((*GOOD, (58.0, "QmailHookFailing", True)), "", "QmailHookFailing went to pager"),
        (GOOD, "QmailQueueStuck", "held back were"),
    ],
)
def test_faults(notices: tuple[tuple[float, str, bool], ...], also: str, fault: str) -> None:
    """What is missing, early, late, told twice, not in the script, sent elsewhere, or held back unforeseen is a fault."""
    assert any(fault in found for found in faults(_played(*notices, also=also), SCRIPT))


def test_that_something_is_over_of_which_nobody_heard_is_no_page() -> None:
    """Alertmanager tells so of an alert that was held back until both were over."""
    played = _played(*GOOD, (55.0, "QmailQueueStuck", False))
    assert told(played, SCRIPT).keys() == {"QmailSendDown"}
    assert held(played, SCRIPT) == {"QmailQueueStuck"}


def test_page_shows_what_was_told() -> None:
    """The page has a row for each incident, with how long it took, and one for each alert."""
    text = page(_played(*GOOD), [SCRIPT])
    assert "| a | it falls | QmailSendDown | critical | 5 | 5 |  |" in text
    assert "| QmailSendDown | critical | a |  |" in text
    assert "played 300 times as fast" in text


def test_each_alert_has_an_incident() -> None:
    """Every alert of the rules is raised by some incident, and told."""
    assert {page.alert for script in INCIDENTS for page in script.pages} == severities().keys()


def test_scripts_are_of_one_mind() -> None:
    """Names are different, an incident has pages and a calm run none, and both end within their run."""
    assert len({script.name for script in SCRIPTS}) == len(SCRIPTS)
    assert not [script.name for script in CALM if script.pages or script.held]
    for script in INCIDENTS:
        assert script.pages
        assert script.began <= script.ended
        assert all(script.ended + page.over <= script.length for page in script.pages), script.name
        assert all(at < script.length for at in script.turns)


def test_messages_of_both_receivers_are_read() -> None:
    """A webhook's message has alerts; the chat's has the words of the template."""
    alert = {
        "status": "firing",
        "labels": {"alertname": "QmailSendDown", "instance": "mx1"},
        "annotations": {"summary": "s", "description": "d"},
    }
    assert list(from_webhook({"alerts": [alert]})) == [("mx1", "QmailSendDown", True, "s d")]
    text = "WARNING QmailDriftFound: x\ny\nOver: QmailLogSilent: z, from 1 to 2 UTC.\n"
    chat = {"attachments": [{"title": "[FIRING 1] qmail on mx1:1", "text": text}]}
    assert [notice[:3] for notice in from_chat(chat)] == [
        ("mx1:1", "QmailDriftFound", True),
        ("mx1:1", "QmailLogSilent", False),
    ]


@pytest.mark.parametrize(("missed", "failed", "kept_up"), [(5, 3, True), (6, 0, False), (0, 4, False)])
def test_run_that_was_too_fast_says_so(missed: int, failed: int, *, kept_up: bool) -> None:
    """Where many evaluations were left out, or scrapes failed, the machine did not keep up."""
    assert Played(missed=(missed, 100), failed=failed).in_step is kept_up


def test_runs_are_put_together() -> None:
    """What became of hosts that were played one after the other is as if it had been at once."""
    whole, other = (
        _played(*GOOD),
        Played([Notice(1.0, "chat", "b", "QmailDriftFound", True, "")], set(), (1, 9), 2),
    )
    other.factors["b"] = 150.0
    whole.add(other)
    assert (len(whole.notices), whole.missed, whole.failed) == (3, (1, 10), 2)
    assert whole.factors == {"a": 300.0, "b": 150.0}
