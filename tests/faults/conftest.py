from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

pytest.register_assert_rewrite(
    "faults.scene", "faults.process", "faults.queue", "faults.log", "faults.limits", "faults.network"
)

from faults.scene import Scene  # noqa: E402 - pytest rewrites what is imported after it was told

Play = Callable[..., Scene]


@pytest.fixture
def play(in_memory: Path) -> Iterator[Play]:
    """Set scenes, which end with the test."""
    with ExitStack() as stack:
        yield lambda *given, **more: stack.enter_context(Scene(in_memory / "qmail", *given, **more))


@pytest.fixture
def scene(play: Callable[..., Any]) -> Scene:
    made: Scene = play()
    return made
