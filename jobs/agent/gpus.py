"""Which GPU is a rank given? By the convention of all launchers: local rank i works on `cuda:i` of what it sees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

VISIBLE, ORDER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a rank finds; the fields are those of `monitors.signals.RankStarted`."""

    gpu: str | None
    gpus: tuple[str, ...] | None
    gpu_order: str


def given(env: Mapping[str, str], local_rank: int) -> Given:
    """What the rank with this environment may see, and what of it is its own."""
    order = env.get(ORDER, "").strip().upper()
    if VISIBLE not in env:
        return Given(gpu=str(local_rank), gpus=None, gpu_order=order)
    seen = tuple(_seen(env[VISIBLE]))
    if not seen:
        return Given(gpu="", gpus=(), gpu_order=order)
    # With more ranks than GPUs, each program shares them out in its own way.
    return Given(gpu=seen[local_rank] if local_rank < len(seen) else None, gpus=seen, gpu_order=order)


def _seen(visible: str) -> Iterator[str]:
    """CUDA takes the entries up to the first that means nothing: `0,1,-1,2` is two GPUs, `NoDevFiles` none."""
    for entry in map(str.strip, visible.split(",")):
        if entry.isascii() and entry.isdecimal():
            yield str(int(entry))
        elif entry.upper().startswith(("GPU-", "MIG-")):
            yield entry
        else:
            return
