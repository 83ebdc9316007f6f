"""`python -m incidents`: play every script, print the table, and write docs/incidents.md if all was as it should be."""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from incidents.judge import faults, page, table
from incidents.play import play_in_turn, programs
from incidents.recordings import recordings
from incidents.scripts import SCRIPTS

_PAGE = Path(__file__).parents[2] / "docs" / "incidents.md"


def main() -> int:
    """Play; returns the exit status, 1 if something was not as a script has it."""
    parser = argparse.ArgumentParser(
        prog="make incidents", description="Play incidents to a real Prometheus and Alertmanager."
    )
    parser.add_argument(
        "--factor", type=float, default=300, help="how much faster than a real clock (default: 300)"
    )
    parser.add_argument("--at-once", type=int, default=8, help="hosts at a time (default: 8)")
    parser.add_argument("--prometheus", help="another Prometheus than that of PATH")
    parser.add_argument(
        "scripts", nargs="*", help="names of those to play (default: all, and docs/incidents.md is written)"
    )
    options = parser.parse_args()
    scripts = [script for script in SCRIPTS if not options.scripts or script.name in options.scripts]
    found = programs()
    if not scripts or found is None:
        lack = "Install prometheus and prometheus-alertmanager." if scripts else "There is no such script."
        click.echo(lack, err=True)
        return 2
    with TemporaryDirectory(prefix="qmail-exporter-incidents-") as directory:
        click.echo(f"Recording {len(scripts)} hosts …")
        played = play_in_turn(
            recordings(scripts),
            Path(directory),
            factor=options.factor,
            at_once=options.at_once,
            prometheus=options.prometheus or found[0],
            manager=found[1],
            tell=click.echo,
        )
    click.echo(table(played, scripts))
    wrong = [fault for script in scripts for fault in faults(played, script)]
    if wrong:
        click.echo("\n".join(wrong), err=True)
        return 1
    if not options.scripts:
        _PAGE.write_text(page(played, scripts), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
