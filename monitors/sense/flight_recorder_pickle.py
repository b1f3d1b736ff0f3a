"""What does a pickle hold, when nothing in it may run? The plain values of a flight recorder's dump.

A pickle is a program for a small machine. This machine knows only the instructions that build dicts, lists, tuples,
text, numbers and None; one that would look up a name, call anything, or take a huge step is refused with a sentence.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import Any

OPCODES_MAX = 4_000_000
"""a ring of 10,000 entries with stacks 20 deep takes 3 million"""
INTEGER_BITS_MAX = 128
"""the widest number in a dump is a time in nanoseconds"""
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_MAKES: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_LITERALS = frozenset(
    "BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINUNICODE BINUNICODE8".split()  # noqa: SIM905
)
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class Refused(ValueError):
    """It is no dump, or one that nobody should read; the message is a sentence."""


def load(body: bytes) -> Any:
    """The value of a pickle that only builds plain values. Raises Refused for any other bytes."""
    machine = _Machine()
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(body)):
            if count >= OPCODES_MAX:
                raise Refused(f"the pickle takes more than {OPCODES_MAX:,} steps to read")
            machine.step(opcode.name, argument)
    except Refused:
        raise
    except (ValueError, IndexError, KeyError, OverflowError, MemoryError) as error:
        raise Refused(f"the pickle is cut off or damaged ({type(error).__name__}: {str(error)[:80]})") from error
    return machine.result()


class _Machine:
    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}  # not a list, which an index of two billion would make that long
        self._memoized = 0

    def result(self) -> Any:
        if len(self._stack) != 1 or self._marks:
            raise Refused("the pickle does not end in one value")
        return self._stack[0]

    def step(self, name: str, argument: Any) -> None:
        if name in _LITERALS:
            self._stack.append(_literal(argument))
        elif name in _MAKES:
            self._stack.append(_MAKES[name]())
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in ("BINGET", "LONG_BINGET"):
            self._stack.append(self._memo[argument])
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self._remember(argument)
        elif name == "MARK":
            self._marks.append(len(self._stack))
        elif name not in ("PROTO", "FRAME", "STOP"):
            self._build(name)

    def _remember(self, index: int | None) -> None:
        self._memo[self._memoized if index is None else index] = self._stack[-1]
        self._memoized += 1

    def _build(self, name: str) -> None:
        match name:
            case "APPEND" | "SETITEM":
                items = self._pop(1 if name == "APPEND" else 2)
            case "APPENDS" | "SETITEMS" | "TUPLE":
                items = self._pop(len(self._stack) - self._marks.pop())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                items = self._pop(_TUPLES[name])
            case _:
                raise Refused(f"the pickle wants to do more than hold values ({name})")
        if name.startswith("TUPLE"):
            self._stack.append(tuple(items))
        elif name.startswith("APPEND"):
            self._list().extend(items)
        else:
            self._fill(items)

    def _fill(self, items: list[Any]) -> None:
        target = self._stack[-1]
        keys = items[::2]
        # Only these: hashing a tuple that is nested a million deep would overrun the stack of C.
        if type(target) is not dict or len(items) % 2 or not all(type(key) in (str, int) for key in keys):
            raise Refused("the pickle has a dict that is none")
        target.update(zip(keys, items[1::2], strict=True))

    def _list(self) -> list[Any]:
        target = self._stack[-1]
        if type(target) is not list:
            raise Refused("the pickle adds to a list that is none")
        return target

    def _pop(self, count: int) -> list[Any]:
        if not 0 <= count <= len(self._stack) - (self._marks[-1] if self._marks else 0):
            raise Refused("the pickle takes more than there is")
        at = len(self._stack) - count
        items = self._stack[at:]
        del self._stack[at:]
        return items


def _literal(value: Any) -> Any:
    if isinstance(value, int) and value.bit_length() > INTEGER_BITS_MAX:
        raise Refused(f"the pickle has a number of {value.bit_length()} bits")
    return value
