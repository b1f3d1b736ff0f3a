"""How does a rank tell where it is, for the price of a memory write?

One file of shared memory per rank and world, made by the agent, written by the rank alone (but for the control words,
which the agent alone writes), read by the agent at any time without a lock: a record is complete before `head` counts
it. The layout is the contract between any training process and any agent, little endian, version 1:

    0    magic 8s "LGPROG01"      8   u32 version        12  u32 records the ring holds
    16   u64 head: records ever written                  24  u64 bytes in the notes file
    32   i64 phase: index in PHASES                      40  i64 when the phase began, ns, monotonic
    48   i64 last finished step
    64   f64 x 16 seconds spent in each phase, the running one not counted
    256  i64 stop after this step, -1 for never          264 i64 number of the newest drill
    272  u64 where the second ring begins, 0: there is none; 280 u64 likewise the third
    288  i64 steps between durable saves, 0: as the rank was started with
    296  u64 index in SAVERS: whether the node has a saver (an older agent never has)
    304  i64 newest step that the saver saved             312  i64 newest step that it failed to save; -1 for none, each
    320  why that failed: u32 length, then UTF-8
    1352 u64 1 once the rank has opened this file: it uses the SDK (an older one never says so)
    4096 the ring: RECORD x capacity, then the second ring: OWN x capacity, the same steps in the same slots, the third

The second and the third ring came later: an older agent makes none, an older training process writes none, and what
they would hold then counts as not reported. Control words that came later are 0 until an agent that knows them writes.

The monotonic clock is one for all processes of a host (Linux), so the agent can compare it with its own.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from dataclasses import dataclass

MAGIC = b"LGPROG01"
VERSION = 1
PHASES = ("starting", "restoring", "step", "save", "eval", "data", "done")
"""Index in the file; append only."""
SAVERS = ("none", "starting", "there")
"""Index in the file; append only."""
HEADER_BYTES = 4096
CAPACITY = 2048
"""A full ring is 128 KiB: at 1 ms a step the agent may be away for 2 s before a loss value is overwritten."""
RECORD = struct.Struct("<qqdddddd")
"""step, data index, time of finishing (epoch seconds), loss, gradient norm, learning rate, tokens, step seconds"""
OWN = struct.Struct("<ddd")
"""of this rank alone: loss, gradient norm, seconds of the step in which it waited for its device"""
SCALE = struct.Struct("<d")
"""loss scale"""

_HEAD = struct.Struct("<Q")
_I64 = struct.Struct("<q")
_PHASE = struct.Struct("<qq")
_SPENT = struct.Struct("<16d")
_AT_HEAD, _AT_NOTES, _AT_PHASE, _AT_STEP, _AT_SPENT, _AT_STOP, _AT_DRILL = 16, 24, 32, 48, 64, 256, 264
_AT_SAVE_EVERY = 288
_AT_OWN, _AT_SCALE = 272, 280
"""where the second and the third ring begin; 0 in the file of an older agent, which has none"""
_AT_SAVER, _AT_SAVED, _AT_UNSAVED, _AT_WHY = 296, 304, 312, 320
_AT_SPEAKS = 1352
_LENGTH = struct.Struct("<I")
_WHY_BYTES = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One look at a rank."""

    head: int
    notes: int
    phase: str
    phase_since_s: float
    """monotonic seconds"""
    phase_for_s: float
    """how long it has been in it"""
    step: int
    spent_s: tuple[float, ...]
    """per phase in the order of PHASES, the running phase counted up to the look"""
    speaks: bool
    """it opened the file"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One finished step; None where the training code reported nothing (which a NaN of the model is not)."""

    step: int
    data_index: int
    at: float
    loss: float | None
    grad_norm: float | None
    lr: float | None
    tokens: float | None
    step_s: float
    local_loss: float | None = None
    local_grad_norm: float | None = None
    waited_s: float = 0.0
    """of the step: for the device, while a reported tensor was read"""
    loss_scale: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """What became of the saves that the node's saver makes, in this world."""

    step: int = -1
    """newest that was saved, -1 for none"""
    failed_step: int = -1
    """newest that was not, although it was tried"""
    why: str = ""
    """that one failed"""


def create(path: str, capacity: int = CAPACITY) -> None:
    """Make an empty progress file (the agent does, before the rank starts)."""
    own = HEADER_BYTES + capacity * RECORD.size
    scale = own + capacity * OWN.size
    body = bytearray(own) + bytearray(OWN.pack(_MISSING, _MISSING, 0.0) * capacity)
    body += bytearray(SCALE.pack(_MISSING) * capacity)
    body[0:8] = MAGIC
    _HEAD.pack_into(body, _AT_OWN, own)
    _HEAD.pack_into(body, _AT_SCALE, scale)
    struct.pack_into("<II", body, 8, VERSION, capacity)
    for at in (_AT_STOP, _AT_SAVED, _AT_UNSAVED):
        _I64.pack_into(body, at, -1)
    _PHASE.pack_into(body, _AT_PHASE, 0, time.monotonic_ns())
    with open(path, "wb") as file:
        file.write(body)


def _open(path: str, *, write: bool) -> tuple[mmap.mmap, int]:
    fd = os.open(path, os.O_RDWR if write else os.O_RDONLY)
    try:
        memory = mmap.mmap(fd, 0, access=mmap.ACCESS_WRITE if write else mmap.ACCESS_READ)
    finally:
        os.close(fd)
    version, capacity = struct.unpack_from("<II", memory, 8)
    if memory[0:8] != MAGIC or version != VERSION:
        raise ValueError(f"{path} is not a progress file of version {VERSION}")
    return memory, capacity


# A missing value must differ from a NaN that the model produced, so "not reported" is a NaN with a payload of its own.
_MISSING_BITS = 0x7FF8_0000_0000_4C47
_MISSING = struct.unpack("<d", struct.pack("<Q", _MISSING_BITS))[0]


def _read_value(memory: mmap.mmap, at: int) -> float | None:
    bits = struct.unpack_from("<Q", memory, at)[0]
    return None if bits == _MISSING_BITS else struct.unpack_from("<d", memory, at)[0]


class Writer:
    """The rank's side. Not thread-safe: one training thread writes."""

    def __init__(self, path: str) -> None:
        self._memory, self._capacity = _open(path, write=True)
        self._own = int(_HEAD.unpack_from(self._memory, _AT_OWN)[0])
        self._scale = int(_HEAD.unpack_from(self._memory, _AT_SCALE)[0])
        self._head = _HEAD.unpack_from(self._memory, _AT_HEAD)[0]
        self._spent = list(_SPENT.unpack_from(self._memory, _AT_SPENT))
        self._phase, self._since_ns = _PHASE.unpack_from(self._memory, _AT_PHASE)
        _HEAD.pack_into(self._memory, _AT_SPEAKS, 1)

    def phase(self, phase: str) -> None:
        """Enter a phase; the time since the last change goes to the phase that ends."""
        now = time.monotonic_ns()
        self._spent[self._phase] += (now - self._since_ns) * 1e-9
        _SPENT.pack_into(self._memory, _AT_SPENT, *self._spent)
        self._phase, self._since_ns = PHASES.index(phase), now
        _PHASE.pack_into(self._memory, _AT_PHASE, self._phase, now)

    def row(  # noqa: PLR0917 - called once a step: positions are cheaper than keywords
        self,
        step: int,
        data_index: int,
        loss: float | None,
        grad_norm: float | None,
        lr: float | None,
        tokens: float | None,
        step_s: float,
        local_loss: float | None = None,
        local_grad_norm: float | None = None,
        waited_s: float = 0.0,
        loss_scale: float | None = None,
    ) -> None:
        """Write one finished step; the counters move after the record is whole."""
        slot = self._head % self._capacity
        if self._own:
            OWN.pack_into(
                self._memory,
                self._own + slot * OWN.size,
                _MISSING if local_loss is None else local_loss,
                _MISSING if local_grad_norm is None else local_grad_norm,
                waited_s,
            )
        if self._scale:
            at = self._scale + slot * SCALE.size
            SCALE.pack_into(self._memory, at, _MISSING if loss_scale is None else loss_scale)
        at = HEADER_BYTES + slot * RECORD.size
        RECORD.pack_into(
            self._memory,
            at,
            step,
            data_index,
            time.time(),
            _MISSING if loss is None else loss,
            _MISSING if grad_norm is None else grad_norm,
            _MISSING if lr is None else lr,
            _MISSING if tokens is None else tokens,
            step_s,
        )
        self._head += 1
        _HEAD.pack_into(self._memory, _AT_HEAD, self._head)
        _I64.pack_into(self._memory, _AT_STEP, step)

    def stands_at(self, step: int) -> None:
        """Set the last finished step without a row: after a restore."""
        _I64.pack_into(self._memory, _AT_STEP, step)

    def noted(self, notes_bytes: int) -> None:
        """Tell the agent how long the notes file is now."""
        _HEAD.pack_into(self._memory, _AT_NOTES, notes_bytes)

    def stop_after(self) -> int:
        """The step after which to save and end, -1 for never."""
        return int(_I64.unpack_from(self._memory, _AT_STOP)[0])

    def save_every(self) -> int:
        """Steps that should lie between durable saves, 0 when nobody has said."""
        return int(_I64.unpack_from(self._memory, _AT_SAVE_EVERY)[0])

    def drill(self) -> int:
        """Number of the newest drill that the agent ordered, 0 for none."""
        return int(_I64.unpack_from(self._memory, _AT_DRILL)[0])

    def saver(self) -> str:
        """Whether the node has a saver: one of SAVERS."""
        return SAVERS[_HEAD.unpack_from(self._memory, _AT_SAVER)[0]]

    def saved(self) -> Saved:
        """What the saver has done so far."""
        failed = _I64.unpack_from(self._memory, _AT_UNSAVED)[0]
        length = min(_WHY_BYTES, _LENGTH.unpack_from(self._memory, _AT_WHY)[0])
        at = _AT_WHY + _LENGTH.size
        why = self._memory[at : at + length].decode(errors="replace") if failed >= 0 else ""
        return Saved(step=_I64.unpack_from(self._memory, _AT_SAVED)[0], failed_step=failed, why=why)


class Reader:
    """The agent's side."""

    def __init__(self, path: str) -> None:
        self._memory, self._capacity = _open(path, write=True)
        self._own = int(_HEAD.unpack_from(self._memory, _AT_OWN)[0])
        self._scale = int(_HEAD.unpack_from(self._memory, _AT_SCALE)[0])

    def look(self) -> Standing:
        """Where the rank is now."""
        phase, since_ns = _PHASE.unpack_from(self._memory, _AT_PHASE)
        spent = list(_SPENT.unpack_from(self._memory, _AT_SPENT))[: len(PHASES)]
        phase_for_s = max(0.0, (time.monotonic_ns() - since_ns) * 1e-9)
        spent[phase] += phase_for_s
        return Standing(
            head=_HEAD.unpack_from(self._memory, _AT_HEAD)[0],
            notes=_HEAD.unpack_from(self._memory, _AT_NOTES)[0],
            phase=PHASES[phase],
            phase_since_s=since_ns * 1e-9,
            phase_for_s=phase_for_s,
            step=_I64.unpack_from(self._memory, _AT_STEP)[0],
            spent_s=tuple(spent),
            speaks=_HEAD.unpack_from(self._memory, _AT_SPEAKS)[0] == 1,
        )

    def newest(self) -> float:
        """When the newest row was finished, epoch seconds; 0 while there is none. Nearly free."""
        head = int(_HEAD.unpack_from(self._memory, _AT_HEAD)[0])
        slot = (head - 1) % self._capacity
        return RECORD.unpack_from(self._memory, HEADER_BYTES + slot * RECORD.size)[2] if head else 0.0

    def rows(self, since: int) -> tuple[int, list[Row]]:
        """The rows after the first `since`, and the new count; rows that were overwritten meanwhile are left out."""
        head = int(_HEAD.unpack_from(self._memory, _AT_HEAD)[0])
        # One slot is left out: the writer may be filling it right now.
        oldest = max(since, head - self._capacity + 1)
        return head, [self._row(number) for number in range(oldest, head)]

    def _row(self, number: int) -> Row:
        slot = number % self._capacity
        at, own = HEADER_BYTES + slot * RECORD.size, self._own + slot * OWN.size
        step, data_index, finished, _, _, _, _, step_s = RECORD.unpack_from(self._memory, at)
        loss, grad_norm, lr, tokens = (_read_value(self._memory, at + 24 + 8 * i) for i in range(4))
        local = [_read_value(self._memory, own + 8 * i) if self._own else None for i in range(3)]
        return Row(
            step=step,
            data_index=data_index,
            at=finished,
            loss=loss,
            grad_norm=grad_norm,
            lr=lr,
            tokens=tokens,
            step_s=step_s,
            local_loss=local[0],
            local_grad_norm=local[1],
            waited_s=local[2] or 0.0,
            loss_scale=_read_value(self._memory, self._scale + slot * SCALE.size) if self._scale else None,
        )

    def order_stop_after(self, step: int) -> None:
        """Ask the rank to save and end after `step`."""
        _I64.pack_into(self._memory, _AT_STOP, step)

    def order_save_every(self, steps: int) -> None:
        """Tell the rank how many steps should lie between durable saves; rank 0's word counts."""
        _I64.pack_into(self._memory, _AT_SAVE_EVERY, steps)

    def order_drill(self, number: int) -> None:
        """Tell the rank that drill `number` lies in its drill file."""
        _I64.pack_into(self._memory, _AT_DRILL, number)

    def tell_saver(self, saver: str) -> None:
        """Whether copies in memory will be written: one of SAVERS."""
        _HEAD.pack_into(self._memory, _AT_SAVER, SAVERS.index(saver))

    def tell_saved(self, saved: Saved) -> None:
        """What became of saves; the reason stands there before the step that it is of."""
        why = saved.why.encode()[:_WHY_BYTES]
        _LENGTH.pack_into(self._memory, _AT_WHY, len(why))
        self._memory[_AT_WHY + _LENGTH.size : _AT_WHY + _LENGTH.size + len(why)] = why
        _I64.pack_into(self._memory, _AT_UNSAVED, saved.failed_step)
        _I64.pack_into(self._memory, _AT_SAVED, saved.step)

    def close(self) -> None:
        """Unmap; the file itself is the agent's to remove."""
        self._memory.close()
