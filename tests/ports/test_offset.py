"""Is the clock of another host told from a busy one, and are its times moved?"""

from __future__ import annotations

import pytest

from monitors import signals as s
from orchestrator.offset import WINDOW_S, Offset, shifted


def after(offset: Offset, *, behind_s: float, delays_s: list[float], at: float = 1000.0) -> float:
    """What is known after such delays, a quarter of a second apart, of a clock that is so far behind."""
    for number, delay_s in enumerate(delays_s):
        sent = at + number * 0.25
        offset.heard(sent - behind_s, sent + delay_s)
    return offset.seconds


@pytest.mark.parametrize("behind_s", [60.0, -60.0, 0.8])
def test_an_offset_is_known_to_the_least_delay(behind_s: float) -> None:
    assert after(Offset(), behind_s=behind_s, delays_s=[0.3, 0.002, 2.0, 0.01]) == pytest.approx(behind_s, abs=0.5)


@pytest.mark.parametrize("delays_s", [[0.0], [0.4] * 20, [3.0, 0.1], [0.1, 20.0, 9.0, 5.0]])
def test_delays_alone_are_no_offset(delays_s: list[float]) -> None:
    assert after(Offset(), behind_s=0.0, delays_s=delays_s) == 0.0


def test_small_changes_do_not_move_times_to_and_fro() -> None:
    offset = Offset()
    after(offset, behind_s=10.0, delays_s=[0.0])
    for number in range(1000):
        after(offset, behind_s=10.0 + 0.4 * (number % 2), delays_s=[0.0], at=2000.0 + number * WINDOW_S)
        assert offset.seconds == 10.0


def test_a_clock_that_was_set_is_followed() -> None:
    offset = Offset()
    after(offset, behind_s=10.0, delays_s=[0.0])
    after(offset, behind_s=30.0, delays_s=[0.0] * 400, at=2000.0)
    assert offset.seconds == 30.0
    after(offset, behind_s=0.0, delays_s=[0.0] * 400, at=3000.0)
    assert offset.seconds == 0.0


def test_every_time_of_a_signal_is_moved_and_no_length() -> None:
    failure = s.Failure(kind="E", message="", traceback="", raised_at=1.0, fingerprint="")
    exited = s.RankExited(at=2.0, node=0, world=1, rank=0, code=1, signal=None, step=3, failure=failure)
    moved = shifted(exited, 10.0)
    assert isinstance(moved, s.RankExited)
    assert moved.failure is not None
    assert (moved.at, moved.failure.raised_at, moved.step) == (12.0, 11.0, 3)
    saved = s.SaveCommitted(at=2.0, node=0, world=1, checkpoint="c", step=1, bytes=1, saved_at=1.5, stall_s=0.5)
    assert shifted(saved, 10.0) == s.SaveCommitted(
        at=12.0, node=0, world=1, checkpoint="c", step=1, bytes=1, saved_at=11.5, stall_s=0.5
    )
    group = s.GroupStatus(group="g", arrivals=((7, 1.0),))
    looked = shifted(s.CollectivesLooked(at=2.0, node=0, world=1, rank=0, groups=(group,)), 10.0)
    assert isinstance(looked, s.CollectivesLooked)
    assert looked.groups[0].arrivals == ((7, 11.0),)


@pytest.mark.parametrize("ahead_s", [0.2, 3600.0])
def test_nothing_is_seen_later_than_it_is_heard(ahead_s: float) -> None:
    saved = s.SaveCommitted(
        at=1000.0 + ahead_s, node=0, world=1, checkpoint="c", step=1, bytes=1, saved_at=999.0 + ahead_s
    )
    heard = Offset().ours(saved, 1000.0)
    assert isinstance(heard, s.SaveCommitted)
    assert (heard.at, heard.saved_at) == (1000.0, pytest.approx(999.0))
