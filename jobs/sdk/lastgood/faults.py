"""Which fault was ordered into this rank, and how does it bite? Drills that only the training process can do.

The agent writes `drill.json` and then its number into the progress file. A number is done once: those that stand
there when the rank starts belong to an earlier life of it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from lastgood.audience import Audience
from lastgood.notes import Note, made

if TYPE_CHECKING:
    from torch import Tensor

EXIT_STATUS = 3
"""of the drill `exit`"""
INFLATED = 20.0
"""times as large as they should be are the gradients after the drill `gradient`"""
SLOWER = 1.0
"""steps that the drill `slow` adds to each"""


class Drill(Exception):
    """A fault injected on purpose; nothing is wrong with the training code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One drill, as the agent wrote it."""

    number: int
    drill: str
    step: int = 0
    """bites at the first step boundary where this many steps are finished"""


class Faults:
    """Watches for orders and carries them out at step boundaries."""

    def __init__(self, folder: str, audience: Audience, note: Note) -> None:
        self._file = Path(folder) / "drill.json"
        self._audience = audience
        self._note = note
        self._done = audience.drill()
        self._slow = False
        self._boundary = 0.0
        """when the last step boundary was passed"""

    def bite(self, step: int, state: Mapping[str, Any]) -> None:
        """Do what was ordered since; `step` steps are finished. One memory read when nothing was."""
        if self._audience.drill() <= self._done:
            return
        order = _read(self._file)
        if step < order.step:
            return
        self._done = order.number
        # The note goes first: after the fault nobody may be left to write it.
        self._note(made("drilled", drill=order.drill, number=order.number))
        if order.drill == "slow":
            self._slow, self._boundary = True, time.monotonic()
            return
        _carry_out(order, step, state)

    def dawdle(self) -> None:
        """Where a step begins: take as long again as the last one took, once that was ordered."""
        if self._slow:
            time.sleep(SLOWER * (time.monotonic() - self._boundary))
            self._boundary = time.monotonic()


def _read(file: Path) -> Order:
    body = json.loads(file.read_text())
    return Order(number=int(body["number"]), drill=str(body["drill"]), step=int(body.get("step") or 0))


def _carry_out(order: Order, step: int, state: Mapping[str, Any]) -> None:
    match order.drill:
        case "exception":
            raise Drill(f"drill {order.number}: an exception was ordered after step {step}")
        case "spin":
            _spin()
        case "nan":
            _poison(state)
        case "exit":
            _exit()
        case "mismatch":
            _diverge()
        case "gradient":
            _inflate(state)
        case other:
            raise ValueError(f"drill {order.number}: no fault is called {other!r}")


def _spin() -> NoReturn:
    """Busy, alive, and deaf to every collective: the hang that no exit and no timeout of the scheduler shows."""
    while True:
        pass


def _inflate(state: Mapping[str, Any]) -> None:
    """From now on this rank's part of the gradients is too large: a device that computes wrongly, and goes on.

    The part that it computed, before it is averaged. Hooks of sharded parameters come only after that, so there the
    gradient is inflated where it enters the module.
    """
    import torch
    from torch.distributed.tensor import DTensor

    def inflate(parameter: Tensor) -> None:
        if parameter.grad is not None:
            parameter.grad.mul_(INFLATED)

    for value in state.values():
        if isinstance(value, torch.nn.Module) and any(isinstance(part, DTensor) for part in value.parameters()):
            value.register_forward_hook(_inflate_output)
    for parameter in _parameters(state):
        if not isinstance(parameter, DTensor):
            parameter.register_post_accumulate_grad_hook(inflate)  # type: ignore[no-untyped-call]


def _inflate_output(_module: object, _inputs: object, output: object) -> None:
    """The first tensor alone: what a model returns beside its loss is often what the loss was made of."""
    from torch.utils._pytree import tree_leaves

    for leaf in tree_leaves(output):
        if getattr(leaf, "requires_grad", False):
            leaf.register_hook(lambda gradient: gradient * INFLATED)
            return


def _diverge() -> None:
    """Call one collective that no other rank calls, as a branch that depends on the rank does."""
    import torch
    import torch.distributed as dist

    if not dist.is_initialized():
        raise ValueError("a single rank has nobody to diverge from")
    has_nccl = "nccl" in dist.get_backend_config()
    device = torch.device("cuda", torch.cuda.current_device()) if has_nccl else torch.device("cpu")
    dist.all_reduce(torch.zeros(7, device=device))


def _exit() -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(EXIT_STATUS)


def _poison(state: Mapping[str, Any]) -> None:
    """Write NaN into one element of a floating-point parameter that has an element on this rank.

    A vector (a bias, the scale of a normalisation) where there is one: every sample passes through it, so the next
    loss is NaN, while a row of an embedding may not be looked up for a long time.
    """
    import torch
    from torch.distributed.tensor import DTensor

    with torch.no_grad():
        for parameter in _parameters(state):
            # A DTensor's local shard shares memory with it; on another rank it may be empty.
            local = parameter.to_local() if isinstance(parameter, DTensor) else parameter
            if local.is_floating_point() and local.numel():
                local[(0,) * local.ndim] = float("nan")
                return
    raise ValueError("the state has no floating-point parameter on this rank to write NaN into")


def _parameters(state: Mapping[str, Any]) -> Iterator[Tensor]:
    """Modules first: an optimizer's moments would spread NaN too, but a step later."""
    import torch

    for value in state.values():
        if isinstance(value, torch.nn.Module):
            yield from sorted(value.parameters(), key=lambda parameter: parameter.ndim != 1)
    for value in state.values():
        if isinstance(value, torch.Tensor):
            yield value
