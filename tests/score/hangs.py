"""Who holds up a world of gloo ranks? Hangs of real processes, generated from one seed, named from their own records.

A case is a layout of 2 to 8 ranks over data, tensor and pipeline groups, a program of collectives that every rank goes
through step by step, and one victim that goes wrong once. The ranks are forked from a process that has imported torch,
come to a stop, are asked for their flight recorders through the same pipe as in a run, and
`monitors.detect.collectives` names one of them. A mismatch that gloo notices by itself ends in an error, not in a
hang: the next case takes its place.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import mmap
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import count, product
from pathlib import Path
from typing import Any

from lastgood import recorder
from monitors.detect.collectives import blocked
from monitors.sense import flight_recorder
from monitors.signals import CollectivesLooked
from tests.score.rows import Row

CASES = 100
SEED = 20261122
TARGET = 0.98
KINDS = ("absent", "data", "spin", "stop", "gil", "order", "size", "op")
SHAPES = ((2, 1, 1), (1, 2, 1), (3, 1, 1), (2, 2, 1), (2, 1, 2), (1, 2, 2), (1, 4, 1), (5, 1, 1), (3, 2, 1), (1, 2, 3))
SHAPES += ((6, 1, 1), (7, 1, 1), (2, 2, 2), (4, 2, 1), (2, 4, 1), (1, 4, 2), (2, 1, 4))
SETTLED_S, STUCK_WITHIN_S, POLL_S = 0.25, 20.0, 0.02
ENDED_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One call of every step."""

    name: str
    axis: str
    """which of a rank's groups: world, dp, tp, pp"""
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What one world does, and what goes wrong in it."""

    kind: str
    shape: tuple[int, int, int]
    """ranks along dp, tp and pp"""
    program: tuple[Op, ...]
    steps: int
    """healthy ones"""
    victim: int
    at: int
    """index of the call that goes wrong"""
    local_names: bool
    """groups are made by their members alone"""

    @property
    def ranks(self) -> int:
        return self.shape[0] * self.shape[1] * self.shape[2]

    def groups(self) -> dict[str, list[list[int]]]:
        """Ranks of every group, by axis."""
        places = list(product(*map(range, self.shape)))
        found: dict[str, list[list[int]]] = {"world": [list(range(self.ranks))]}
        for axis, name in enumerate(("dp", "tp", "pp")):
            lines: dict[tuple[int, ...], list[int]] = {}
            for rank, place in enumerate(places):
                lines.setdefault(place[:axis] + place[axis + 1 :], []).append(rank)
            if self.shape[axis] > 1:
                found[name] = list(lines.values())
        return found


def generated(draw: random.Random, kind: str) -> Case:
    """A case of this kind in which the fault must stop everybody."""
    while True:
        shape = draw.choice(SHAPES)
        axes = ["world", *(name for name, length in zip(("dp", "tp", "pp"), shape, strict=True) if length > 1)]
        body = [_op(draw, draw.choice(axes)) for _ in range(draw.randint(3, 7))]
        program = (*body, Op(name="all_reduce", axis="world", size=draw.randint(1, 64)))
        case = Case(
            kind=kind,
            shape=shape,
            program=program,
            steps=draw.randint(3, 6),
            victim=draw.randrange(shape[0] * shape[1] * shape[2]),
            at=draw.randrange(len(program)),
            local_names=draw.random() < 0.5,
        )
        if fits(case):
            return case


def _op(draw: random.Random, axis: str) -> Op:
    name = draw.choice(("all_reduce", "all_reduce", "all_gather", "broadcast", "reduce_scatter", "barrier"))
    return Op(name="pipe" if axis == "pp" and draw.random() < 0.7 else name, axis=axis, size=draw.randint(1, 64))


def fits(case: Case) -> bool:
    """Whether this fault can happen there, and stops everybody."""
    op = case.program[case.at]
    if case.kind == "size":
        return op.name == "all_reduce"
    if case.kind == "op":
        return op.name in ("all_reduce", "all_gather", "broadcast", "reduce_scatter")
    if case.kind != "order":
        return True
    if case.at + 1 == len(case.program) or "pipe" in (op.name, case.program[case.at + 1].name):
        return False
    # Another rank must be in both groups, or the two calls can be made in either order.
    mine, next_one = (_group(case, case.program[case.at + i].axis) for i in (0, 1))
    symmetric = {"all_reduce", "all_gather", "barrier", "reduce_scatter"}  # a broadcast ends without its receivers
    both = {op.name, case.program[case.at + 1].name} <= symmetric
    return (
        both and op.axis != case.program[case.at + 1].axis and mine != next_one and len(set(mine) & set(next_one)) > 1
    )


def _group(case: Case, axis: str) -> list[int]:
    return next(ranks for ranks in case.groups()[axis] if case.victim in ranks)


class Ledger:
    """How far each rank is, in memory that the ranks share; -1: it raised."""

    def __init__(self, ranks: int) -> None:
        self._memory = mmap.mmap(-1, 8 * ranks)
        self._ranks = ranks

    def count(self, rank: int, value: int) -> None:
        """Write how many calls a rank has begun."""
        struct.pack_into("q", self._memory, 8 * rank, value)

    def read(self) -> tuple[int, ...]:
        """Of all ranks."""
        return struct.unpack_from(f"{self._ranks}q", self._memory)


class Rank:
    """One rank, in a process of its own."""

    def __init__(self, case: Case, rank: int, folder: Path, ledger: Ledger) -> None:
        import torch
        import torch.distributed as dist

        self.case, self.rank, self.ledger = case, rank, ledger
        self.torch, self.dist = torch, dist
        torch.set_num_threads(1)
        store = dist.FileStore(str(folder / "store"), case.ranks)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=case.ranks)
        self.groups: dict[str, Any] = {"world": dist.group.WORLD}
        self.members: dict[str, list[int]] = {"world": list(range(case.ranks))}
        for axis, lines in case.groups().items():
            for ranks in lines if axis != "world" else ():
                if case.local_names and rank not in ranks:
                    continue
                group = dist.new_group(ranks, group_desc=axis, use_local_synchronization=case.local_names)
                if rank in ranks:
                    self.groups[axis], self.members[axis] = group, ranks
        self.begun = 0

    def train(self) -> None:
        """Steps for ever, healthy ones at first."""
        for step in count():
            program = list(self.case.program)
            at = self.case.at
            if step == self.case.steps and self.rank == self.case.victim:
                if self.case.kind == "data":
                    self.load_batch()
                elif self.case.kind == "order":
                    program[at], program[at + 1] = program[at + 1], program[at]
            for index, op in enumerate(program):
                self.ledger.count(self.rank, self.begun)
                goes_wrong = step == self.case.steps and self.rank == self.case.victim and index == at
                self.wrong(op) if goes_wrong else self.call(op.name, op.axis, op.size)
                self.begun += 1

    def load_batch(self) -> None:
        """The file server is gone."""
        time.sleep(3600)

    def wrong(self, op: Op) -> None:
        """What the victim does instead of a call."""
        match self.case.kind:
            case "absent":
                time.sleep(3600)
            case "spin":
                while True:
                    pass
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "gil":
                ctypes.PyDLL(None).sleep(3600)
            case "size":
                self.call(op.name, op.axis, op.size + 5)
            case "op":
                self.call("barrier" if op.name != "all_reduce" else "broadcast", op.axis, op.size)
            case _:
                self.call(op.name, op.axis, op.size)

    def call(self, name: str, axis: str, size: int) -> None:
        """One collective, or the passing on of activations along a pipeline."""
        dist, ones = self.dist, self.torch.ones
        group, ranks = self.groups[axis], self.members[axis]
        match name:
            case "all_reduce":
                dist.all_reduce(ones(size), group=group)
            case "all_gather":
                dist.all_gather([ones(size) for _ in ranks], ones(size), group=group)
            case "broadcast":
                dist.broadcast(ones(size), src=ranks[0], group=group)
            case "reduce_scatter":
                dist.reduce_scatter(ones(size), [ones(size) for _ in ranks], group=group)
            case "barrier":
                dist.barrier(group=group)
            case _:
                stage = ranks.index(self.rank)
                if stage > 0:
                    dist.recv(ones(size), src=ranks[stage - 1], group=group)
                if stage + 1 < len(ranks):
                    dist.send(ones(size), dst=ranks[stage + 1], group=group)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was concluded about one case."""

    kind: str
    ranks: int
    victim: int
    named: int | None
    confidence: float
    diverged: bool
    """it was told as a divergence of the code"""
    next_best: int | None
    evidence: tuple[str, ...]

    @property
    def right(self) -> bool:
        return self.named == self.victim


def _become(case: Case, rank: int, folder: Path, ledger: Ledger) -> None:
    """In a forked child: be a rank. Never returns."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    with (folder / "output").open("ab") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    try:
        (folder / str(rank)).mkdir()
        recorder.answer_in(folder / str(rank))
        Rank(case, rank, folder, ledger).train()
    finally:
        ledger.count(rank, -1)
        os._exit(1)


def played(case: Case) -> Outcome | None:
    """Let the world hang and name the culprit; None when an error ended it instead."""
    folder = Path(tempfile.mkdtemp(prefix="hang"))
    ledger = Ledger(case.ranks)
    children = []
    try:
        for rank in range(case.ranks):
            pid = os.fork()
            if pid == 0:
                _become(case, rank, folder, ledger)
            children.append(pid)
        return _judged(case, folder) if _settled(case, ledger, children) else None
    finally:
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        shutil.rmtree(folder, ignore_errors=True)


def _settled(case: Case, ledger: Ledger, children: list[int]) -> bool:
    """Wait until nobody moves any more; False when a rank raised or died."""
    began = still_since = time.monotonic()
    before: tuple[int, ...] = ()
    least = case.steps * len(case.program)
    while time.monotonic() - began < STUCK_WITHIN_S:
        now = ledger.read()
        if min(now) < 0 or any(os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) for pid in children):
            return False
        if now != before or min(now) < least - 1:
            before, still_since = now, time.monotonic()
        if time.monotonic() - still_since > SETTLED_S:
            return True
        time.sleep(POLL_S)
    raise AssertionError(f"{case} does not hang: {ledger.read()}")


def _judged(case: Case, folder: Path) -> Outcome:
    looks = asyncio.run(_asked(case, folder))
    found = blocked(looks, range(case.ranks))
    return Outcome(
        kind=case.kind,
        ranks=case.ranks,
        victim=case.victim,
        named=None if found is None else found.rank,
        confidence=0.0 if found is None else found.confidence,
        diverged=found is not None and bool(found.call),
        next_best=None if found is None else found.next_best,
        evidence=() if found is None else found.evidence,
    )


async def _asked(case: Case, folder: Path) -> Mapping[int, CollectivesLooked]:
    places = [
        flight_recorder.Where(node=0, world=1, rank=rank, folder=folder / str(rank)) for rank in range(case.ranks)
    ]
    dumps = await asyncio.gather(*(flight_recorder.look(time.time(), where) for where in places))
    return {
        where.rank: flight_recorder.looked(0.0, where, dump)
        for where, dump in zip(places, dumps, strict=True)
        if dump is not None
    }


def outcomes(cases: int, seed: int) -> Iterator[Outcome]:
    """As many hangs as asked for, the kinds in turn."""
    import torch.distributed  # noqa: F401 - once here, and not in every rank

    draw = random.Random(seed)
    for number in range(cases):
        kind = KINDS[number % len(KINDS)]
        outcome = None
        while outcome is None:
            outcome = played(generated(draw, kind))
        yield outcome


def score(folder: Path) -> list[Row]:  # noqa: ARG001 - every family has it
    """Rows by kind of hang, and all of them; in a process of its own, which forks before it has threads."""
    words = [sys.executable, "-m", "tests.score.hangs", str(CASES), str(SEED)]
    ended = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    found = [Outcome(**json.loads(line)) for line in ended.stdout.splitlines()]
    for outcome in found:
        if not outcome.right:
            print(f"hangs: wrong: {outcome}", file=sys.stderr)
    rows = [_row(kind, [o for o in found if o.kind == kind]) for kind in KINDS]
    return [*rows, _row("all", found, target=f"culprit right in ≥ {TARGET}")]


def _row(what: str, found: list[Outcome], *, target: str = "") -> Row:
    named = [outcome for outcome in found if outcome.named is not None]
    right = sum(outcome.right for outcome in found)
    split = [outcome for outcome in found if outcome.kind in ("size", "op")]
    more: dict[str, float] = {}
    if split:
        more["told as divergence"] = sum(outcome.diverged for outcome in split) / len(split)
    recall = right / len(found) if found else None
    return Row(
        family="hangs",
        what=what,
        cases=len(found),
        precision=right / len(named) if named else None,
        recall=recall,
        target=target,
        met=recall is not None and recall >= TARGET if target else None,
        more=more,
    )


def main(words: list[str]) -> None:
    """Print one outcome a line."""
    for outcome in outcomes(int(words[0]), int(words[1])):
        print(json.dumps(asdict(outcome)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
