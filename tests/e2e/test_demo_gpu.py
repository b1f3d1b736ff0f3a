"""Does the demo of a GPU's fault show what it promises, on a machine without GPUs?"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from monitors.fakenvml.build import compiler
from orchestrator import demo_gpu
from orchestrator.client import ask

pytestmark = [
    pytest.mark.soak,
    pytest.mark.e2e,
    pytest.mark.skipif(compiler() is None, reason="needs a C compiler: install gcc"),
]


@pytest.fixture(autouse=True)
def environment() -> object:
    """As it was: the demo changes it for the processes that it starts."""
    before = dict(os.environ)
    yield None
    os.environ.clear()
    os.environ.update(before)


def test_a_gpu_that_falls_off_the_bus_is_told_at_once_and_the_run_finishes(tmp_path: Path) -> None:
    try:
        assert demo_gpu.play(tmp_path / "demo", "xid79") == 0
    finally:
        ask(tmp_path / "demo" / "home", {"ask": "shutdown"}, start=False)
