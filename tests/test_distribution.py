import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from qmail_exporter import __version__
from unpack import unpack

ROOT = Path(__file__).parents[1]
SOURCE = ("qmail_exporter", "tests", "deploy", "docs")
FILES = ("README.md", "CHANGELOG.md", "LICENSE", "Makefile", "pyproject.toml")
WRITTEN = ("PKG-INFO", ".gitignore")
"""What the build adds to a source distribution: what it says of itself, and what it goes by."""
NAME = f"qmail_exporter-{__version__}"
DATA = f"{NAME}.data/data/share"
INFO = f"{NAME}.dist-info"
IGNORED = {"__pycache__", ".ruff_cache", ".mypy_cache", ".hypothesis"}


def files_of(place: Path) -> set[str]:
    """Give the files below a directory of the source, by their place in it."""
    found = (path for path in place.rglob("*") if path.is_file() and not IGNORED & set(path.parts))
    return {str(path.relative_to(ROOT)) for path in found}


def build(source: Path, kind: str, output: Path) -> Path:
    """Build one distribution with the backend that pyproject.toml names, as it is installed here."""
    argv = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(output)]
    subprocess.run(argv, cwd=source, check=True, capture_output=True)
    [made] = output.iterdir()
    return made


def contents(wheel: Path) -> dict[str, bytes]:
    """Give what a wheel holds, by name."""
    with zipfile.ZipFile(wheel) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this source."""
    if not (ROOT / "qmail_exporter").is_dir():
        pytest.skip("the package's source is not here")
    return build(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, unpacked."""
    assert wheel
    place = tmp_path_factory.mktemp("sdist")
    unpack(build(ROOT, "sdist", place / "made"), place)
    return place / NAME


def test_wheel_holds_the_package(wheel: Path) -> None:
    """A wheel has all files of the package, the manual and the licence, and nothing else."""
    metadata = {
        f"{INFO}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")
    }
    names = set(contents(wheel))
    assert names == files_of(ROOT / "qmail_exporter") | metadata | {f"{DATA}/man/man1/qmail-exporter.1"}
    assert names >= {
        f"qmail_exporter/{name}" for name in ("py.typed", "status/page.html", "status/style.css")
    }


def test_wheel_says_what_it_is(wheel: Path) -> None:
    """Of a wheel are told both programs, the oldest Python and the licence; its readme is README.md."""
    held = contents(wheel)
    metadata, _, readme = held[f"{INFO}/METADATA"].decode().partition("\n\n")
    assert {"Requires-Python: >=3.10", "License-Expression: MIT", f"Version: {__version__}"} <= set(
        metadata.splitlines()
    )
    assert readme.strip() == (ROOT / "README.md").read_text(encoding="utf-8").strip()
    programs = {
        line.partition(" = ")[0] for line in held[f"{INFO}/entry_points.txt"].decode().splitlines()[1:]
    }
    assert programs == {"qmail-exporter", "qmail-record-double-bounce"}


def test_sdist_holds_the_source(unpacked: Path) -> None:
    """A source distribution has the package, its tests, documents and what is to be deployed, and nothing else."""
    expected = set(FILES).union(WRITTEN, *(files_of(ROOT / name) for name in SOURCE))
    found = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
    assert found == expected
    assert found >= {"deploy/systemd/qmail-exporter.service", "docs/qmail-exporter.1", "docs/metrics.md"}


def test_sdist_builds_the_same_wheel(unpacked: Path, wheel: Path, tmp_path: Path) -> None:
    """A wheel made of the source distribution is, file by file, the one that is made here."""
    assert contents(build(unpacked, "wheel", tmp_path)) == contents(wheel)


def test_scripts_stay_programs(unpacked: Path) -> None:
    """What can be run in the source can be run where the source distribution is unpacked."""
    programs = {
        name for part in SOURCE for name in files_of(ROOT / part) if (ROOT / name).stat().st_mode & 0o111
    }
    assert programs >= {"deploy/debian/build", "deploy/debian/rules"}
    assert {name for name in programs if not (unpacked / name).stat().st_mode & 0o111} == set()
