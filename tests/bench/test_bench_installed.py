"""What the page says of the qmail beside which it measures is what that qmail says of itself, or what was told."""

from pathlib import Path

import pytest

from bench.installed import described


def _home(place: Path, manual: str | None) -> Path:
    for name, text in (("bin/qmail-send", ""), ("man/man7/qmail.7", manual)):
        if text is not None:
            (place / name).parent.mkdir(parents=True)
            (place / name).write_text(text)
    return place


@pytest.mark.parametrize(
    ("manual", "words"),
    [
        ("\nThis documentation describes version\n1.03\nof\n.BR qmail .\n", ": version 1.03, as"),
        ("\nThis documentation describes notqmail version\n1.08\nof\n", ": notqmail version 1.08, as"),
        (".TH qmail 7\n", ", of a version that it does not tell"),
        (None, ", of a version that it does not tell"),
    ],
)
def test_manual(tmp_path: Path, manual: str | None, words: str) -> None:
    """The version is that of the manual page qmail(7), where it names one; otherwise none is guessed."""
    home = _home(tmp_path, manual)
    assert described(None, home).startswith(f"qmail in {home}{words}")


def test_told(tmp_path: Path) -> None:
    """What was told comes before the manual; where there is no qmail, neither counts."""
    assert described("netqmail 1.06", tmp_path).startswith("no qmail in ")
    home = _home(tmp_path, "This documentation describes version 1.05 of")
    assert described("netqmail 1.06", home) == f"netqmail 1.06 in {home}"
