"""Is a loss scale that collapses told once, and one that is looked for not at all?"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from monitors.detect.loss import Loss, LossConfig
from monitors.detect.loss_scale import Collapsed, LossScale
from monitors.incidents import Incident, Kind
from monitors.signals import StepReported

SEARCH = [2.0**power for power in range(32, 16, -1)]
SOUND = [*SEARCH, *[65536.0] * 200]


def told(scales: Iterable[float | None], detector: LossScale | None = None) -> list[Collapsed]:
    """What is told of a run with these scales."""
    detector = detector or LossScale()
    found = [detector.see(step, float(step), scale) for step, scale in enumerate(scales, start=1)]
    return [one for one in found if one is not None]


def test_a_collapse_is_told_once_from_where_it_began() -> None:
    falls = [2.0**power for power in range(15, 3, -1) for _ in range(3)]
    (one,) = told([*SOUND, *falls])
    assert (one.onset_step, one.usual, one.now) == (len(SOUND) + 1, 65536.0, 1024.0)


@pytest.mark.parametrize(
    "scales",
    [
        SEARCH,
        SOUND,
        [1.0] * 500,
        [None] * 500,
        [*SOUND, *[s for power in (15, 14, 13, 12) for s in [2.0**power] * 20], *[65536.0] * 100],
        [2.0 ** (16 - step // 300) for step in range(3000)],
        [float("nan"), 0.0, -1.0] * 100,
    ],
    ids=["search", "sound", "none needed", "not told", "four halvings", "sinks slowly", "nonsense"],
)
def test_what_scalers_do_anyway_is_not_told(scales: list[float | None]) -> None:
    assert told(scales) == []


def test_another_collapse_after_a_recovery_is_news() -> None:
    fall = [2.0**power for power in range(15, 8, -1)]
    assert len(told([*SOUND, *fall, *[65536.0] * 300, *fall])) == 2


def test_new_ranks_search_again() -> None:
    detector = LossScale()
    assert told(SOUND, detector) == []
    detector.started()
    assert told(SOUND, detector) == []


def test_the_run_is_told_of_it_and_goes_on() -> None:
    loss, found = Loss(LossConfig()), list[Incident]()
    loss.world_began(1)
    for step, scale in enumerate([*SOUND, *[2.0**power for power in range(15, 8, -1)]], start=1):
        found += loss.see(
            StepReported(
                at=float(step), node=0, world=1, rank=0, step=step, loss=3.0 + step % 7 / 100, loss_scale=scale
            )
        )
    (one,) = found
    assert (one.kind, one.onset_step) == (Kind.GRADIENT_SHIFT, len(SOUND) + 1)
    assert "the loss scale fell from 6.554e+04 to 1024" in one.evidence[0]
