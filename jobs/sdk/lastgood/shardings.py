"""What does DTensor work out at the first step of every process, and how is a new rank spared that?

For each operation on sharded tensors torch works out once how its result is sharded: for the optimizer's step over all
parameters that is 60 ms for 50 of them, and it grows with their number. What the ranks of one world asked is written
down (`note`), processes that wait work it out meanwhile (`lessons.py`), and a rank that they become, or that is forked
from them, is answered at once (`attach`).

An answer is given only for an equal question, by torch's own measure of equality (the one its cache goes by), and only
when it moves no data between ranks. Whatever of this a torch does differently is left to torch.
"""

from __future__ import annotations

import io
import os
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from typing import Any

FILE = "LASTGOOD_SHARDINGS"
"""path of the file of questions, one for a node; without it nothing is noted"""
QUESTIONS_MOST = 4096
_DISPATCHER = "torch.distributed.tensor._dispatch"
_DESCRIBE = "torch.distributed."
"""where the classes come from that may stand in the file; ranks of this run wrote it, and wrote nothing else"""

Question = tuple[str, tuple[Any, ...], dict[str, Any]]
"""(operation, arguments, keyword arguments), tensors replaced by torch's description of them"""

_known: dict[Any, Any] = {}
_asked: list[Any] = []
_open: list[bool] = []
"""not empty: what is asked is still to be written down"""


def attach() -> None:
    """Answer from what was learned, and remember what else is asked. Safe to do twice, and before torch is imported."""
    propagator = _propagator()
    if propagator is None or hasattr(propagator, "_lastgood"):
        return
    compute: Callable[[Any], Any] = propagator.propagate_op_sharding_non_cached
    _open[:] = [True] if FILE in os.environ else []

    def answered(schema: Any) -> Any:
        found = _known.get(schema) if _known else None
        if found is not None and (here := _brought(found, schema)) is not None:
            return here
        if _open and len(_asked) < QUESTIONS_MOST:
            _asked.append(schema)
        return compute(schema)

    propagator._lastgood = True
    propagator.propagate_op_sharding_non_cached = answered


def note() -> None:
    """Write down what was asked and not known, if anything: for the processes that will take this one's place."""
    path = os.environ.get(FILE)
    asked, _asked[:], _open[:] = list(_asked), [], []
    if not asked or path is None:
        return
    with _left_to_torch():
        questions = [*_read(path), *(_question(schema) for schema in asked)]
        draft = f"{path}.{os.getpid()}"
        with open(draft, "wb") as file:
            _Pickler(file).dump(questions[-QUESTIONS_MOST:])
        os.replace(draft, path)


def lesson(path: str, rank: int, *, on_device: bool) -> Iterator[None]:
    """Work out what ranks asked before, as `rank` will, one question at a time.

    Torch makes itself at home on the device of a question, and a process that did so must never be forked: without
    `on_device` only those of CPUs are worked out.
    """
    questions: list[Question] = []
    with _left_to_torch():
        questions = _read(path, rank)
    for question in questions:
        with _left_to_torch():
            if on_device or _is_of_cpu(question):
                _work_out(question)
        yield


def _is_of_cpu(question: Question) -> bool:
    _, args, kwargs = question
    return all(spec.mesh.device_type == "cpu" for spec in _specs((*args, *kwargs.values())))


@contextmanager
def _left_to_torch() -> Iterator[None]:
    """A torch that describes things in another way, an operation that needs its ranks, a full disk: no harm is done."""
    with suppress(Exception):
        yield


def _work_out(question: Question) -> None:
    propagator = _propagator()
    schema = _schema(propagator, question)
    if schema in _known:
        return
    answer = propagator.propagate_op_sharding_non_cached(schema)
    if answer.redistribute_schema is None and not answer.needs_redistribute:
        _known[schema] = answer


def _propagator() -> Any:
    """Torch's own, where a module that uses it was imported, and it is what is known here; else None."""
    module = sys.modules.get(_DISPATCHER)
    tensors = sys.modules.get("torch.distributed.tensor")
    if module is None or tensors is None:
        return None
    dispatcher = getattr(getattr(tensors, "DTensor", None), "_op_dispatcher", None)
    propagator = getattr(dispatcher, "sharding_propagator", None)
    return propagator if hasattr(propagator, "propagate_op_sharding_non_cached") else None


def _question(schema: Any) -> Question:
    return schema.op.name(), tuple(schema.args_schema), dict(schema.kwargs_schema)


def _schema(propagator: Any, question: Question) -> Any:
    from torch.distributed.tensor._op_schema import OpSchema

    name, args, kwargs = question
    op = _operation(name)
    info = propagator.op_to_schema_info.get(op)
    if info is None:
        info = propagator.op_to_schema_info_for_single_dim_strategy.get(op)
    return OpSchema(op, args, kwargs, schema_info=info)


def _operation(name: str) -> Any:
    import torch

    space, _, rest = name.partition("::")
    packet, _, overload = rest.partition(".")
    return getattr(getattr(getattr(torch.ops, space), packet), overload or "default")


def _brought(answer: Any, schema: Any) -> Any:
    """The answer, on the meshes of the question: those it was worked out on belong to nobody. None: it cannot be."""
    meshes = {spec.mesh: spec.mesh for spec in _specs(schema.args_schema)}
    output = answer.output_spec
    if any(spec.mesh not in meshes for spec in _specs((output,))):
        return None
    return type(answer)(output_spec=_on(output, meshes))


def _on(value: Any, meshes: dict[Any, Any]) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_on(one, meshes) for one in value)
    return value if value is None else _made(type(value), {**_parts(value), "mesh": meshes[value.mesh]})


def _specs(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
            yield from _specs(value)
        elif hasattr(value, "mesh") and hasattr(value, "placements"):
            yield value


def _parts(spec: Any) -> dict[str, Any]:
    return {field.name: getattr(spec, field.name) for field in fields(spec) if field.init}


def _made(kind: type, parts: dict[str, Any]) -> Any:
    return kind(**parts)


def _read(path: str, rank: int | None = None) -> list[Question]:
    try:
        with open(path, "rb") as file:
            return list(_Unpickler(io.BytesIO(file.read()), rank).load())
    except FileNotFoundError:
        return []


class _Pickler(pickle.Pickler):
    """Descriptions of tensors without what belongs to one process: groups, threads, hashes."""

    def persistent_id(self, value: Any) -> Any:
        from torch.distributed.device_mesh import DeviceMesh

        if not isinstance(value, DeviceMesh):
            return None
        return value.device_type, value._layout, value._rank_map.tolist(), value.mesh_dim_names

    def reducer_override(self, value: Any) -> Any:
        if is_dataclass(value) and hasattr(value, "placements") and hasattr(value, "mesh"):
            return _made, (type(value), _parts(value))
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    """The same, on meshes that no group stands behind."""

    def __init__(self, file: io.BytesIO, rank: int | None) -> None:
        super().__init__(file)
        self._rank = rank
        self._meshes: dict[str, Any] = {}

    def find_class(self, module: str, name: str) -> Any:
        import torch

        found = _made if (module, name) == (__name__, "_made") else super().find_class(module, name)
        plain = found in (torch.Size, _made) or isinstance(found, torch.dtype | torch.layout | torch.memory_format)
        if plain or (module.startswith(_DESCRIBE) and isinstance(found, type)):
            return found
        raise pickle.UnpicklingError(f"{module}.{name} describes no tensor")

    def persistent_load(self, pid: Any) -> Any:
        import torch
        from torch.distributed.device_mesh import DeviceMesh

        device_type, layout, rank_map, names = pid
        if repr(pid) not in self._meshes:
            self._meshes[repr(pid)] = DeviceMesh(
                device_type,
                mesh_dim_names=names,
                _init_backend=False,
                _rank=self._rank or 0,
                _layout=layout,
                _rank_map=torch.tensor(rank_map, dtype=torch.int),
            )
        return self._meshes[repr(pid)]
