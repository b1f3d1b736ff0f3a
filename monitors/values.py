"""How are those frozen values made and copied of which there are thousands a second? Like all others, in half the time.

A frozen dataclass sets each field by a call, for to set an attribute is what it forbids. Here a value is, until it is
whole, of a twin class: one with the same slots, that forbids nothing. The code is written for each class, as
`dataclasses` does it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import MISSING, fields
from types import CodeType, FunctionType
from typing import Any, TypeVar

Value = TypeVar("Value")


def quick(cls: type[Value]) -> type[Value]:
    """For a dataclass (frozen, slots, keywords only) of which no field's default is made anew, and no subclasses."""
    own: Any = cls
    known = fields(own)
    assert not hasattr(own, "__post_init__"), "what checks itself takes its time"
    assert all(field.kw_only and field.default_factory is MISSING for field in known)
    names = [field.name for field in known]
    sets = (f"self.{name} = {name}" for name in names)
    init = _written(own, names, f"(self, *, {', '.join(names)})", ("turn(self, Twin)", *sets, "self.__class__ = Value"))
    init.__kwdefaults__ = {field.name: field.default for field in known if field.default is not MISSING}
    own.__init__ = init
    return cls


def copier(cls: type) -> Callable[[Any, dict[str, Any]], Any]:
    """What copies a value of a dataclass with slots, with other fields, unchecked.

    It raises AttributeError for a field that the class does not have.
    """
    names = [field.name for field in fields(cls)]
    lines = (
        "copy = new(Twin)",
        *(f"copy.{name} = value.{name}" for name in names),
        "for name, change in changes.items():",
        "    setattr(copy, name, change)",
        "copy.__class__ = Value",
        "return copy",
    )
    return _written(cls, names, "(value, changes)", lines)


def _written(cls: Any, names: list[str], takes: str, lines: Iterable[str]) -> FunctionType:
    assert cls.__slots__ == tuple(names), "all fields are its own"
    text = "\n    ".join((f"def made{takes}:", *lines))
    module = compile(text, f"<{cls.__name__}, {__name__}>", "exec")
    code = next(part for part in module.co_consts if isinstance(part, CodeType))
    twin = type(cls.__name__, (), {"__slots__": names})
    turn = object.__dict__["__class__"].__set__
    return FunctionType(code, {"new": object.__new__, "setattr": setattr, "turn": turn, "Twin": twin, "Value": cls})
