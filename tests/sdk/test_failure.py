"""Are two failures told apart exactly when a person would?"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path

from lastgood import failure
from monitors import signals


def _raised(action: Callable[[], object]) -> BaseException:
    try:
        action()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def _by_rank(rank: int) -> None:
    raise RuntimeError(
        f"[rank{rank}] connection to 10.0.0.{rank}:2951{rank} lost, buffer at 0x7f{rank}a, {rank}.5e-3 s"
    )


def _elsewhere(rank: int) -> None:
    raise RuntimeError(
        f"[rank{rank}] connection to 10.0.0.{rank}:2951{rank} lost, buffer at 0x7f{rank}a, {rank}.5e-3 s"
    )


def test_the_fields_are_those_of_the_signal(tmp_path: Path) -> None:
    failure.write(failure.of(_raised(lambda: _by_rank(1))), str(tmp_path))
    body = json.loads((tmp_path / "error.json").read_text())
    told = signals.Failure(**body)
    assert {field.name for field in fields(told)} == set(body)
    assert told.kind == "RuntimeError"
    assert told.message.startswith("[rank1] connection")
    assert "_by_rank" in told.traceback
    assert [path.name for path in tmp_path.iterdir()] == ["error.json"]


def test_one_failure_seen_by_two_ranks_has_one_fingerprint() -> None:
    one, two = (failure.fingerprint(_raised(partial(_by_rank, rank))) for rank in (1, 2))
    assert one == two


def test_another_place_another_class_or_other_words_are_another_failure() -> None:
    def words() -> None:
        raise RuntimeError("something else")

    def kind() -> None:
        raise LookupError("something else")

    raised = [lambda: _by_rank(1), lambda: _elsewhere(1), words, kind]
    assert len({failure.fingerprint(_raised(action)) for action in raised}) == 4


def test_frames_of_installed_code_do_not_count() -> None:
    """The same mistake reached through two entrances of the standard library is one mistake."""

    def broken(_: object) -> object:
        raise RuntimeError("mine")

    loads = _raised(partial(json.loads, "{}", object_hook=broken))
    decode = _raised(partial(json.JSONDecoder(object_hook=broken).decode, "{}"))
    assert failure.of(loads).traceback != failure.of(decode).traceback
    assert failure.fingerprint(loads) == failure.fingerprint(decode)


def test_a_failure_wholly_inside_installed_code_still_tells_its_place() -> None:
    def of(text: str) -> str:
        error = _raised(lambda: json.loads(text))
        assert error.__traceback__ is not None
        error.__traceback__ = error.__traceback__.tb_next  # as for `-m` of an installed trainer
        return failure.fingerprint(error)

    assert of("{") != of("]")


def test_an_exception_that_cannot_be_printed_is_told_all_the_same() -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise KeyError

    told = failure.of(_raised(lambda: (_ for _ in ()).throw(Broken())))
    assert told.message == "<str() of it raised KeyError>"
    assert told.kind.endswith("Broken")
