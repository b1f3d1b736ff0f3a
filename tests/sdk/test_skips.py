"""Is every batch outside the skipped windows fed once, in order, whatever is skipped later?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastgood.skips import Skips

windows = st.lists(
    st.tuples(st.integers(0, 60), st.integers(1, 20)).map(lambda window: (window[0], window[0] + window[1])), max_size=6
)
STEPS = range(1, 120)


def test_without_windows_a_step_takes_the_batch_of_its_number() -> None:
    assert [Skips().data_index(step) for step in (1, 2, 40)] == [0, 1, 39]


def test_a_window_is_jumped_over() -> None:
    assert [Skips([(2, 5)]).data_index(step) for step in range(1, 6)] == [0, 1, 5, 6, 7]


def test_windows_that_touch_or_overlap_are_one() -> None:
    assert [Skips([(5, 7), (2, 4), (3, 5)]).data_index(step) for step in range(1, 5)] == [0, 1, 7, 8]


@given(windows)
def test_every_batch_outside_the_windows_is_fed_once_and_in_order(skipped: list[tuple[int, int]]) -> None:
    """The definition, counted out: the n-th step gets the n-th index that no window holds."""
    free = (index for index in range(10_000) if not any(first <= index < end for first, end in skipped))
    skips = Skips(skipped)
    assert [skips.data_index(step) for step in STEPS] == [next(free) for _ in STEPS]


@given(windows, st.integers(1, 100), st.integers(1, 20))
def test_a_window_added_later_changes_nothing_before_it(skipped: list[tuple[int, int]], step: int, length: int) -> None:
    old = Skips(skipped)
    onset = old.data_index(step)
    new = Skips([*skipped, (onset, onset + length)])
    assert [new.data_index(before) for before in range(1, step)] == [old.data_index(s) for s in range(1, step)]
    assert new.data_index(step) >= onset + length


@pytest.mark.parametrize("window", [(3, 3), (5, 2), (-1, 4)])
def test_what_is_no_window_is_refused(window: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="not a window"):
        Skips([window])


def test_there_is_no_batch_before_the_first_step() -> None:
    with pytest.raises(ValueError, match="numbered from 1"):
        Skips().data_index(0)
