"""A host for each test: keepers in processes of their own, ended whatever happens."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from room import Room


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    """With a state folder of its own."""
    made = Room(tmp_path)
    yield made
    made.close()
