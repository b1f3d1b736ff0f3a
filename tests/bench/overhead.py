"""What does being supervised cost a step of about 100 ms? With and without, in turns, inside one run.

Blocks with: training through the SDK, agent, senses and supervisor at work. Blocks without: as many steps of the same
training inside one step of the SDK, while everything of lastgood outside the ranks is frozen (SIGSTOP).

A step here takes 10 % more or less than the one before, whoever watches it, and slowly changes besides. So blocks are
short, that both kinds have the same of that, and hundreds, that half a percent can be told: the error of the mean is
printed beside it. What was frozen finds a rank that has been silent, and looks at it closely: one block goes by, and
does not count, before the next one with.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from jobs import registry
from tests.bench import figures, sessions
from tests.bench.peers import JOB

BLOCK_STEPS = 11
"""1 s: a look, an acknowledgement, and a transaction of the supervisor; and no multiple of what copies and saves are"""
WARM_BLOCKS = 10
"""of both kinds: spares begin, the first save and the cost of a copy are measured"""
STEP_S_MOST = 1.0
LOOK_EVERY_S = 5.0
"""who is around the ranks; to look takes time from them"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One way to run."""

    title: str
    wanted: float
    checkpoint: dict[str, Any] = field(default_factory=dict)


SETTINGS = (
    Setting(
        title="supervision and reports",
        wanted=0.005,
        checkpoint={"every_steps": 1_000_000, "memory_every_steps": 0},
    ),
    Setting(title="everything at its defaults: copies in memory and saves too", wanted=0.01),
)


def main(blocks: int) -> bool:
    """Whether both targets were met; prints the figures."""
    met = [measured(setting, blocks) for setting in SETTINGS]
    return all(met)


def measured(setting: Setting, blocks: int) -> bool:
    """Run one setting, and tell."""
    until = 2 * (blocks + WARM_BLOCKS) * BLOCK_STEPS
    with tempfile.TemporaryDirectory(prefix="lastgood-bench-") as folder:
        out = Path(folder)
        words = (str(JOB), "--out", folder, "--until", str(until), "--by", "lastgood", "--block", str(BLOCK_STEPS))
        session = sessions.Supervised(words, out, checkpoint=setting.checkpoint)
        watch = sessions.Watch(out)
        try:
            spent = followed(session, watch, out, within_s=2 * until * STEP_S_MOST)
        finally:
            session.close()
    found = figures.blocks(watch.lines, BLOCK_STEPS)[2 * WARM_BLOCKS :]
    shares = figures.overhead(found)
    bare_s = statistics.mean(step_s for kind, step_s in found if kind == "without")
    share, error = statistics.mean(shares), statistics.stdev(shares) / len(shares) ** 0.5
    print(
        f"{setting.title}: {share:+.2%} \u00b1 {error:.2%} of a step of {1e3 * bare_s:.0f} ms "
        f"({len(shares)} blocks of {BLOCK_STEPS} steps with, and as many without), wanted < {setting.wanted:.1%}; "
        f"agent, senses and supervisor took {spent:.2%} of a core, load {os.getloadavg()[0]:.1f}",
        flush=True,
    )
    return share < setting.wanted


def followed(session: sessions.Supervised, watch: sessions.Watch, out: Path, *, within_s: float) -> float:
    """Until the job is done, tell it whom to freeze; the share of a core that they took while they were not."""

    def done(lines: list[figures.Line]) -> bool:
        return any(line.event == "done" for line in lines[-2:])

    others = around(session, watch)
    began, used = time.monotonic(), cpu_s(others)
    deadline, spent = began + within_s, 0.0
    while not done(watch.look()):
        assert time.monotonic() < deadline, session.said()
        assert not session.ended(), session.said()
        others = around(session, watch)
        (out / "draft").write_text(" ".join(str(process.pid) for process in others))
        os.replace(out / "draft", out / "around")
        if figures.whole(watch.lines, 1) <= 2 * WARM_BLOCKS * BLOCK_STEPS:
            began, used = time.monotonic(), cpu_s(others)
        else:
            spent = (cpu_s(others) - used) / (time.monotonic() - began)
        time.sleep(LOOK_EVERY_S)
    return spent * 3 / 2  # a third of the time they were frozen


def around(session: sessions.Supervised, watch: sessions.Watch) -> list[psutil.Process]:
    """Supervisor and agents with their children, but for the ranks."""
    while not figures.whole(watch.look(), 1):
        time.sleep(0.05)
    ranks = {line.pid for line in watch.lines}
    roots = [session.lab.supervisor_pid(), *(agent.pid for agent in registry.agents(session.run, 1))]
    found = {
        process for root in roots for process in (psutil.Process(root), *psutil.Process(root).children(recursive=True))
    }
    return [process for process in found if process.pid not in ranks]


def cpu_s(processes: list[psutil.Process]) -> float:
    """Seconds of CPU that they, and children of theirs that ended, have used."""
    used = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            used += sum(process.cpu_times()[:4])
    return used
