"""Without a GPU all of these are skipped; with one, `make test ARGS="-m gpu"`, and torch built for CUDA."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))

from lab import Lab


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies here."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            item.add_marker(pytest.mark.alone)
            item.add_marker(pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"))


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A supervisor of its own."""
    made = Lab(tmp_path)
    yield made
    made.close()
