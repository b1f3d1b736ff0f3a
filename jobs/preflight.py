"""How fast does this device multiply and copy? `python -P -m jobs.preflight [--cuda]` measures for a second and tells.

One line of JSON on stdout: `{"tflops", "bandwidth_bytes_s"}`. Without `--cuda` it measures one core and its path to
memory, with it the first GPU that is visible. The numbers mean something only beside those of peers that ran the same.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING

from monitors.clock import SystemClock

if TYPE_CHECKING:
    import torch

SPAN_S = 0.4
"""for each of the two measures: some hundred kernels of a GPU, twenty products of one core"""
REPEATS_MIN = 5
CPU_SIZE, CPU_BYTES = 512, 64 << 20
"""64 MiB: more than a core's share of any last-level cache"""
CUDA_SIZES, CUDA_BYTES = (8192, 4096, 2048), 1 << 30
"""the largest that the memory has room for beside whoever trains there"""


def main(words: list[str]) -> int:
    """Measure, and print."""
    cuda = "--cuda" in words
    tflops, bandwidth_bytes_s = _of_gpu() if cuda else _of_core()
    print(json.dumps({"tflops": tflops, "bandwidth_bytes_s": bandwidth_bytes_s}))
    return 0


def _of_core() -> tuple[float, float]:
    import torch

    torch.set_num_threads(1)
    device = torch.device("cpu")
    return _measured(device, CPU_SIZE, torch.float32, CPU_BYTES, lambda: None)


def _of_gpu() -> tuple[float, float]:
    import torch

    device = torch.device("cuda", 0)
    for size in CUDA_SIZES:
        try:
            return _measured(device, size, torch.bfloat16, CUDA_BYTES * size // CUDA_SIZES[0], torch.cuda.synchronize)
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
    raise MemoryError(f"the GPU has no room for a product of {CUDA_SIZES[-1]} x {CUDA_SIZES[-1]}")


def _measured(
    device: torch.device, size: int, dtype: torch.dtype, count: int, wait: Callable[[], object]
) -> tuple[float, float]:
    """Tflop/s of a square product, and bytes a second that a copy reads and writes."""
    import torch

    left = torch.full((size, size), 0.5, dtype=dtype, device=device)
    right = torch.full((size, size), 0.25, dtype=dtype, device=device)
    out = torch.empty_like(left)
    product_s = _middle_s(lambda: torch.mm(left, right, out=out), wait)
    source = torch.zeros(count, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy_s = _middle_s(lambda: target.copy_(source), wait)
    return 2 * size**3 / product_s / 1e12, 2 * count / copy_s


def _middle_s(work: Callable[[], object], wait: Callable[[], object]) -> float:
    """Median seconds of one run: what is slow is slow each time, a neighbour's burst is not."""
    for _ in range(2):  # caches, clocks, choice of kernel
        work()
    wait()
    clock, took_s = SystemClock(), list[float]()
    until = clock.now() + SPAN_S
    while len(took_s) < REPEATS_MIN or clock.now() < until:
        began = clock.now()
        work()
        wait()
        took_s.append(clock.now() - began)
    return median(took_s)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
