"""One thing that was found out."""

from typing import Any, Literal, NamedTuple

Level = Literal["ok", "warn", "bad"]


class Finding(NamedTuple):
    """One line of the doctor's report.

    Attributes:
        level: `ok`; `warn`: worth knowing; `bad`: wrong, and mail or monitoring suffers.
        subject: what it is about: `home`, `queue NAME`, `log PATH` …
        text: what was found.
        fix: a command for a shell that puts it right, or None if there is none or none is needed.
        blind: `serve` would not see all because of this.
    """

    level: Level
    subject: str
    text: str
    fix: str | None = None
    blind: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return self._asdict()


def ok(subject: str, text: str) -> Finding:
    """All is well."""
    return Finding("ok", subject, text)


def warn(subject: str, text: str, fix: str | None = None) -> Finding:
    """Worth knowing."""
    return Finding("warn", subject, text, fix)


def bad(subject: str, text: str, fix: str | None = None) -> Finding:
    """Wrong with qmail."""
    return Finding("bad", subject, text, fix)


def blind(subject: str, text: str, fix: str | None = None) -> Finding:
    """Wrong with what the exporter needs."""
    return Finding("bad", subject, text, fix, blind=True)
