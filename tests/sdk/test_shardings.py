"""Is a new rank spared what DTensor works out at its first step, and answered only what torch itself would say?"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lastgood import shardings
from tests import warm
from tests.sdk import sharded

Run = Callable[..., list[Any]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a function of `sharded` in a process of its own; gives what it saw."""

    def one(play: Callable[..., None], *case: Any) -> list[Any]:
        seen = tmp_path / "seen.json"
        warm.run(play, (seen, *case), folder=tmp_path)
        found: list[Any] = json.loads(seen.read_text())
        return found

    return one


@pytest.mark.parametrize("shape", [(2,), (2, 2)], ids=["fsdp", "hsdp"])
def test_what_one_process_asked_the_next_one_knows(run: Run, tmp_path: Path, shape: tuple[int, ...]) -> None:
    file = tmp_path / "shardings"
    trained, asked, left = run(sharded.ask, file, 8, shape)
    assert asked > 3, "the optimizer's step is one of them"
    assert left == 0
    known, again, unknown = run(sharded.learn, file, 8, shape)
    assert (known, unknown) == (asked, 0)
    assert again == trained, "the same numbers, on the mesh of the process itself"
    assert again[0] is True


def test_another_shape_is_another_question(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "shardings"
    run(sharded.ask, file, 8, (2,))
    trained, asked, _ = run(sharded.ask, tmp_path / "other", 6, (2,))
    known, again, unknown = run(sharded.learn, file, 6, (2,))
    assert 0 < unknown <= asked
    assert known > 0
    assert again == trained


def test_questions_add_up_over_worlds(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "shardings"
    first, second = (run(sharded.ask, file, dim, (2,))[1] for dim in (8, 6))
    assert run(sharded.learn, file, 6, (2,))[0] > max(first, second)


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps([print]), pickle.dumps(Path("/"))])
def test_a_file_that_holds_something_else_is_left_alone(run: Run, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "shardings"
    file.write_bytes(content)
    known, trained, asked = run(sharded.learn, file, 8, (2,))
    assert known == 0
    assert trained[0] is True
    assert asked > 3


def test_without_a_file_and_without_torch_nothing_is_done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(shardings.FILE, raising=False)
    shardings.note()
    assert list(tmp_path.iterdir()) == []
    code = "import sys; from lastgood import shardings as s; learned = list(s.lesson('/nowhere', 0, on_device=False)); "
    code += "print(len(learned) + len(s._known), 'torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "0 False\n"
