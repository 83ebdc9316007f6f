"""Debian packages of another suite, unpacked aside: the system's own sources and packages are left as they are."""

import os
import shutil
import subprocess
from pathlib import Path

_FORMAT = "$(ORIGIN)|$(COMPONENT)|$(SITE)"
_KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
_SECONDS = 240


class UnavailableError(Exception):
    """A package cannot be had; the text says why."""


def unpacked(package: str, suite: str, directory: Path) -> Path:
    """Return the root of a package of Debian's `suite`, unpacked below `directory` unless it is already.

    The mirror is the one that this machine's own apt uses for Debian.

    Raises:
        UnavailableError: this is no Debian, or its mirror does not answer or has no such package.
    """
    root = directory / f"{package}-{suite}"
    if root.is_dir():
        return root
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise UnavailableError("there is no apt")
    work = directory / f"apt-{suite}"
    for name in ("lists/partial", "archives/partial", "parts"):
        (work / name).mkdir(parents=True, exist_ok=True)
    (work / "status").touch()
    signed = f"[signed-by={_KEYS}] " if os.path.exists(_KEYS) else ""
    (work / "sources.list").write_text(f"deb {signed}{_mirror()} {suite} main\n")
    own = {
        "Dir::Etc::SourceList": work / "sources.list",
        "Dir::Etc::SourceParts": work / "parts",
        "Dir::State": work,
        "Dir::State::Lists": work / "lists",
        "Dir::State::status": work / "status",
        "Dir::Cache": work,
        "Dir::Cache::archives": work / "archives",
        "Acquire::Languages": "none",
        "Acquire::Retries": "1",
        "Acquire::http::Timeout": "15",
    } | ({"APT::Sandbox::User": "root"} if os.geteuid() == 0 else {})
    options = [word for name, value in own.items() for word in ("-o", f"{name}={value}")]
    _run(["apt-get", *options, "-qq", "update"], work)
    _run(["apt-get", *options, "-qq", "download", package], work)
    files = list(work.glob(f"{package}_*.deb"))
    if not files:
        raise UnavailableError(f"{suite} has no {package}")
    fresh = directory / f"{package}-{suite}.new"
    shutil.rmtree(fresh, ignore_errors=True)
    _run(["dpkg-deb", "--extract", str(files[0]), str(fresh)], work)
    fresh.rename(root)
    shutil.rmtree(work)
    return root


def _mirror() -> str:
    """The address of the mirror that apt uses for Debian."""
    listed = _run(["apt-get", "indextargets", "--format", _FORMAT], Path("/"))
    for line in listed.splitlines():
        origin, component, site = line.split("|")
        if (origin, component) == ("Debian", "main"):
            return site
    raise UnavailableError("apt knows of no mirror of Debian")


def _run(command: list[str], directory: Path) -> str:
    try:
        done = subprocess.run(
            command, cwd=directory, capture_output=True, text=True, timeout=_SECONDS, check=False,
            env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"{command[0]} takes too long") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise UnavailableError(said[-1] if said else f"{command[0]} fails")
    return done.stdout
