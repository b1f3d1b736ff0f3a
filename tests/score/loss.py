"""Whose eye for a loss curve is better? Ours beside each published detector, on the same curves in the same run."""

from __future__ import annotations

from pathlib import Path

from tests.detect import scoring
from tests.score import made_curves, published
from tests.score.curves import Tally, high, judged, load, middle
from tests.score.rows import Row

FAMILY = "loss"
TARGET = (
    "serious >= 92 % with median delay <= 3 rows and onset within 3; false actions <= 0.1 per 10k rows, none on clean "
    "curves or outliers; transients noticed >= 80 %, acted on <= 10 %"
)


def score(folder: Path) -> list[Row]:
    """The labelled curves in `folder/loss_curves`, or made ones where there are none."""
    place = folder / "loss_curves"
    curves = load(place) or made_curves.made()
    ours = judged(scoring.detector, curves)
    return [
        _row("lastgood", ours, target=TARGET, met=meets(ours)),
        *(_row(name, judged(factory, curves)) for name, factory in published.detectors(place).items()),
    ]


def meets(tally: Tally) -> bool:
    """All of the target; what no case speaks of is met."""
    onset, delay = middle(tally.onset_errors), middle(tally.delays)
    return (
        min(tally.found, tally.acted) >= 0.92 * tally.serious
        and (delay is None or delay <= 3)
        and (onset is None or onset <= 3)
        and tally.per_10k(tally.false_actions) <= 0.1
        and tally.clean_false_actions == 0
        and tally.outliers_acted == 0
        and tally.transients_noticed >= 0.8 * tally.transients
        and tally.transients_acted <= 0.1 * tally.transients
    )


def _row(name: str, tally: Tally, *, target: str = "", met: bool | None = None) -> Row:
    maybe = {
        "delay_median_rows": middle(tally.delays),
        "delay_p90_rows": high(tally.delays),
        "action_delay_median_rows": middle(tally.action_delays),
        "action_delay_p90_rows": high(tally.action_delays),
        "onset_error_median_rows": middle(tally.onset_errors),
    }
    return Row(
        family=FAMILY,
        what=name,
        cases=tally.serious,
        precision=tally.precision,
        recall=tally.found / tally.serious if tally.serious else None,
        target=target,
        met=met,
        more={
            "acted_on_serious": _share(tally.acted, tally.serious),
            "transients_noticed": _share(tally.transients_noticed, tally.transients),
            "transients_acted_on": _share(tally.transients_acted, tally.transients),
            "outliers_acted_on": float(tally.outliers_acted),
            "false_actions_per_10k_rows": tally.per_10k(tally.false_actions),
            "false_actions_on_clean": float(tally.clean_false_actions),
            "false_alarms_per_10k_rows": tally.per_10k(tally.false_episodes),
            **{key: value for key, value in maybe.items() if value is not None},
        },
    )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
