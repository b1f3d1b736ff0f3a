"""Which last words of a rank mean that *another* rank died or stood still first?

A rank that says one of these is most likely a victim: its peer closed the connection because the peer was gone. The
texts are those of torch 2.13, gloo, NCCL 2.21+ and torch's TCPStore.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Symptom:
    """One text, and why whoever says it is not the culprit."""

    pattern: re.Pattern[str]
    why: str


def _says(text: str, why: str) -> Symptom:
    return Symptom(pattern=re.compile(text, re.IGNORECASE), why=why)


SYMPTOMS: tuple[Symptom, ...] = (
    _says(r"connection closed by (remote )?peer", "gloo and NCCL say so when the peer's process is gone"),
    _says(r"connection closed by localRank", "NCCL says so when a rank of the same node is gone"),
    _says(r"connection reset by peer", "the kernel of a dead peer answers so"),
    _says(r"broken pipe", "the peer closed its end before this rank wrote"),
    _says(r"remote process exited or there was a network error", "ncclRemoteError: the other side ended"),
    _says(r"ncclRemoteError", "NCCL blames the other side"),
    _says(r"NCCL communicator was aborted|ncclCommAbort", "somebody else ended the communicator"),
    _says(r"gloo connectFullMesh failed", "a peer was gone before the mesh was up"),
    _says(r"application timeout caused pair closure", "a peer stood still until gloo's timeout"),
    _says(r"timed out waiting|wait timeout after", "a peer never came"),
    _says(r"socket has timed out|socket timeout", "the store's host or a peer never answered"),
    _says(r"watchdog caught collective operation timeout", "a peer never joined the collective"),
    _says(r"collective timeout from rank", "another rank timed out and said so"),
    _says(r"failure detected by watchdog", "NCCL's watchdog passes on what happened elsewhere"),
    _says(r"detected by watchdog at work", "NCCL's watchdog passes on what happened elsewhere"),
    _says(r"watchdog got stuck", "NCCL's watchdog waited for a collective that never ended"),
    _says(r"to avoid data inconsistency, we are taking the entire process down", "follows a collective's timeout"),
    _says(r"failed to recv, got 0 bytes", "the store's host closed the connection"),
    _says(r"did the remote server shutdown or crash", "the store's host is gone"),
    _says(r"connection to the C10d store has failed", "the store's host is gone"),
    _says(r"TCPStore.*(failed|timeout|closed)", "the store's host is gone"),
    _says(r"store.*(timed out|timeout after)", "a key was waited for that a peer never wrote"),
    _says(r"rendezvous(Connection|Timeout|Closed)Error", "the others never came, or left"),
    _says(r"process group (has been|was) aborted", "somebody else ended the process group"),
    _says(r"connection refused", "nobody listens there any more"),
    _says(r"SignalException.*SIGTERM|received signal: 15", "somebody ended this rank because of another"),
)

KINDS: dict[str, str] = {
    "ConnectionResetError": "the kernel of a dead peer answers so",
    "ConnectionAbortedError": "the peer gave up the connection",
    "BrokenPipeError": "the peer closed its end before this rank wrote",
    "torch.distributed.DistNetworkError": "torch's store or a peer was not reachable",
    "torch.distributed.DistStoreError": "torch's store did not answer",
}
"""Exception classes that say the same whatever their message."""


def symptom(kind: str, message: str) -> str | None:
    """Why a failure with this exception class and message points at another rank; None when it does not."""
    if kind in KINDS:
        return KINDS[kind]
    return next((one.why for one in SYMPTOMS if one.pattern.search(message)), None)
