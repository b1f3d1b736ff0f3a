"""What does being supervised cost a step of about 100 ms? With and without, in turns, inside one run.

Blocks with: training through the SDK, agent, senses and supervisor at work. Blocks without: as many steps of the same
training inside one step of the SDK, while everything of lastgood outside the ranks is frozen (SIGSTOP). Each block
without is held against the mean of its two neighbours, so that a machine that gets slower favours neither.
"""

from __future__ import annotations

import os
import signal
import statistics
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from jobs import registry
from tests.bench import figures, sessions
from tests.bench.peers import JOB

BLOCK_STEPS = 100
"""10 s: long beside a save, whose writing may reach into a block without"""
WITHIN_S = 240.0
LOOK_EVERY_S = 0.05
"""what looks takes time from the ranks, with and without"""


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
    until = blocks * BLOCK_STEPS

    def done(lines: list[figures.Line]) -> bool:
        return any(line.event == "done" for line in lines[-2:])

    with tempfile.TemporaryDirectory(prefix="lastgood-bench-") as folder:
        out = Path(folder)
        words = (str(JOB), "--out", folder, "--until", str(until), "--by", "lastgood", "--block", str(BLOCK_STEPS))
        session = sessions.Supervised(words, out, checkpoint=setting.checkpoint)
        watch = sessions.Watch(out)
        try:
            spent = [without(session, watch, out) for _ in range(blocks)]
            assert watch.wait(done, within_s=WITHIN_S, session=session, every_s=LOOK_EVERY_S), session.said()
        finally:
            session.close()
    # The first two blocks warm up what is slow the first time: the first save, the cost of a copy that is measured.
    found = figures.blocks(watch.lines)[2:]
    shares = figures.overhead(found)
    bare_s = statistics.median(step_s for kind, step_s in found if kind == "without")
    share = statistics.median(shares)
    met = share < setting.wanted
    print(
        f"{setting.title}: {share:+.2%} of a step of {1e3 * bare_s:.0f} ms "
        f"({len(shares)} blocks, {min(shares):+.2%} to {max(shares):+.2%}), wanted < {setting.wanted:.1%}; "
        f"agent, senses and supervisor took {statistics.median(spent):.2%} of a core, load {os.getloadavg()[0]:.1f}",
        flush=True,
    )
    return met


def without(session: sessions.Supervised, watch: sessions.Watch, out: Path) -> float:
    """Freeze what is not a rank while the job trains alone; the share of a core that it took since it was thawed."""

    def next_(event: str) -> bool:
        seen = len(watch.look())

        def there(lines: list[figures.Line]) -> bool:
            return any(line.event == event and line.rank == 0 for line in lines[seen:])

        return watch.wait(there, within_s=WITHIN_S, session=session, every_s=LOOK_EVERY_S)

    began, used = time.monotonic(), cpu_s(around(session, watch))
    assert next_("bare"), session.said()
    others = around(session, watch)
    share = (cpu_s(others) - used) / (time.monotonic() - began)
    signalled(others, signal.SIGSTOP)
    (out / "frozen").touch()
    try:
        ended = next_("supervised")
    finally:
        (out / "frozen").unlink()
        signalled(others, signal.SIGCONT)
    assert ended, session.said()
    return share


def signalled(processes: Iterable[psutil.Process], number: int) -> None:
    """Send it to those that are still there: some only read a checkpoint back."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


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


def cpu_s(processes: Iterable[psutil.Process]) -> float:
    """Seconds of CPU that they, and children of theirs that ended, have used."""
    used = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            used += sum(process.cpu_times()[:4])
    return used
