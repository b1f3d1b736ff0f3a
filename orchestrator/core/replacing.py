"""`dataclasses.replace` in less than half its time: the core copies its state at every event, and a test decides years
of events."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any

__all__ = ["replace"]

if TYPE_CHECKING:
    from dataclasses import replace  # so that fields and types are checked
else:

    def replace(value, /, **changes):
        """A copy with other fields. Raises KeyError or TypeError for a field that its class does not have."""
        way = _ways.get(type(value)) or _learn(type(value))
        return way(value, changes)


_Way = Callable[[Any, dict[str, Any]], Any]
_ways: dict[type, _Way] = {}


def _learn(cls: type) -> _Way:
    """How to copy values of this class; the usual way for one that checks what it is made of."""
    names = [field.name for field in dataclasses.fields(cls)]
    way: _Way = _rebuilt
    if not hasattr(cls, "__post_init__") and len(names) > 1:
        way = _by_slots(cls, names) if hasattr(cls, "__slots__") else _by_dict(cls, frozenset(names))
    _ways[cls] = way
    return way


def _rebuilt(value: Any, changes: dict[str, Any]) -> Any:
    return dataclasses.replace(value, **changes)


def _by_dict(cls: type, names: frozenset[str]) -> _Way:
    """A large value without slots is copied as a whole."""

    def way(value: Any, changes: dict[str, Any]) -> Any:
        if not changes.keys() <= names:
            raise KeyError(*(changes.keys() - names))
        copy: Any = object.__new__(cls)
        fields = copy.__dict__
        fields.update(value.__dict__)
        fields.update(changes)
        return copy

    return way


def _by_slots(cls: type, names: list[str]) -> _Way:
    read, puts = attrgetter(*names), {name: cls.__dict__[name].__set__ for name in names}
    every = tuple(puts.values())

    def way(value: Any, changes: dict[str, Any]) -> Any:
        copy: Any = object.__new__(cls)
        for put, old in zip(every, read(value), strict=True):
            put(copy, old)
        for name, new in changes.items():
            puts[name](copy, new)
        return copy

    return way
