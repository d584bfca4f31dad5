from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from .serving import Serve, served


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves a configuration for the length of a test."""
    with ExitStack() as stack:
        yield lambda text, **options: stack.enter_context(served(text, **options))
