import errno
import os
import weakref

import pytest

from qmail_exporter import errors


@pytest.mark.parametrize(
    ("number", "limit"),
    [(errno.EMFILE, "RLIMIT_NOFILE"), (errno.ENFILE, "fs.file-max"), (errno.ENOMEM, "RLIMIT_AS")],
)
def test_a_limit_is_named(number: int, limit: str) -> None:
    """Where something ran out, the words say which limit is to be raised."""
    said = errors.words(OSError(number, os.strerror(number), "/some/file"))
    assert said.startswith(os.strerror(number) + ": raise ")
    assert limit in said


def test_other_errors_are_as_they_are() -> None:
    """Any other error is told in its own words."""
    assert errors.words(OSError(errno.EACCES, "Permission denied", "/x")) == "Permission denied"
    assert errors.words(OSError("odd")) == "odd"


def test_a_remembered_error_holds_nothing() -> None:
    """An error that is remembered is the same one, and no longer leads to what stood in the functions that raised it."""

    class Large:
        pass

    def fail() -> weakref.ref[Large]:
        large = Large()
        try:
            os.stat("/nowhere/to/be/found")
        except FileNotFoundError as first:
            raise OSError(errno.EACCES, "Permission denied", weakref.ref(large)) from first
        raise AssertionError

    with pytest.raises(OSError, match="Permission denied") as caught:
        fail()
    error = caught.value
    del caught
    assert errors.kept(error) is error
    assert error.filename() is None
