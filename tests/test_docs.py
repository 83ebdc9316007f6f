"""What the documents say and the code knows is held equal here."""

import re
from pathlib import Path

import click
import generate
import pytest

from qmail_exporter import __version__, cli
from qmail_exporter.flags.page import walk
from qmail_exporter.metrics import FAMILIES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def _flags() -> set[str]:
    return {
        flag
        for _, command in walk(cli.main, "")
        for option in command.params
        if isinstance(option, click.Option)
        for flag in option.opts
    }


def test_metrics_page() -> None:
    """docs/metrics.md is what `make docs` makes of the metrics as they are."""
    assert (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8") == generate.metrics()


@pytest.mark.parametrize("page", generate.PAGES, ids=lambda page: page.name)
def test_tables(page: Path) -> None:
    """The tables of flags and of figures are what `make docs` makes of the commands and of the benchmarks."""
    text = page.read_text(encoding="utf-8")
    assert "<!-- -->" in text
    assert generate.with_tables(text) == text


def test_tables_are_replaced() -> None:
    """Whatever stands between the marks is made anew, and all else is left."""
    page = "before\n<!-- flags of serve -->\nold\n<!-- -->\nafter\n"
    renewed = generate.with_tables(page)
    assert renewed == f"before\n<!-- flags of serve -->\n{generate.flags('serve')}\n<!-- -->\nafter\n"
    assert "`--domains.max N`" in renewed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_metrics_exist(page: Path) -> None:
    """Each metric that a page names is one."""
    names = {family.name for family in FAMILIES} | {
        "qmail_exporter_build_info",
        "qmail_exporter_web_config_last_reload_successful",
    }
    suffixed = {f"{name}{suffix}" for name in names for suffix in ("_bucket", "_count", "_sum")}
    named = set(re.findall(r"\b(qmail_[a-z_]+[a-z])\b(?![./=])", page.read_text(encoding="utf-8")))
    assert named - names - suffixed <= {"qmail_exporter"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_flags_exist(page: Path) -> None:
    """Each dotted flag that a page names is one."""
    named = re.findall(r"--[a-z]+\.[a-z.-]*[a-z]", page.read_text(encoding="utf-8"))
    assert set(named) <= _flags()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links(page: Path) -> None:
    """Each link to a file leads to one."""
    links = re.findall(r"\]\(([^):#]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_targets_exist() -> None:
    """Each `make` target that the README names is in the Makefile, with a line in its help."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(
        re.findall(r"^(?:`?PYTHON=\S+ )?make ([a-z]+)|`(?:PYTHON=\S+ )?make ([a-z]+)`", README, re.MULTILINE)
    )
    targets = {first or second for first, second in named}
    assert targets >= {"demo", "test", "check", "bench", "docs"}
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
        assert f"@echo 'make {target} " in makefile, target


def test_variable_for_a_flag() -> None:
    """The README's example of an environment variable is the one that the flag has."""
    flag, variable = re.findall(r"`(--[a-z.-]+)` is also `([A-Z_]+)`", README)[0]
    options = {option.opts[0]: option for option in cli.main.commands["serve"].params}
    assert options[flag].envvar == variable


def test_changelog_has_the_version() -> None:
    """The changelog's newest entry is of this version."""
    entries = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert entries[0] == __version__


def test_readme_is_short() -> None:
    """The README is read in one go."""
    assert README.count("\n") <= 250
