from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from qmail_exporter.sources.logs import Follower, open_log


@pytest.fixture
def follow() -> Iterator[Callable[[object], Follower]]:
    with ExitStack() as stack:
        yield lambda spec: stack.enter_context(closing(open_log(str(spec))))
