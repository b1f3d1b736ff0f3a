"""Does it come back every time, and as fast? A hundred kills and a hundred exceptions inside one run.

A fault every 40 steps, and nobody touches the run. In the end every loss and the weights must be those of undisturbed
training, bit for bit. Strikes are forgiven by each new step, and no two exceptions come at the same step, so that no
budget is spent and none is taken for a crash loop: a run that is held is a failure here.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench import figures, referee, sessions
from tests.bench.peers import PEERS, RANKS

FAULTS = ("kill", "exception")
EVERY_STEPS = 40
"""4 s: processes wait for the place of a lost rank again"""
MEDIAN_S, WORST_S, LOST = 0.6, 1.2, 1
WITHIN_S = 60.0


def main(trials: int, out: Path) -> bool:
    """Whether the targets were met; prints why not."""
    faults = [FAULTS[number % len(FAULTS)] for number in range(trials * len(FAULTS))]
    until = (len(faults) + 1) * EVERY_STEPS
    print(f"{len(faults)} faults in {until} steps, load {os.getloadavg()[0]:.1f}", flush=True)
    with tempfile.TemporaryDirectory(prefix="lastgood-bench-") as folder:
        session = sessions.start(PEERS["lastgood"], Path(folder), until)
        watch = sessions.Watch(Path(folder))
        try:
            rows = [one(fault, number, session, watch, Path(folder)) for number, fault in enumerate(faults, start=1)]
            done = watch.wait(
                lambda lines: figures.outcome(lines, RANKS) is not None, within_s=WITHIN_S, session=session
            )
            assert done, f"it did not finish: {session.said()}"
            assert isinstance(session, sessions.Supervised)
            incidents = session.lab.incidents(session.run)
        finally:
            session.close()
    rows = [row | {"phases_s": spent(row, incidents)} for row in rows]
    with out.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return judged(rows) & same(watch.lines, until)


def one(fault: str, number: int, session: sessions.Session, watch: sessions.Watch, out: Path) -> dict[str, Any]:
    """The trial of this number, when its step has come."""
    at_step = number * EVERY_STEPS
    reached = watch.wait(
        lambda lines: figures.whole(recent(lines), RANKS) >= at_step, within_s=WITHIN_S, session=session
    )
    assert reached, f"step {at_step} was not reached: {session.said()}"
    load = os.getloadavg()[0]
    fault_at = referee.inject(fault, session, watch, out, referee.moment(number))
    assert fault_at is not None, f"no rank took the {fault} at step {at_step}"

    def found() -> figures.Recovery:
        return figures.recovery(recent(watch.lines), fault_at, referee.VICTIMS[fault], RANKS)

    assert watch.wait(lambda _: found().new_s is not None, within_s=WITHIN_S, session=session), session.said()
    back = found()
    row = {"trial": number, "fault": fault, "step": back.last_step, "first_s": back.first_s, "new_s": back.new_s}
    return row | {"lost": back.lost, "load": round(load, 2), "at": round(fault_at, 3)}


def spent(row: dict[str, Any], incidents: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Where the time of a trial went, by the incident that began nearest to its fault."""
    nearest = min(incidents, key=lambda incident: abs(incident["onset"] - row["at"]))
    found: dict[str, float | None] = nearest["phases_s"]
    return found


def recent(lines: Sequence[figures.Line]) -> Sequence[figures.Line]:
    """The end of the file: all that concerns a fault, so that looking does not get slower."""
    return lines[-8 * EVERY_STEPS * RANKS :]


def judged(rows: Sequence[dict[str, Any]]) -> bool:
    """Print medians and extremes; whether they are within the targets."""
    good = True
    for fault in FAULTS:
        own = [row for row in rows if row["fault"] == fault]
        new, lost = sorted(row["new_s"] for row in own), [row["lost"] for row in own]
        first = statistics.median(row["first_s"] for row in own)
        met = statistics.median(new) <= MEDIAN_S and new[-1] <= WORST_S and max(lost) <= LOST
        print(
            f"{fault:10} {len(own)} times: first new step after {statistics.median(new):.2f} s "
            f"[{new[0]:.2f} to {new[-1]:.2f}], first of any kind {first:.2f} s, steps lost at most {max(lost)}: "
            + ("as wanted" if met else f"wanted {MEDIAN_S} s, never over {WORST_S} s, at most {LOST} step lost")
        )
        good &= met
    told(rows)
    return good


def told(rows: Sequence[dict[str, Any]]) -> None:
    """Print where the time goes, in the middle and in those that took longer than any should."""
    for fault in FAULTS:
        parts = [row["phases_s"] for row in rows if row["fault"] == fault]
        middle = {name: [part[name] for part in parts if part[name] is not None] for name in parts[0]}
        print(f"{fault:10} " + ", ".join(f"{name} {statistics.median(s):.2f}" for name, s in middle.items() if s))
    for row in rows:
        if row["new_s"] > WORST_S:
            print(f"trial {row['trial']}, {row['fault']}, load {row['load']}: {row['new_s']:.2f} s, {row['phases_s']}")


def same(lines: Sequence[figures.Line], until: int) -> bool:
    """Print and return whether all of it equals undisturbed training."""
    alone: dict[int, str] = {}
    outcome = referee.reference(until, keep=lambda lines: alone.update(figures.losses(lines)))
    equal = figures.outcome(lines, RANKS) == outcome and figures.losses(lines) == alone
    print(
        "bit-identical to undisturbed training, every loss and the weights" if equal else "DIFFERENT from undisturbed"
    )
    return equal
