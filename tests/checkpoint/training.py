"""A training job of a few kilobytes: dropout for the random numbers, AdamW for state, FSDP2 where there are ranks."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor


class Clockwork:
    """A Stateful whose state changes its shape, as a data loader's does."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def state_dict(self) -> dict[str, Any]:
        return {f"batch{number}": number for number in self.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seen = list(state.values())


@dataclass
class Job:
    """Model, optimizer, schedule, loader and plain values."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    loader: Clockwork = field(default_factory=Clockwork)
    history: dict[str, Any] = field(default_factory=dict)
    ema: torch.Tensor = field(default_factory=lambda: torch.zeros(3))
    state: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.state = {
            "model": self.model,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "loader": self.loader,
            "history": self.history,
            "ema": self.ema,
            "epoch": 0,
        }

    def train(self, steps: int) -> list[float]:
        """The loss of each step; the data is drawn from the random state too."""
        losses = []
        for _ in range(steps):
            batch = torch.randn(4, 16) + random.random()
            loss = self.model(batch).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            self.loader.seen.append(len(self.loader.seen))
            self.ema += 0.1
            self.history[f"loss{len(self.loader.seen)}"] = loss.item()
            self.state["epoch"] += 1
            losses.append(loss.item())
        return losses

    def snapshot(self) -> dict[str, torch.Tensor]:
        """Every number of model and optimizer on this rank, by name, copied."""
        found = {f"model.{name}": _local(value) for name, value in self.model.state_dict().items()}
        for number, values in self.optimizer.state_dict()["state"].items():
            found |= {f"optimizer.{number}.{name}": _local(value) for name, value in values.items()}
        return found

    def full(self) -> dict[str, torch.Tensor]:
        """As `snapshot`, but the whole tensors; a collective."""
        found = {f"model.{name}": _whole(value) for name, value in self.model.state_dict().items()}
        for number, values in self.optimizer.state_dict()["state"].items():
            found |= {f"optimizer.{number}.{name}": _whole(value) for name, value in values.items()}
        return found


def build(seed: int, *, rank: int = 0) -> Job:
    """A job whose weights come from the seed; sharded when a process group is up."""
    torch.manual_seed(seed)
    layers = (nn.Linear(16, 24), nn.Dropout(0.2), nn.LayerNorm(24), nn.Linear(24, 7))
    model = nn.Sequential(*layers)
    if dist.is_initialized():
        for layer in layers:
            if list(layer.parameters()):
                fully_shard(layer)
        fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    torch.manual_seed(seed + 1000 * rank)
    random.seed(seed + 1000 * rank)
    return Job(model, optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 2))


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Bit for bit: NaN equals itself, 0.0 is not -0.0."""
    return one.keys() == other.keys() and all(_bits(one[name]) == _bits(other[name]) for name in one)


def _bits(value: torch.Tensor) -> tuple[torch.dtype, torch.Size, list[int]]:
    return value.dtype, value.shape, value.contiguous().flatten().view(torch.uint8).tolist()


def _local(value: torch.Tensor) -> torch.Tensor:
    return (value.to_local() if isinstance(value, DTensor) else value).detach().clone()


def _whole(value: torch.Tensor) -> torch.Tensor:
    return (value.full_tensor() if isinstance(value, DTensor) else value).detach().clone()
