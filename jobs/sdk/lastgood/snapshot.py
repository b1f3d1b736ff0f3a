"""How does the user's state become names and tensors in a checkpoint, and come back?

    a module         its sharded state dict, by parameter names that do not depend on how it is wrapped or sharded
    an optimizer     likewise, each state under the name of its parameter
    a Stateful       what its state_dict() returns
    anything else    itself: tensors are filled in place, other values are replaced in the mapping

Values that hold no sharded tensors and need no place to be filled (a scheduler, a data loader, an epoch) are stored
whole, as rank 0 has them: their structure may differ from one step to the next, which named tensors must not.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Mapping, MutableMapping
from typing import Any, cast

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.checkpoint.stateful import Stateful
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from lastgood import rng

State = MutableMapping[str, Any]
Tree = dict[str, Any]

OURS = "lastgood"
"""top-level name of what belongs to no value of the user's"""


def capture(state: State, rank: int) -> Tree:
    """What this rank has to save: references to live tensors, copies of everything else."""
    if OURS in state:
        raise ValueError(f"the key {OURS!r} of the state is taken: choose another")
    tree: Tree = {OURS: {"rng": {str(rank): rng.take()}}}
    for key, value in state.items():
        held = _held(key, value, state)
        if _named(value, held):
            tree[key] = held
        elif rank == 0:
            tree[key] = _packed(held)
    return tree


def template(state: State, saved: Collection[str], rank: int) -> Tree:
    """Where the names of a checkpoint are to be read to: live tensors, and places for everything else."""
    tree: Tree = {}
    for key, value in state.items():
        if isinstance(value, Optimizer):
            tree[key] = _only_saved(key, get_optimizer_state_dict(_owner(key, value, state), value), saved)
            continue
        held = _held(key, value, state)
        tree[key] = held if _named(value, held) else b""
    if f"{OURS}.rng.{rank}" in saved:
        tree[OURS] = {"rng": {str(rank): b""}}
    return tree


def apply(state: State, tree: Tree, checkpoint: str, rank: int) -> None:
    """Hand a filled template to the user's values; random number generators last, nothing may draw from them after."""
    for key, value in state.items():
        _apply_one(key, value, tree[key], state)
    if OURS in tree:
        rng.put_back(tree[OURS]["rng"][str(rank)])
    else:
        rng.derive(checkpoint, rank)


def _apply_one(key: str, value: Any, held: Any, state: State) -> None:
    if isinstance(value, nn.Module):
        set_model_state_dict(value, held)
    elif isinstance(value, Optimizer):
        # Not strict: a parameter that never had a gradient has no optimizer state, which is no mistake.
        options = StateDictOptions(strict=False)
        set_optimizer_state_dict(_owner(key, value, state), value, held, options=options)
    elif isinstance(value, Stateful):
        value.load_state_dict(_unpacked(held))
    else:
        put(key, value, _unpacked(held), state)


def put(key: str, old: Any, new: Any, state: State) -> None:
    """Put a plain value in the place of another: into the container itself, which the user may hold on to, if it is
    one, else into the mapping."""
    if old is new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        old.clear()
        old.update(new)
    elif isinstance(old, list) and isinstance(new, list):
        old[:] = new
    else:
        state[key] = new


def _held(key: str, value: Any, state: State) -> Any:
    if isinstance(value, nn.Module):
        return get_model_state_dict(value)
    if isinstance(value, Optimizer):
        return _optimizer_state(value, _owner(key, value, state))
    return value.state_dict() if isinstance(value, Stateful) else value


def _optimizer_state(optimizer: Optimizer, owner: nn.Module) -> Tree:
    """The optimizer's state by parameter names.

    Torch fills an optimizer that has no state yet by a step with lr 0, whose step counters would then be one ahead for
    the rest of the run; before the first step there is nothing to save, so it is emptied again.
    """
    fresh = not optimizer.state
    held = cast(Tree, get_optimizer_state_dict(owner, optimizer))
    if fresh:
        held["state"] = {}
        optimizer.state.clear()
    return held


def _only_saved(key: str, held: Mapping[str, Any], saved: Collection[str]) -> Tree:
    """Without the state of parameters that had none when the checkpoint was saved."""
    known = {part for name in saved for part in _prefixes(name)}
    state = {
        name: {field: value for field, value in fields.items() if f"{key}.state.{name}.{field}" in known}
        for name, fields in held["state"].items()
    }
    return {**held, "state": {name: fields for name, fields in state.items() if fields}}


def _prefixes(name: str) -> Iterator[str]:
    while name:
        yield name
        name = name.rpartition(".")[0]


def _owner(key: str, optimizer: Optimizer, state: State) -> nn.Module:
    """The module of the state whose parameters the optimizer holds, which knows their names."""
    wanted = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    owners: dict[str, nn.Module] = {}
    for name, module in state.items():
        if isinstance(module, nn.Module) and (ours := wanted & {id(p) for p in module.parameters()}):
            owners[name] = module
            wanted -= ours
    if wanted:
        raise ValueError(f"the optimizer {key!r} holds {len(wanted)} parameters of no module in the state")
    return next(iter(owners.values())) if len(owners) == 1 else nn.ModuleDict(owners)


def _named(value: Any, held: Any) -> bool:
    """Stored tensor by tensor under names, rather than whole."""
    if isinstance(value, nn.Module | Optimizer):
        return True
    wanted = DTensor if isinstance(value, Stateful) else torch.Tensor
    return any(isinstance(leaf, wanted) for leaf in leaves(held))


def leaves(value: Any) -> Iterator[Any]:
    """What mappings and lists hold, at any depth."""
    if isinstance(value, Mapping):
        for part in value.values():
            yield from leaves(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from leaves(part)
    else:
        yield value


def _packed(value: Any) -> bytes:
    body = io.BytesIO()
    torch.save(value, body)
    return body.getvalue()


def _unpacked(held: Any) -> Any:
    if not isinstance(held, bytes):
        return held
    # Its digest was checked: it is what this run wrote. Tensors of rank 0's device must not land there on every rank.
    return torch.load(io.BytesIO(held), map_location="cpu", weights_only=False)
