"""`python -m fuzz.engine TARGET DIRECTORY [libFuzzer's arguments]`: one target under atheris.

The corpus is `DIRECTORY/corpus/TARGET`; an input that fails is kept below `DIRECTORY/crashes/TARGET`, and ends it.
"""

import hashlib
import logging
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["qmail_exporter", "yaml", "h11", "hypercorn"]):
    from fuzz.targets import TARGETS


def main(name: str, directory: Path, *arguments: str) -> None:
    """Fuzz until libFuzzer's arguments say that it is enough; the process ends with it."""
    logging.disable()
    target = TARGETS[name]
    corpus, crashes = directory / "corpus" / name, directory / "crashes" / name
    for place in (corpus, crashes):
        place.mkdir(parents=True, exist_ok=True)
    for seed in target.seeds():
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    atheris.Setup([sys.argv[0], *arguments, f"-artifact_prefix={crashes}/", str(corpus)], target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
