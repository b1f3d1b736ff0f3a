"""Ranks without an agent: real progress files, real checkpoints, one rank in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.sdk.ranks import Rank

torch.set_num_threads(1)  # tiny tensors: a second thread costs more than it does


@pytest.fixture
def rank(tmp_path: Path) -> Callable[..., Rank]:
    """Makes ranks; `life` names the world, everything else goes to the place."""

    def make(life: str = "w1", **place: Any) -> Rank:
        return Rank(tmp_path / life, **place)

    return make


@pytest.fixture
def state() -> dict[str, Any]:
    """A model of two numbers and their sum of squares as a loss."""
    torch.manual_seed(0)
    model = torch.nn.Linear(2, 1)
    return {"model": model, "optimizer": torch.optim.SGD(model.parameters(), lr=0.1)}
