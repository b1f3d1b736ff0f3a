"""What makes an agent leave, and what not?"""

from __future__ import annotations

import pytest

from jobs.agent.orders import Refusal, Refused
from jobs.agent.patience import Patience

UNKNOWN = Refused(why="run one is not known here")
TOKEN = Refused(why="wrong token", cause=Refusal.TOKEN)
OVER = Refused(why="run one is over", cause=Refusal.OVER)


def left_at(times: list[float], refused: Refused = UNKNOWN, *, welcomed_at: float = -1.0) -> float | None:
    """The first refusal, of those at these times, that makes an agent leave."""
    patience = Patience()
    ends = (at for at in times if patience.ends(refused, at, int(at > welcomed_at >= 0)))
    return next(ends, None)


EVERY_2_S = [2.0 * number for number in range(2000)]


def test_an_attempt_that_is_over_is_left_at_once() -> None:
    assert left_at(EVERY_2_S, OVER) == 0.0


def test_a_wrong_token_is_never_a_reason() -> None:
    assert left_at(EVERY_2_S, TOKEN) is None


def test_an_unknown_run_is_left_after_ten_minutes_of_hearing_so() -> None:
    assert left_at(EVERY_2_S) == 600.0


@pytest.mark.parametrize("times", [[0.0, 3600.0, 7200.0], [0.0, 700.0]])
def test_hours_without_a_word_between_two_refusals_do_not_count(times: list[float]) -> None:
    assert left_at(times) is None


def test_a_welcome_begins_the_count_anew() -> None:
    assert left_at(EVERY_2_S, welcomed_at=500.0) == 502.0 + 600.0
