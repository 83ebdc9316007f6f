"""`python -m fuzz.engine TARGET DIRECTORY [libFuzzer's arguments]`: one target under atheris, in a process of its own.

The corpus is `DIRECTORY/corpus/TARGET`; an input that fails is kept below `DIRECTORY/crashes/TARGET`, and ends it.
"""

import hashlib
import logging
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["qmail_exporter", "yaml", "h11", "hypercorn"]):
    from fuzz.targets import TARGETS

_WORDS = 400
"""Entries of a dictionary: libFuzzer draws one of them as often, however many there are."""


def main(name: str, directory: Path, *arguments: str) -> None:
    """Fuzz until libFuzzer's arguments say that it is enough; the process ends with it."""
    logging.disable()
    target = TARGETS[name]
    seeds = list(target.seeds())
    corpus, crashes = directory / "corpus" / name, directory / "crashes" / name
    for place in (corpus, crashes):
        place.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    own = [f"-artifact_prefix={crashes}/", str(corpus)]
    if words := _words(seeds):
        dictionary = directory / f"{name}.dict"
        dictionary.write_text("".join(map(_entry, words)), encoding="ascii")
        own.append(f"-dict={dictionary}")  # an empty one is an error
    atheris.Setup([sys.argv[0], *arguments, *own], target.run)
    atheris.Fuzz()


def _words(seeds: Iterable[bytes]) -> list[bytes]:
    """Return words of the seeds: what a regular expression demands, no coverage leads to."""
    found = dict.fromkeys(word for seed in seeds for word in re.findall(rb"[!-~]{2,40} ?", seed))
    return list(found)[:_WORDS]


def _entry(word: bytes) -> str:
    return '"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n'


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
