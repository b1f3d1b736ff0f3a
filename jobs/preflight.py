"""How fast does this device multiply and copy? `python -P -m jobs.preflight [--cuda]` measures for a second and tells.

Lines of JSON on stdout: `{"begun": true}` when it goes to the device, then `{"tflops", "bandwidth_bytes_s"}`, or
`{"unable": why}` when it cannot be run, which is no fault of the device. Without `--cuda` it measures one core and its
path to memory, with it the first GPU that is visible. The numbers mean something only beside those of peers that ran
the same, so every device is given the same work, whatever it has room for.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monitors.clock import SystemClock
from monitors.sense.lifeline import end_with

if TYPE_CHECKING:
    import torch

SPAN_S = 0.4
"""for each of the two measures: some thousand kernels of a GPU, twenty products of one core"""
REPEATS_MIN = 5
CPU_SIZE, CPU_BYTES = 512, 64 << 20
"""64 MiB: more than a core's share of any last-level cache"""
CUDA_SIZE, CUDA_BYTES = 4096, 256 << 20
"""a product of a fifth of a millisecond, which ends before a GPU turns to its next process; 256 MiB are more than any
cache of it"""
CUDA_SHARE = 3
"""of the free memory a probe takes at most one part in so many: the rank beside it may ask for more"""
BATCH = 16
"""kernels that a GPU is given at once: one alone waits until the other processes had their turn"""

Work = Callable[[], object]


class Unable(Exception):
    """It cannot be measured here, and the device is not why."""


def main(words: list[str]) -> int:
    """Measure, and print."""
    if "--parent" in words and not end_with(int(words[words.index("--parent") + 1])):
        return 1
    with suppress(OSError):  # if memory runs out, this is what nobody will miss
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        tflops, bandwidth_bytes_s = _of_gpu() if "--cuda" in words else _of_core()
    except Unable as why:
        _say(unable=str(why))
        return 1
    _say(tflops=tflops, bandwidth_bytes_s=bandwidth_bytes_s)
    return 0


def _say(**body: object) -> None:
    print(json.dumps(body), flush=True)


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise Unable(f"torch cannot be imported: {error}") from error
    _say(begun=True)
    return torch


def _of_core() -> tuple[float, float]:
    torch = _torch()
    torch.set_num_threads(1)
    return _measured(*_tensors(torch.device("cpu"), CPU_SIZE, torch.float32, CPU_BYTES), _middle_s)


def _of_gpu() -> tuple[float, float]:
    torch = _torch()
    if not torch.cuda.is_available():
        raise Unable("torch sees no such GPU here")
    try:
        free, _ = torch.cuda.mem_get_info()
        if free < CUDA_SHARE * (6 * CUDA_SIZE**2 + 2 * CUDA_BYTES):
            raise Unable(f"only {free / 2**30:.1f} GiB of the GPU's memory are free")
        tensors = _tensors(torch.device("cuda", 0), CUDA_SIZE, torch.bfloat16, CUDA_BYTES)
    except RuntimeError as error:  # no context for a second process, or no memory: the rank has both
        raise Unable(str(error).strip().splitlines()[0]) from error
    return _measured(*tensors, _undisturbed_s)


def _tensors(device: torch.device, size: int, dtype: torch.dtype, count: int) -> tuple[list[Any], list[Any]]:
    """Two factors and their product; what is copied, and where to."""
    import torch

    left = torch.full((size, size), 0.5, dtype=dtype, device=device)
    right = torch.full((size, size), 0.25, dtype=dtype, device=device)
    source = torch.zeros(count, dtype=torch.uint8, device=device)
    return [left, right, torch.empty_like(left)], [source, torch.empty_like(source)]


def _measured(factors: list[Any], copied: list[Any], seconds: Callable[[Work], float]) -> tuple[float, float]:
    """Tflop/s of a square product, and bytes a second that a copy reads and writes."""
    import torch

    left, right, out = factors
    source, target = copied
    product_s = seconds(lambda: torch.mm(left, right, out=out))
    copy_s = seconds(lambda: target.copy_(source))
    return 2 * len(left) ** 3 / product_s / 1e12, 2 * len(source) / copy_s


def _middle_s(work: Work) -> float:
    """Median seconds of one run on a core: what is slow is slow each time, a neighbour's burst is not."""
    clock = SystemClock()

    def timed() -> list[float]:
        began = clock.now()
        work()
        return [clock.now() - began]

    took_s = sorted(_repeated(timed, clock))
    return took_s[len(took_s) // 2]


def _undisturbed_s(work: Work) -> float:
    """Seconds of one run on a GPU by its own clock: the lower quartile, for the rank there takes its turns between."""
    import torch

    event: Any = torch.cuda.Event

    def timed() -> list[float]:
        marks: list[Any] = [event(enable_timing=True) for _ in range(BATCH + 1)]
        marks[0].record()
        for mark in marks[1:]:
            work()
            mark.record()
        torch.cuda.synchronize()
        return [before.elapsed_time(after) / 1000 for before, after in pairwise(marks)]

    took_s = sorted(_repeated(timed, SystemClock()))
    return took_s[len(took_s) // 4]


def _repeated(timed: Callable[[], list[float]], clock: SystemClock) -> list[float]:
    for _ in range(2):  # caches, clocks, choice of kernel
        timed()
    took_s = list[float]()
    until = clock.now() + SPAN_S
    while len(took_s) < REPEATS_MIN or clock.now() < until:
        took_s += timed()
    return took_s


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
