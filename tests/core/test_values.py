"""Are values that are made and copied quickly like all others: frozen, keywords only, equal, with their defaults?"""

from __future__ import annotations

import dataclasses
import pickle
from dataclasses import FrozenInstanceError, dataclass
from typing import Any

import pytest

from monitors.values import quick
from orchestrator.core.replacing import replace


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Quick:
    """Like `Plain`, but for the way it is made."""

    at: float
    step: int = 3
    why: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    """As `dataclasses` makes it."""

    at: float
    step: int = 3
    why: str | None = None


BOTH = pytest.mark.parametrize("cls", [Quick, Plain])


@BOTH
def test_it_is_made_as_it_is_told(cls: Any) -> None:
    value = cls(at=1.0, why="so")
    assert type(value) is cls
    assert dataclasses.astuple(value) == (1.0, 3, "so")
    assert value == cls(at=1.0, step=3, why="so") != cls(at=1.0)
    assert hash(value) == hash(cls(at=1.0, why="so"))
    assert repr(value) == f"{cls.__name__}(at=1.0, step=3, why='so')"
    assert pickle.loads(pickle.dumps(value)) == value


@BOTH
def test_it_cannot_be_made_wrong(cls: Any) -> None:
    for given in ({}, {"at": 1.0, "steps": 2}):
        with pytest.raises(TypeError):
            cls(**given)
    with pytest.raises(TypeError):
        cls(1.0)


@BOTH
def test_it_is_frozen_and_so_is_its_copy(cls: Any) -> None:
    value = cls(at=1.0)
    copy = replace(value, step=4)
    assert copy == dataclasses.replace(value, step=4) == cls(at=1.0, step=4)
    assert type(copy) is cls
    assert value == cls(at=1.0), "the copied one is as it was"
    for one in (value, copy):
        with pytest.raises(FrozenInstanceError):
            one.step = 5
    with pytest.raises(AttributeError):
        replace(value, steps=5)


def test_what_checks_itself_is_not_made_quickly() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Checked:
        at: float

        def __post_init__(self) -> None:
            assert self.at > 0

    with pytest.raises(AssertionError, match="checks itself"):
        quick(Checked)
