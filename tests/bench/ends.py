"""How long does a killed process take to be known as ended? `python -m tests.bench ends`

By the lock that a rank holds for its agent (`lastgood.tether`), beside its pidfd, which speaks when all of its memory
has been taken down.
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import sys
import time

from jobs.agent.child import Child, Exit
from tests.bench import figures

SIZES_MB = (100, 1000, 4000)
TRIALS = 5
TOLD_MS = 20.0
"""at most, in the median, whatever the size: some milliseconds, where a pidfd takes 40 for each gigabyte"""
PROGRAM = """
import os, sys, time
from lastgood import tether
tether.hold(os.environ)
much = b"1" * (int(sys.argv[1]) << 20)
os.write(1, b"1")
time.sleep(600)
"""


async def _kill(size_mb: int) -> tuple[float, float]:
    """Seconds until its end is told, and until it is gone."""
    reading, writing = os.pipe()
    told: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def hear(_how: Exit) -> None:
        told.set_result(time.monotonic())

    with os.fdopen(writing, "wb") as out:
        argv = (sys.executable, "-P", "-c", PROGRAM, str(size_mb))
        child = Child(argv, hear, stdout=out, tethered=True)
    with os.fdopen(reading, "rb") as said:
        await asyncio.to_thread(said.read, 1)
    began = time.monotonic()
    os.kill(child.pid, signal.SIGKILL)
    await child.gone.wait()
    return await told - began, time.monotonic() - began


async def _measure(size_mb: int) -> float:
    """Milliseconds until an end is told, in the median."""
    ends = [await _kill(size_mb) for _ in range(TRIALS)]
    told, gone = (sorted(seconds) for seconds in zip(*ends, strict=True))
    print(
        f"{size_mb:5d} MB: told after {1e3 * statistics.median(told):6.1f} ms [{1e3 * told[0]:.1f}], "
        f"gone after {1e3 * statistics.median(gone):6.1f} ms [{1e3 * gone[0]:.1f}], median [minimum] of {TRIALS}"
    )
    return 1e3 * statistics.median(told)


def main() -> bool:
    """Whether the target is met; sizes that this machine has no room for are left out."""
    room_mb = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    sizes = [size_mb for size_mb in SIZES_MB if size_mb < room_mb / 2]
    told = {f"an end with {size_mb} MB": asyncio.run(_measure(size_mb)) for size_mb in sizes}
    missed = figures.above(told, dict.fromkeys(told, TOLD_MS), " ms until it is told")
    print(figures.verdict(missed))
    return not missed


if __name__ == "__main__":
    main()
