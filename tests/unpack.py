"""Recorded queue trees, unpacked."""

import tarfile
from pathlib import Path


def unpack(archive: Path, place: Path) -> None:
    """Unpack a recorded tree below `place`."""
    with tarfile.open(archive) as tree:
        if hasattr(tarfile, "data_filter"):
            tree.extractall(place, filter="data")
        else:  # as in Python 3.11.2, which is Debian 12's
            tree.extractall(place)  # noqa: S202 - a recording of ours
