"""Nothing is wrong, and nothing may be found: slow steps, long saves, evaluations, a loaded machine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lab import Lab

pytestmark = [pytest.mark.e2e, pytest.mark.alone]

SCRIPT = Path(__file__).with_name("healthy.py")
HOG = "import time\nwhile True:\n t = time.time()\n while time.time() - t < 2: pass\n time.sleep(1)"
"""two seconds of every three: a neighbour that comes and goes"""


@contextmanager
def loaded_machine() -> Iterator[None]:
    """Somebody else's work on every core."""
    hogs = [subprocess.Popen([sys.executable, "-c", HOG]) for _ in range(2)]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


def healthy(lab: Lab, seconds: float) -> None:
    with loaded_machine():
        run = lab.submit(
            [str(SCRIPT), str(seconds), "3"], checkpoint={"every_steps": 20, "keep": 2, "probation_steps": 15}
        )
        lab.finish(run, within_s=6 * seconds + 60)
    assert lab.incidents(run) == [], lab.told(run)
    status = lab.status(run)
    assert (status["attempt"], status["world"], status["restarts"]) == (1, 1, 0)


def test_some_health_raises_nothing(lab: Lab) -> None:
    healthy(lab, 23.0)  # two evaluations and a long save


@pytest.mark.soak
def test_ten_minutes_of_health_raise_nothing(lab: Lab) -> None:
    healthy(lab, 600.0)
