"""One session of two real ranks, played once for all tests that look at what it left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.checkpoint import ranks


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the ranks of the session save, restore and tell what they saw."""
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="session")
def two(folder: Path) -> list[dict[str, Any]]:
    """What each of the two ranks saw."""
    ranks.save_alone(ranks.Rank(0, 1, folder))
    return ranks.run("two", 2, folder)
