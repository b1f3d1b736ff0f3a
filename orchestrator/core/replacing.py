"""`dataclasses.replace` in a third of its time: the core copies its state at every event, and a test decides years
of events."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from monitors.values import copier

__all__ = ["replace"]

if TYPE_CHECKING:
    from dataclasses import replace  # so that fields and types are checked
else:

    def replace(value, /, **changes):
        """A copy with other fields. Raises AttributeError, KeyError or TypeError for a field that there is not."""
        way = _ways.get(type(value)) or _learn(type(value))
        return way(value, changes)


_Way = Callable[[Any, dict[str, Any]], Any]
_ways: dict[type, _Way] = {}


def _learn(cls: type) -> _Way:
    """How to copy values of this class; the usual way for one that checks what it is made of."""
    names = [field.name for field in dataclasses.fields(cls)]
    way: _Way = _rebuilt
    if not hasattr(cls, "__post_init__") and len(names) > 1:
        way = copier(cls) if hasattr(cls, "__slots__") else _by_dict(cls, frozenset(names))
    _ways[cls] = way
    return way


def _rebuilt(value: Any, changes: dict[str, Any]) -> Any:
    return dataclasses.replace(value, **changes)


def _by_dict(cls: type, names: frozenset[str]) -> _Way:
    """A large value without slots is copied as a whole."""
    new, put, count = object.__new__, object.__setattr__, len(names)

    def way(value: Any, changes: dict[str, Any]) -> Any:
        fields = value.__dict__ | changes
        if len(fields) != count:
            raise KeyError(*(changes.keys() - names))
        copy: Any = new(cls)
        put(copy, "__dict__", fields)
        return copy

    return way
