"""Can a process that stepped back be as urgent as any other again, also where it is not root?"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lastgood import background

OF_SESSION = Path("/proc/self/autogroup")


def said(told: int, text: str) -> None:
    """Write it down, for the test to read."""
    os.write(told, f"{text}\n".encode())


def niceness() -> str:
    """Of the session of this process."""
    return OF_SESSION.read_text().rsplit(" ", 1)[1].strip()


@pytest.mark.skipif(not OF_SESSION.exists(), reason="this kernel does not weigh sessions")
def test_a_process_forked_in_the_background_comes_back() -> None:
    heard, told = os.pipe()
    if (between := os.fork()) == 0:
        background.begin()
        waiting = os.fork()
        if waiting == 0:
            said(told, f"{niceness()} {os.getsid(0) == os.getpid()}")
            background.leave()
            said(told, f"{niceness()} {os.getsid(0) == os.getpid()} {os.sched_getscheduler(0) == os.SCHED_OTHER}")
        else:
            os.waitpid(waiting, 0)
        os._exit(0)
    os.close(told)
    os.waitpid(between, 0)
    with open(heard) as lines:
        assert lines.read().split("\n") == ["19 False", "0 True True", ""]


@pytest.mark.skipif(not OF_SESSION.exists(), reason="this kernel does not weigh sessions")
@pytest.mark.parametrize("own", [True, False])
def test_who_steps_back_weighs_its_own_session_and_no_other(own: bool) -> None:
    heard, told = os.pipe()
    if (parent := os.fork()) == 0:
        os.setsid()
        if (child := os.fork()) == 0:
            if own:
                os.setsid()
            background.step_back(5)
            said(told, f"{niceness()} {os.nice(0)}")
            os._exit(0)
        os.waitpid(child, 0)
        said(told, niceness())
        os._exit(0)
    os.close(told)
    os.waitpid(parent, 0)
    with open(heard) as lines:
        assert lines.read().split("\n") == ["5 5" if own else "0 5", "0", ""]
