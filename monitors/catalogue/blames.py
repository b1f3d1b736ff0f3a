"""Whose fault is an exception that a rank raised by itself? User code, unless its words say otherwise."""

from __future__ import annotations

import re
from dataclasses import dataclass

from monitors.incidents import Blame


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """One text, whose fault it tells of, and what it means."""

    pattern: re.Pattern[str]
    blame: Blame
    meaning: str


def _says(text: str, blame: Blame, meaning: str) -> Words:
    return Words(pattern=re.compile(text, re.IGNORECASE), blame=blame, meaning=meaning)


# First match wins, so a narrow text stands before a wide one.
BLAMES: tuple[Words, ...] = (
    _says(r"uncorrectable ECC|ECC error", Blame.HARDWARE, "the GPU's memory is broken"),
    _says(r"CUDA.*out of memory|CUDA error: out of memory", Blame.USER_CODE, "the model did not fit the GPU"),
    _says(r"device-side assert", Blame.USER_CODE, "a kernel's own check failed, mostly an index out of range"),
    _says(r"illegal memory access", Blame.UNKNOWN, "a kernel bug or broken GPU memory"),
    _says(r"GPU is lost|fallen off the bus", Blame.HARDWARE, "the GPU left the PCIe bus"),
    _says(r"unspecified launch failure|CUBLAS_STATUS_\w+|CUDNN_STATUS_\w+", Blame.UNKNOWN, "a kernel or a GPU failed"),
    _says(r"No CUDA GPUs are available|CUDA-capable device", Blame.HOST, "the node does not offer its GPUs"),
    _says(r"CUDA unknown error|CUDA driver", Blame.HOST, "the driver of the node is in trouble"),
    _says(r"status=12|IBV_WC_RETRY_EXC_ERR", Blame.NETWORK, "InfiniBand gave up resending"),
    _says(r"Network is unreachable|No route to host", Blame.NETWORK, "the node cannot reach the others"),
    _says(r"CUDA error", Blame.UNKNOWN, "a kernel or a GPU failed"),
    _says(r"No space left on device|Errno 28\b", Blame.STORAGE, "the disk is full"),
    _says(r"Disk quota exceeded|Errno 122\b", Blame.STORAGE, "the disk quota is used up"),
    _says(r"Input/output error|Errno 5\b", Blame.STORAGE, "the disk or its network failed"),
    _says(r"Stale file handle|Errno 116\b", Blame.STORAGE, "the file server forgot this file"),
    _says(r"Read-only file system|Errno 30\b", Blame.STORAGE, "the disk was set read-only, mostly after errors"),
    _says(r"PytorchStreamWriter failed|file write failed", Blame.STORAGE, "a file could not be written"),
    _says(r"PytorchStreamReader failed|weights only load failed", Blame.STORAGE, "a saved file is damaged"),
    _says(r"shared memory|Bus error", Blame.HOST, "/dev/shm of the node is full"),
    _says(r"DataLoader worker .*killed by signal", Blame.HOST, "the node ended a data loader, often for memory"),
    _says(r"can't allocate memory|Cannot allocate memory|Errno 12\b", Blame.HOST, "the node has no memory left"),
    _says(r"Too many open files|Errno 24\b", Blame.HOST, "the limit of open files of the node is reached"),
    _says(r"Address already in use|Errno 98\b", Blame.HOST, "the port was taken by another process"),
    _says(r"in DataLoader worker process|JSONDecodeError", Blame.DATA, "a sample could not be read"),
    _says(r"is not finite|returned nan values|inf grad norm|\bnan\b", Blame.NUMERICS, "numbers overflowed"),
)

KINDS: dict[str, tuple[Blame, str]] = {
    "MemoryError": (Blame.HOST, "the node has no memory left"),
    "json.decoder.JSONDecodeError": (Blame.DATA, "a sample could not be read"),
    "FloatingPointError": (Blame.NUMERICS, "numbers overflowed"),
    "lastgood.Drill": (Blame.USER_CODE, "a drill: the fault was injected on purpose"),
    "lastgood.faults.Drill": (Blame.USER_CODE, "a drill: the fault was injected on purpose"),
    "ModuleNotFoundError": (Blame.USER_CODE, "a module is not installed there"),
}
"""Exception classes that say it whatever their message."""


def blame(kind: str, message: str) -> tuple[Blame, str]:
    """Whose fault an exception is, and what its words mean (empty when they mean nothing to us)."""
    if kind in KINDS:
        return KINDS[kind]
    for words in BLAMES:
        if words.pattern.search(message):
            return words.blame, words.meaning
    return Blame.USER_CODE, ""
