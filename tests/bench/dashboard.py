"""What does the dashboard cost, and how soon does a viewer hear? 200 runs, one of 1,024 ranks, ten viewers.

A stand-in for the supervisor writes what 200 runs write (each a step a second, decided by the real core) and answers
what 1,024 ranks do; the server is the real one, in a process of its own. Latency is from the commit of an entry to the
arrival of its event at a viewer, on one machine's clock.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from orchestrator.home import Home
from tests.bench import figures

RUNS, RANKS, VIEWERS, SECONDS = 200, 1024, 10, 40.0
LATENCY_MS, CPU_PERCENT = "latency in ms, of 99 in 100", "CPU of the server in % of a core"
MOST = {LATENCY_MS: 100.0, CPU_PERCENT: 5.0}
TICKS = os.sysconf("SC_CLK_TCK")


def main(runs: int = RUNS, viewers: int = VIEWERS, seconds: float = SECONDS) -> bool:
    """Measure, print, and say whether the targets are met."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        home = Home(Path(folder) / "home")
        home.create()
        with _process("tests.bench.runs", str(home.root), str(runs), str(RANKS), "orchestrator.serve") as writer:
            _wait(home.root / "supervisor.json")
            with _process("orchestrator.api", "--home", str(home.root), "--port", "0") as server:
                _wait(home.root / "dashboard.address")
                found = asyncio.run(_measured(home, server.pid, writer.pid, viewers, seconds))
    print(json.dumps(found, indent=2))
    judged = {LATENCY_MS: found["latency_ms"]["p99"], CPU_PERCENT: 100 * found["server_cpu_share"]}
    missed = figures.above(judged, MOST, "")
    print(figures.verdict(missed))
    return not missed


@contextmanager
def _process(module: str, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-P", "-m", module, *words], env={**os.environ, "PYTHONPATH": "."})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _wait(path: Path) -> None:
    end = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < end, f"{path.name} does not come"
        time.sleep(0.05)


async def _measured(home: Home, server: int, writer: int, viewers: int, seconds: float) -> dict[str, Any]:
    url = json.loads((home.root / "dashboard.address").read_text())["url"]
    port = int(url.rstrip("/").rpartition(":")[2])
    heard: list[tuple[str, int, float]] = []
    counts: dict[str, int] = {}
    before = await _get(port, "/api/home")
    big = next(row["run"] for row in before["runs"] if row["ranks"] == RANKS)
    tasks = [
        asyncio.create_task(_view(port, f"/api/stream?run={big}&ranks=1" if n % 2 else "/api/stream", heard, counts))
        for n in range(viewers)
    ]
    await asyncio.sleep(15.0)  # the first pages of all viewers, and the first books of some runs, are over
    heard.clear()
    counts.clear()
    cpu, writer_cpu, began = _cpu_s(server), _cpu_s(writer), time.monotonic()
    await asyncio.sleep(seconds)
    spent, wall = _cpu_s(server) - cpu, time.monotonic() - began
    share = (_cpu_s(writer) - writer_cpu) / wall
    for task in tasks:
        task.cancel()
    committed = _committed(home.root / "committed")
    late = [at - committed[run, step] for run, step, at in heard if (run, step) in committed]
    cuts = quantiles(late, n=100)
    return {
        "runs": len(before["runs"]),
        "viewers": viewers,
        "events_heard": len(late),
        "by_name": counts,
        "latency_ms": {"p50": 1000 * median(late), "p99": 1000 * cuts[98], "max": 1000 * max(late)},
        "server_cpu_share": spent / wall,
        "writer_cpu_share": share,
        "server_rss_mib": _rss_mib(server),
    }


async def _get(port: int, path: str) -> dict[str, Any]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    body = (await reader.read()).partition(b"\r\n\r\n")[2]
    writer.close()
    found: dict[str, Any] = json.loads(body)
    return found


async def _view(port: int, path: str, heard: list[tuple[str, int, float]], counts: dict[str, int]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    name = ""
    while line := await reader.readline():
        if line.startswith(b"event: "):
            name = line[7:].strip().decode()
            counts[name] = counts.get(name, 0) + 1
        elif line.startswith(b"data: ") and name == "progress":
            now = time.time()
            heard += [(run, step, now) for run, step, *_ in json.loads(line[6:])["runs"]]
    writer.close()


def _committed(path: Path) -> dict[tuple[str, int], float]:
    found = {}
    for line in path.read_text().splitlines():
        run, step, at = line.split()
        found[run, int(step)] = float(at)
    return found


def _cpu_s(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / TICKS


def _rss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0
