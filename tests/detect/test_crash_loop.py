"""The same failure at the same step."""

from __future__ import annotations

import pytest

from monitors.detect.crash_loop import TIMES_CERTAIN, repeats

A, B, LATER = ("a", 40), ("b", 40), ("a", 41)


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([], False),
        ([A], False),
        ([A, A], True),
        ([B, A, A], True),
        ([A, B, A], False),
        ([A, LATER, A], False),
        ([A, A, B], False),
        ([LATER, LATER], False),
    ],
)
def test_the_third_time_in_a_row_is_a_loop(history: list[tuple[str, int]], expected: bool) -> None:
    assert repeats(history, "a", 40) is expected


def test_a_failure_without_a_fingerprint_is_like_no_other() -> None:
    assert not repeats([("", 40), ("", 40)], "", 40)


def test_once_is_enough_when_one_is_allowed() -> None:
    assert repeats([], "a", 40, times=1)


def test_what_is_certain_to_fail_again_need_fail_only_twice() -> None:
    assert not repeats([], "a", 40, TIMES_CERTAIN)
    assert repeats([A], "a", 40, TIMES_CERTAIN)
    assert not repeats([LATER], "a", 40, TIMES_CERTAIN)
