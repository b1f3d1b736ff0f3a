"""What does a rank's state consist of, piece by piece, and how does it become whole again?

Nothing is gathered, renamed or pickled that is a tensor: a piece is this rank's own part of a parameter, of a buffer or
of what an optimizer keeps for a parameter, and goes back to the same place of the same rank. That makes a copy as cheap
as its bytes, and good for a world of the same shape only: checkpoints on disk are for all others (`snapshot.py`).
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.stateful import Stateful
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from lastgood import rng, snapshot
from lastgood.snapshot import State


class Unfit(Exception):
    """This state cannot be taken apart, or not put together from these pieces; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """A state, taken apart."""

    tensors: dict[str, Tensor]
    """live, local to this rank"""
    rest: bytes
    """everything else, pickled: learning rates, scalars, plain values, random number generators"""


@torch.no_grad()  # without it a sharded tensor takes ten times as long to give its part
def apart(state: State) -> Pieces:
    """References to the live tensors, and a copy of everything else. Raises Unfit."""
    tensors: dict[str, Tensor] = {}
    rest: dict[str, Any] = {}
    for key, value in state.items():
        tensors.update(_places(key, value))
        if isinstance(value, Optimizer):
            found, rest[key] = _of_optimizer(key, value)
            tensors.update(found)
        elif not isinstance(value, nn.Module | Tensor):
            rest[key] = _plain(key, value.state_dict() if isinstance(value, Stateful) else value)
    return Pieces(tensors=tensors, rest=pickle.dumps((rest, rng.take())))


def check(state: State, tensors: Mapping[str, Tensor]) -> None:
    """Raises Unfit when the pieces are not those of such a state; nothing is changed."""
    wanted: dict[str, Tensor] = {}
    for key, value in state.items():
        wanted.update(_places(key, value))
    for name, place in wanted.items():
        piece = tensors.get(name)
        if piece is None or (piece.shape, piece.dtype) != (place.shape, place.dtype):
            raise Unfit(f"{name} is {_described(place)} here, and {_described(piece)} in the copy")


def together(state: State, tensors: Mapping[str, Tensor], rest: bytes) -> None:
    """Fill the state, which `check` found to fit; the random number generators last."""
    others, generators = pickle.loads(rest)
    with torch.no_grad():
        for key, value in state.items():
            for name, place in _places(key, value):
                place.copy_(tensors[name])
            if isinstance(value, Optimizer):
                _fill_optimizer(key, value, tensors, others[key])
            elif isinstance(value, Stateful) and not isinstance(value, nn.Module):
                value.load_state_dict(others[key])
            elif key in others:
                snapshot.put(key, value, _refilled(value, others[key]), state)
    rng.put_back(generators)


def _described(tensor: Tensor | None) -> str:
    return "missing" if tensor is None else f"{list(tensor.shape)} of {tensor.dtype}"


def _places(key: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    """Tensors of a value that exist before it is restored."""
    if isinstance(value, nn.Module):
        for name, part in (*value.named_parameters(), *value.named_buffers()):
            yield f"{key}.{name}", _local(part)
    elif isinstance(value, Tensor):
        yield key, _local(value)


def _plain(key: str, value: Any) -> Any:
    if any(isinstance(leaf, DTensor) for leaf in snapshot.leaves(value)):
        raise Unfit(f"{key!r} holds sharded tensors outside of a module")
    return value


def _refilled(old: Any, new: Any) -> Any:
    """The new value, with those tensors of the old one that fit: the user may hold on to them."""
    if isinstance(old, Tensor) and isinstance(new, Tensor) and (old.shape, old.dtype) == (new.shape, new.dtype):
        return old.copy_(new)
    if isinstance(old, Mapping) and isinstance(new, dict):
        return {name: _refilled(old.get(name), value) for name, value in new.items()}
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [_refilled(*pair) for pair in zip(old, new, strict=True)]
    return new


def _local(tensor: Tensor) -> Tensor:
    """This rank's part, sharing its memory."""
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).detach()


def _of_optimizer(key: str, optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Its tensors, and `{groups, fields}`: options of each group; for each parameter what its state holds, scalars
    themselves, and for a tensor whether it is shaped like the parameter."""
    tensors: dict[str, Tensor] = {}
    fields: list[dict[str, Any]] = []
    for number, parameter in enumerate(_parameters(optimizer)):
        kept = {}
        for field, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{key}.{number}.{field}"] = _local(value)
                kept[field] = _Tensor(like=_is_like(value, parameter), on_device=value.device == parameter.device)
            else:
                kept[field] = value
        fields.append(kept)
    groups = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    return tensors, {"groups": groups, "fields": fields}


@dataclass(frozen=True, slots=True)
class _Tensor:
    """What stands for a tensor among the rest."""

    like: bool
    """sharded as its parameter is"""
    on_device: bool


def _is_like(value: Tensor, parameter: Tensor) -> bool:
    if isinstance(value, DTensor) and not (isinstance(parameter, DTensor) and value.placements == parameter.placements):
        raise Unfit(f"an optimizer keeps a tensor that is sharded as {value.placements}, unlike its parameter")
    return isinstance(value, DTensor)


def _parameters(optimizer: Optimizer) -> Iterator[Tensor]:
    for group in optimizer.param_groups:
        yield from group["params"]


def _fill_optimizer(key: str, optimizer: Optimizer, tensors: Mapping[str, Tensor], kept: Mapping[str, Any]) -> None:
    """What it keeps is made here, not by a step: that would change what it counts."""
    for group, options in zip(optimizer.param_groups, kept["groups"], strict=True):
        group.update(options)
    for number, (parameter, fields) in enumerate(zip(_parameters(optimizer), kept["fields"], strict=True)):
        optimizer.state.pop(parameter, None)
        if fields:
            optimizer.state[parameter] = {
                field: _made(value, parameter, tensors[f"{key}.{number}.{field}"]) if type(value) is _Tensor else value
                for field, value in fields.items()
            }


def _made(kind: _Tensor, parameter: Tensor, piece: Tensor) -> Tensor:
    device = parameter.device if kind.on_device else torch.device("cpu")
    local = torch.empty(piece.shape, dtype=piece.dtype, device=device).copy_(piece)
    if not kind.like:
        return local
    assert isinstance(parameter, DTensor)
    return DTensor.from_local(
        local,
        parameter.device_mesh,
        parameter.placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )
