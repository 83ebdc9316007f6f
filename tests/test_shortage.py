import errno
import os

import pytest

from qmail_exporter import shortage


@pytest.mark.parametrize(
    ("number", "limit"),
    [(errno.EMFILE, "RLIMIT_NOFILE"), (errno.ENFILE, "fs.file-max"), (errno.ENOMEM, "RLIMIT_AS")],
)
def test_a_limit_is_named(number: int, limit: str) -> None:
    """Where something ran out, the words say which limit is to be raised."""
    said = shortage.words(OSError(number, os.strerror(number), "/some/file"))
    assert said.startswith(os.strerror(number) + ": raise ")
    assert limit in said


def test_other_errors_are_as_they_are() -> None:
    """Any other error is told in its own words."""
    assert shortage.words(OSError(errno.EACCES, "Permission denied", "/x")) == "Permission denied"
    assert shortage.words(OSError("odd")) == "odd"
