"""A stage for each test: a state folder, a fake supervisor, and agents that are ended whatever happens."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from stage import Stage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Ends everything that was started on it."""
    made = Stage(tmp_path)
    yield made
    made.close()
