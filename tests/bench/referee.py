"""What happens when one fault meets one peer? The job is started, hurt from outside after step 15, and watched.

A fault does not wait for the end of a step: each round hurts at another moment of one, all peers at the same.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.bench import figures, sessions
from tests.bench.peers import JOB, RANKS, Peer, undisturbed

FAULT_STEP = 15
GOLDEN = 0.618
"""multiples of it, without their whole part, are spread evenly however many there are"""
START_S = 90.0
RECOVER_S = 60.0
"""the slowest that is known to come back at all needs 48"""
FINISH_S = 60.0
TAKEN_S = 10.0
"""for a rank to find the fault that it was told to have: a step and a save"""
TRAINED_ON = 5
"""steps after the fault that are more than the ones under way"""
VICTIM = 1
EVERYBODY = tuple(range(RANKS))
VICTIMS = {
    "kill": (VICTIM,),
    "exception": (VICTIM,),
    "stop": (VICTIM,),
    "spin": (VICTIM,),
    "two": EVERYBODY,
    "launcher": EVERYBODY,
    "supervisor": (),
}
"""faults, and the ranks that must be born again"""
TITLES = {
    "kill": "kill -9 of a rank",
    "exception": "exception in a rank",
    "stop": "SIGSTOP of a rank",
    "spin": "a rank spins, no collectives",
    "two": "kill -9 of both ranks",
    "launcher": "kill -9 of the launcher (lastgood: the agent)",
    "supervisor": "kill -9 of the supervisor",
}

Row = dict[str, Any]
"""what is written, one JSON object for each trial"""


def moment(turn: int) -> float:
    """Part of a step after which the fault of this round comes, the first of them in the middle."""
    return round((0.5 + turn * GOLDEN) % 1.0, 3)


def trial(peer: Peer, fault: str, outcome: tuple[str, str] | None, into_step: float) -> Row:
    """One run; `outcome` is what undisturbed training ends with (None: nobody asks)."""
    row: Row = {"peer": peer.name, "fault": fault, "at": round(time.time(), 1), "load": round(os.getloadavg()[0], 2)}
    row |= {"into_step": into_step}
    with tempfile.TemporaryDirectory(prefix="lastgood-bench-") as folder:
        out = Path(folder)
        began = time.time()
        session = sessions.start(peer, out, peer.until)
        watch = sessions.Watch(out)
        try:
            if not watch.wait(
                lambda lines: figures.whole(lines, RANKS) >= FAULT_STEP, within_s=START_S, session=session
            ):
                return row | {"end": "start failed", "why": session.said()}
            row["start_s"] = round(watch.lines[-1].at - began, 2)
            fault_at = inject(fault, session, watch, out, into_step)
            if fault_at is None:
                return row | {"end": "fault never taken", "why": session.said()}
            row |= {"step_s": figures.step_s(watch.lines, fault_at)}
            return row | follow(fault, fault_at, session, watch, outcome if peer.ends_alike else None)
        finally:
            session.close()


def inject(fault: str, session: sessions.Session, watch: sessions.Watch, out: Path, into_step: float) -> float | None:
    """Do it, a part of a step after the last one; when it happened, None when the rank never came to it."""
    time.sleep(into_step * figures.step_s(watch.lines, time.time()))
    at = time.time()
    match fault:
        case "kill":
            os.kill(watch.pid(VICTIM), signal.SIGKILL)
        case "stop":
            os.kill(watch.pid(VICTIM), signal.SIGSTOP)
        case "two":
            for rank in EVERYBODY:
                os.kill(watch.pid(rank), signal.SIGKILL)
        case "launcher":
            os.kill(session.launcher(), signal.SIGKILL)
        case "supervisor":
            assert isinstance(session, sessions.Supervised)
            os.kill(session.lab.supervisor_pid(), signal.SIGKILL)
        case _:
            return told(fault, session, watch, out)
    return at


def told(fault: str, session: sessions.Session, watch: sessions.Watch, out: Path) -> float | None:
    """Put the file there that makes the rank fail by itself."""
    known = sum(line.event == "fault" for line in watch.look())
    draft = out / "draft"
    draft.write_text(fault)
    draft.rename(out / f"fault.{VICTIM}")

    def taken(lines: list[figures.Line]) -> bool:
        return sum(line.event == "fault" for line in lines) > known

    if not watch.wait(taken, within_s=TAKEN_S, session=session):
        return None
    return [line.at for line in watch.lines if line.event == "fault"][-1]


def follow(
    fault: str, fault_at: float, session: sessions.Session, watch: sessions.Watch, outcome: tuple[str, str] | None
) -> Row:
    """Watch it come back, and finish."""
    if fault == "supervisor":
        assert isinstance(session, sessions.Supervised)
        return adopted(fault_at, session, watch, outcome)

    def found() -> figures.Recovery:
        return figures.recovery(watch.lines, fault_at, VICTIMS[fault], RANKS)

    def settled(lines: list[figures.Line]) -> bool:
        # Not when a world of fewer ranks goes on: it may grow again.
        return found().new_s is not None or figures.outcome(lines, RANKS) is not None

    watch.wait(settled, within_s=RECOVER_S, session=session)
    back = found()
    row = asdict(back) | {"end": _end(back, session, watch, fault_at)}
    if back.new_s is not None:
        row["same"] = _finishes_as(outcome, session, watch)
        if isinstance(session, sessions.Supervised):
            row["phases_s"] = [incident["phases_s"] for incident in session.lab.incidents(session.run)]
    elif back.shrunk_s is None:
        row["why"] = session.said()
    return row


def _end(back: figures.Recovery, session: sessions.Session, watch: sessions.Watch, fault_at: float) -> str:
    if back.new_s is not None:
        return "recovered"
    if back.shrunk_s is not None:
        return "shrunk"
    after = figures.whole((line for line in watch.lines if line.at > fault_at), RANKS)
    if after - back.last_step > TRAINED_ON:
        return "trains on, nobody watches"
    if session.ended() and not sessions.alive(watch):
        return "ends"
    return f"not within {RECOVER_S:.0f} s"


def _finishes_as(outcome: tuple[str, str] | None, session: sessions.Session, watch: sessions.Watch) -> bool | None:
    """Whether losses and weights are those of undisturbed training; None when it did not finish, or need not."""
    if outcome is None:
        return None

    def done(lines: list[figures.Line]) -> bool:
        return figures.outcome(lines, RANKS) is not None

    if not watch.wait(done, within_s=FINISH_S, session=session):
        return None
    return figures.outcome(watch.lines, RANKS) == outcome


def adopted(
    fault_at: float, session: sessions.Supervised, watch: sessions.Watch, outcome: tuple[str, str] | None
) -> Row:
    """After the supervisor's death: when a new one told of it, and how long no step was told meanwhile."""

    def told(_: list[figures.Line]) -> bool:
        kinds = {incident["kind"] for incident in session.lab.incidents(session.run)}
        return "supervisor_restarted" in kinds

    deadline = time.monotonic() + RECOVER_S
    while not told(watch.look()) and time.monotonic() < deadline:
        time.sleep(20 * sessions.POLL_S)
    seen_s = round(time.time() - fault_at, 3) if told(watch.look()) else None
    same = _finishes_as(outcome, session, watch)
    return {
        "end": "not adopted" if seen_s is None else "recovered",
        "seen_s": seen_s,
        "gap_s": figures.gap_s(watch.lines, fault_at),
        "lost": 0 if len({line.life for line in watch.lines}) == RANKS else None,
        "same": same,
    }


def reference(until: int, keep: Callable[[list[figures.Line]], None] = lambda _: None) -> tuple[str, str]:
    """Last loss and weights of the ranks alone; `keep` is handed all lines. Raises RuntimeError when they fail."""
    with tempfile.TemporaryDirectory(prefix="lastgood-bench-") as folder:
        out = Path(folder)
        words = (str(JOB), "--out", str(out), "--until", str(until))
        session = sessions.Launched(undisturbed(sys.executable, words), out)
        watch = sessions.Watch(out)
        try:
            while not session.ended():
                time.sleep(0.1)
            found = figures.outcome(watch.look(), RANKS)
            if found is None:
                raise RuntimeError(f"undisturbed training failed: {session.said()}")
            keep(watch.lines)
            return found
        finally:
            session.close()
