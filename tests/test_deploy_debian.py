import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import requires
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import HTTPBasicAuthHandler, HTTPPasswordMgrWithDefaultRealm, build_opener

import bcrypt
import pytest
from packaging.requirements import Requirement

from qmail_exporter import __version__
from serving import PATIENCE, until

ROOT = Path(__file__).parents[1]
DEBIAN = ROOT / "deploy/debian"
CACHE = ROOT / "build/debs"
RELEASES = ["bookworm", "trixie"]
UNPRIVILEGED = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
NAMES = {"pyyaml": "python3-yaml"}
"""Debian's packages that are not named after the library."""
OF_OTHERS = {"pyasyncore"}
"""What a package of Debian's brings by itself: python3-pyinotify, where the Python takes it."""


def pins() -> dict[str, str]:
    """Give the libraries that the package carries, and their versions."""
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (DEBIAN / "bundled.txt").read_text(), re.MULTILINE))


def depends() -> dict[str, str]:
    """Give the packages that it depends on, and their least versions."""
    [line] = re.findall(r"^Depends: (.*(?:\n .*)*)", (DEBIAN / "control").read_text(), re.MULTILINE)
    return {
        match[1]: match[2] or "0"
        for match in re.finditer(r"(python3[a-z0-9-]*)(?: \(>= (.*?)\))?(?:,|$)", line)
    }


def required(library: str) -> list[Requirement]:
    """Give what an installed library requires without extras."""
    all_of_it = map(Requirement, requires(library) or ())
    return [one for one in all_of_it if "extra" not in str(one.marker or "")]


def test_the_package_has_what_the_exporter_requires() -> None:
    """Each requirement is carried in a version that is in its range, or is Debian's from no earlier version on."""
    for one in required("qmail-exporter"):
        if one.name in pins():
            assert pins()[one.name] in one.specifier
        elif one.name not in OF_OTHERS:
            [least] = [clause.version for clause in one.specifier if clause.operator == ">="]
            assert depends()[NAMES.get(one.name, f"python3-{one.name}")] == least


@pytest.mark.parametrize("library", sorted(pins()))
def test_the_package_has_what_its_libraries_require(library: str) -> None:
    """What a carried library requires on the Pythons of Debian is carried too, or is Debian's."""
    on_debian = [
        one for one in required(library) if not one.marker or one.marker.evaluate({"python_version": "3.11"})
    ]
    for one in on_debian:
        name = one.name.replace("_", "-")
        assert pins()[name] in one.specifier if name in pins() else f"python3-{name}" in depends()


def test_carried_libraries_have_their_licences() -> None:
    """The file `copyright` has a paragraph for each carried library."""
    told = (DEBIAN / "copyright").read_text()
    assert [name for name in pins() if f"bundled/{name.replace('-', '_')}/*" not in told] == []


# --- the package itself


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, built."""
    lacking = [name for name in ("dpkg-buildpackage", "dh", "dh_python3") if not shutil.which(name)]
    if lacking or not (ROOT / "qmail_exporter").is_dir():
        pytest.skip(f"the package cannot be built here, for lack of {lacking or 'its source'}")
    output = tmp_path_factory.mktemp("package")
    argv = [str(DEBIAN / "build"), str(output)]
    subprocess.run(argv, env={**os.environ, "PYTHON": sys.executable}, check=True)
    return output / f"qmail-exporter_{__version__}-1_all.deb"


@pytest.mark.slow
def test_lintian(package: Path) -> None:
    """Debian's own checker has nothing to say, but for a bug report of Debian's that the package does not close."""
    if not shutil.which("lintian"):
        pytest.skip("lintian is not installed")
    argv = [
        "lintian",
        "--allow-root",
        "--fail-on=error,warning",
        "--suppress-tags=initial-upload-closes-no-bugs",
    ]
    done = subprocess.run([*argv, str(package)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


class Tree(NamedTuple):
    """A Debian in a directory, with nothing but its base system and the package.

    Attributes:
        root: where it is.
        before: the files with qmail in their names that were there before the package.
    """

    root: Path
    before: set[str]

    def command(self, *argv: str) -> list[str]:
        """Return the command line that runs something in it, with a /proc of its own; nothing outlives it."""
        # Without exec: sh stays root, for who becomes another user is not killed with its parent (PR_SET_PDEATHSIG).
        start = 'mount -t proc proc "$0/proc" && chroot "$0" "$@"; exit "$?"'
        return [
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-c",
            start,
            str(self.root),
            *argv,
        ]

    def run(self, *argv: str, status: int = 0) -> str:
        """Return what a command says in it, on both streams."""
        done = subprocess.run(
            self.command(*argv),
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    @contextmanager
    def serving(self, *argv: str) -> Iterator[str]:
        """Run something in it that listens, and give its URL, which it says."""
        command = self.command(*UNPRIVILEGED, *argv)
        with subprocess.Popen(
            command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdout is not None
            try:
                yield f"http://127.0.0.1:{next(filter(None, map(port_in, process.stdout)))}"
            finally:
                process.kill()
                process.stdout.read()  # ends when the last process in it has

    def ours(self) -> set[str]:
        """Give the files in it that the package may have brought; a demo that is killed leaves some in /tmp."""
        found = {str(path.relative_to(self.root)) for path in self.root.rglob("*qmail*")}
        return {name for name in found - self.before if not name.startswith("tmp/")}


ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "DEBIAN_FRONTEND": "noninteractive",
    "LC_ALL": "C.UTF-8",
}


def port_in(line: str) -> str | None:
    """Return the port that a line says is listened on."""
    found = re.search(r"(?:address=|http://)127\.0\.0\.1:([0-9]+)", line)
    return found and found[1]


def mirror() -> str:
    """Return where this host has Debian's packages from."""
    form = "$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(REPO_URI)"
    argv = ["apt-get", "indextargets", "--format", form, "Created-By: Packages"]
    told = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    found = [
        line.removeprefix("Debian|Debian|main|")
        for line in told.splitlines()
        if line.startswith("Debian|Debian|main|")
    ]
    if not found:
        pytest.skip("apt has no Debian mirror here")
    return found[0]


def proxies() -> str:
    """Return the lines of apt's configuration that lead to the mirror."""
    told = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    return "".join(re.findall(r"^Acquire::https?::.*\n", told, re.MULTILINE))


@pytest.fixture(scope="module", params=RELEASES)
def tree(
    request: pytest.FixtureRequest, package: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Tree]:
    """A clean tree with the package installed."""
    if os.geteuid() != 0 or not (shutil.which("debootstrap") and shutil.which("apt-get")):
        pytest.skip("a Debian in a directory takes root and debootstrap")
    root = tmp_path_factory.mktemp(request.param)
    root.chmod(0o755)
    root.parent.chmod(0o755)
    CACHE.mkdir(parents=True, exist_ok=True)
    argv = ["debootstrap", "--variant=minbase", f"--cache-dir={CACHE}", request.param, str(root), mirror()]
    done = subprocess.run(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=900
    )
    if done.returncode != 0:
        pytest.skip(f"debootstrap cannot make {request.param} here: {done.stdout[-500:]}")
    (root / "etc/apt/apt.conf.d/90host").write_text(proxies())
    shutil.copy(package, root / "root/it.deb")
    made = Tree(root, set())
    made.before.update(made.ours())
    made.run("apt-get", "update", "--quiet")
    made.run("apt-get", "install", "--quiet", "--yes", "--no-install-recommends", "/root/it.deb")
    yield made
    subprocess.run(["rm", "-rf", str(root)], check=True)


@pytest.mark.slow
def test_installed_runs_and_goes(tree: Tree) -> None:
    """In a clean Debian the package installs, the exporter runs, a removal leaves the settings and a purge leaves nothing.

    This is one test because each step stands on the one before.
    """
    look_at_what_is_installed(tree)
    run_commands(tree)
    scrape(tree)
    ask_for_a_password(tree)
    tree.run("apt-get", "remove", "--quiet", "--yes", "qmail-exporter")
    assert not (tree.root / "usr/lib/qmail-exporter").exists()
    assert (tree.root / "etc/default/qmail-exporter").exists()
    tree.run("apt-get", "purge", "--quiet", "--yes", "qmail-exporter")
    assert tree.ours() == set()


def look_at_what_is_installed(tree: Tree) -> None:
    """All has its place, units call the package's program, and nobody but root may change any of it."""
    assert tree.run("dpkg", "--verify", "qmail-exporter") == ""
    units = tree.root / "usr/lib/systemd/system"
    assert {path.name for path in units.glob("qmail-exporter*")} == {
        path.name
        for path in (ROOT / "deploy/systemd").iterdir()
        if path.suffix in (".service", ".socket", ".timer")
    }
    for unit in units.glob("qmail-exporter*.service"):
        [program] = re.findall(r"^ExecStart=(\S+)", unit.read_text(), re.MULTILINE)
        assert program == "/usr/bin/qmail-exporter"
    enabled = (tree.root / "etc/systemd/system").rglob("qmail-exporter*")
    assert [path.name for path in enabled] == ["qmail-exporter.service"]
    for name in (
        "usr/share/man/man1/qmail-exporter.1.gz",
        "usr/share/bash-completion/completions/qmail-exporter",
        "usr/share/zsh/vendor-completions/_qmail-exporter",
        "usr/share/fish/vendor_completions.d/qmail-exporter.fish",
        "usr/lib/qmail-exporter/qmail_exporter/status/__pycache__",
        "etc/qmail-exporter",
    ):
        assert (tree.root / name).exists()
    changeable = tree.run(
        "find", "/usr/lib/qmail-exporter", "/usr/bin/qmail-exporter", "-perm", "/022", "!", "-type", "l"
    )
    assert changeable == ""


def run_commands(tree: Tree) -> None:
    """Each program answers, and `doctor` says what is not there."""
    assert tree.run(*UNPRIVILEGED, "qmail-exporter", "--version") == f"qmail-exporter {__version__}\n"
    assert "usage" in tree.run(*UNPRIVILEGED, "qmail-record-double-bounce", "--help")
    told = tree.run("qmail-exporter", "doctor", status=1)
    assert "no queue in /var/qmail" in told
    assert "Traceback" not in told


def scrape(tree: Tree) -> None:
    """A simulated qmail is shown whole."""

    def whole() -> bool:
        with build_opener().open(f"{url}/metrics", timeout=PATIENCE) as answer:
            return b'\nqmail_up{queue="default"} 1.0\n' in answer.read()

    demo = ("qmail-exporter", "demo", "--web.listen-address=127.0.0.1:0", "--demo.duration=60s")
    with tree.serving(*demo) as url:
        until(whole)
        with build_opener().open(url, timeout=PATIENCE) as answer:
            assert b"<html" in answer.read()


def ask_for_a_password(tree: Tree) -> None:
    """Debian's bcrypt and YAML do for a file of users."""
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    (tree.root / "etc/qmail-exporter/web.yml").write_text(f"basic_auth_users: {{prometheus: {hashed}}}\n")
    knowing = HTTPPasswordMgrWithDefaultRealm()
    serve = (
        "qmail-exporter",
        "serve",
        "--web.config.file=/etc/qmail-exporter/web.yml",
        "--web.listen-address=127.0.0.1:0",
    )
    with tree.serving(*serve) as url:
        with pytest.raises(HTTPError, match="401"):
            build_opener().open(f"{url}/metrics", timeout=PATIENCE)
        knowing.add_password(None, url, "prometheus", "secret")
        with build_opener(HTTPBasicAuthHandler(knowing)).open(f"{url}/metrics", timeout=PATIENCE) as answer:
            assert b"\nqmail_exporter_build_info{" in answer.read()
    (tree.root / "etc/qmail-exporter/web.yml").unlink()
