"""A lab for each test, ended whatever happens."""

from __future__ import annotations

import fcntl
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from lab import STEPS, Alone, Lab, Trained, read, undisturbed
from telling import drills_of, telling


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A supervisor of its own."""
    made = Lab(tmp_path)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def told_as_it_is(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where a test plays the drill of a runbook, exactly that is told."""
    if not (drills := drills_of(request.node)):
        yield
        return
    monkeypatch.setenv("no_proxy", "*")
    with telling(request.getfixturevalue("lab"), drills):
        yield


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Alone:
    """Trained once, whoever asks for it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if hasattr(request.config, "workerinput") else base  # that of all processes of this session

    def train(steps: int = STEPS, ranks: int = 2) -> Trained:
        folder = shared / f"alone-{steps}-{ranks}"
        with folder.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                undisturbed(folder.with_suffix(".training"), "--steps", str(steps), ranks=ranks)
                folder.with_suffix(".training").rename(folder)
        return read(folder / "losses", folder / "weights")

    return train
