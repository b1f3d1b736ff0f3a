"""Which scenarios need real ranks, and what does each rank see?

Each rank trains over gloo and writes what it saw to `SCENARIO.RANK.json` for the test to judge.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from jobs.checkpoint.damage import damage
from lastgood import manifest
from lastgood import saver as node_saver
from lastgood.files import Files
from lastgood.manifest import CheckpointUnreadable
from lastgood.restoring import RestoreFailed, restore
from lastgood.saving import Saver
from tests import warm
from tests.checkpoint.copied import CopySaver
from tests.checkpoint.disks import CountingDisk, FailingDisk
from tests.checkpoint.training import Job, build, same

TWO, ONE = "step-00000003.a1w1", "step-00000003.a1w2"


def run(scenario: str, world_size: int, folder: Path) -> list[dict[str, Any]]:
    """What each rank saw."""
    warm.run(main, *((scenario, rank, world_size, folder) for rank in range(world_size)), folder=folder)
    return [json.loads((folder / f"{scenario}.{rank}.json").read_text()) for rank in range(world_size)]


class Rank:
    """One rank of a scenario."""

    def __init__(self, rank: int, world_size: int, folder: Path) -> None:
        self.rank = rank
        self.world_size = world_size
        self.folder = folder
        self.checkpoints = folder / "checkpoints"
        self.notes: list[dict[str, Any]] = []

    def saver(self, world: int, files: Files | None = None) -> Saver:
        return Saver(
            str(self.checkpoints),
            run="run",
            attempt=1,
            world=world,
            rank=self.rank,
            world_size=self.world_size,
            note=self.notes.append,
            files=files,
        )

    def restore(self, job: Job, *names: str, folder: Path | None = None) -> str | None:
        where = str(folder or self.checkpoints)
        candidates = [(name, 3) for name in names]
        found = restore(
            where, candidates, job.state, rank=self.rank, world_size=self.world_size, note=self.notes.append
        )
        return None if found is None else found.checkpoint


def resume(rank: Rank) -> dict[str, Any]:
    """Save, go on; then restore into a job of other weights and go on from there: nothing may differ."""
    job = build(1, rank=rank.rank)
    saver = rank.saver(world=1)
    job.train(3)
    saver.save(3, job.state, data_index=7)
    at_three = job.full()
    if rank.rank == 0:
        torch.save(at_three, rank.folder / f"{TWO}.pt")
    gone_on = [job.train(3), draw()]  # the save may still be on its way
    saver.close()
    other = build(2, rank=rank.rank)
    other.train(1)
    found = restore(
        str(rank.checkpoints),
        [(TWO, 3)],
        other.state,
        rank=rank.rank,
        world_size=rank.world_size,
        note=rank.notes.append,
    )
    assert found is not None
    restored = same(other.full(), at_three)
    plain = [
        list(other.loader.seen),
        sorted(other.history),
        other.state["epoch"],
        [round(x, 5) for x in other.ema.tolist()],
    ]
    again = [other.train(3), draw()]
    return {
        "notes": rank.notes,
        "found": [found.checkpoint, found.step, found.data_index],
        "restored": restored,
        "plain": plain,
        "gone_on": [gone_on, again],
        "weights": same(job.snapshot(), other.snapshot()),
    }


def draw() -> list[float]:
    """What the generators give next."""
    return [torch.rand(1).item(), random.random()]


def from_copies(rank: Rank) -> dict[str, Any]:
    """Each rank stages and goes on; then one saver writes both ranks' copies, or two nodes' savers meet."""
    job = build(1, rank=rank.rank)
    job.train(3)
    at_three, seen = job.full(), {}
    for world, nodes in ((51, 1), (52, 2)):
        staging = CopySaver(rank.checkpoints, rank.notes, world=world, rank=rank.rank, world_size=rank.world_size)
        staging.save(3, job.state, data_index=7)
        job.train(1)
        mine = next(note for note in staging.staged if note["note"] == "staged")
        notes: list[Any] = [None] * rank.world_size
        dist.all_gather_object(notes, mine)
        orders = (
            [staging.order(notes)] if nodes == 1 else [staging.order([n], node=i, nodes=2) for i, n in enumerate(notes)]
        )
        if rank.rank < nodes:
            staging.take(node_saver.save(orders[rank.rank], Files()), 3)
        dist.barrier()
        other = build(2, rank=rank.rank)
        found = rank.restore(other, f"step-00000003.a1w{world}")
        seen[str(nodes)] = [found, same(other.full(), at_three)]
        staging.staged.clear()
        staging.close()
        job = build(1, rank=rank.rank)
        job.train(3)
    seen["left"] = [path.name for path in rank.checkpoints.iterdir() if path.name.endswith(manifest.ROUNDS)]
    shards = sorted(path.name for path in (rank.checkpoints / "step-00000003.a1w51").iterdir())
    return {**seen, "notes": rank.notes, "shards": shards}


def fail_in_turn(rank: Rank) -> dict[str, Any]:
    """Each rank's disk fails at its calls in turn; nobody hangs, nobody else is blamed, and the next save is whole."""
    job = build(1, rank=rank.rank)
    job.train(1)
    counting = CountingDisk()
    saver = rank.saver(world=10, files=counting)
    saver.save(1, job.state, data_index=1)
    saver.close()
    counts = [torch.zeros(1, dtype=torch.int64) for _ in range(rank.world_size)]
    dist.all_gather(counts, torch.tensor([counting.calls]))
    # The coordinator's calls are tested one by one without peers; every third will do here.
    failures = [
        (failing, number)
        for failing, count in enumerate(counts)
        for number in range(1, int(count) + 1, 3 if failing == 0 else 1)
    ]
    problems = []
    for world, (failing, number) in enumerate(failures, start=11):
        problems += _fail_once(rank, job, world, number if failing == rank.rank else 0, failing)
    return {"failures": len(failures), "problems": problems}


def _fail_once(rank: Rank, job: Job, world: int, fails_at: int, failing: int) -> list[str]:
    rank.notes.clear()
    disk = FailingDisk(fails_at)
    saver = rank.saver(world, disk)
    saver.save(1, job.state, data_index=1)
    job.train(1)
    saver.save(2, job.state, data_index=2)
    saver.close()
    expected = ["save_failed"] * (failing == rank.rank) + ["committed"] * (rank.rank == 0)
    seen = [note["note"] for note in rank.notes]
    problems = [] if seen == expected else [f"{disk.failed}: {seen}"]
    names = [str(name) for name in manifest.names(str(rank.checkpoints)) if name.world == world]
    dist.barrier()
    if names != [f"step-00000002.a1w{world}"]:
        problems.append(f"{disk.failed}: {names}")
    elif rank.rank == 0:
        manifest.verify(str(rank.checkpoints / names[0]))
    return problems


def fall_back(rank: Rank) -> dict[str, Any]:
    """The newest is damaged in ways that one rank alone may see; all take the older one, one of them says why."""
    newest = "step-00000009.a1w9"
    if rank.rank == 0:
        copy_as(rank.checkpoints / TWO, rank.folder / "older" / TWO)
    job = build(4, rank=rank.rank)
    saver = Saver(
        str(rank.folder / "pristine"),
        run="run",
        attempt=1,
        world=9,
        rank=rank.rank,
        world_size=rank.world_size,
        note=rank.notes.append,
    )
    job.train(2)
    saver.save(9, job.state, data_index=9)
    saver.close()
    seen = []
    for seed in range(12):
        folder = rank.folder / f"damaged{seed}"
        done = [""]
        if rank.rank == 0:
            shutil.copytree(rank.folder / "older", folder)
            shutil.copytree(rank.folder / "pristine" / newest, folder / newest)
            done = [str(damage(str(folder / newest), seed, ("flip", "cut", "delete", "swap")[seed % 4]))]
        dist.barrier()
        rank.notes.clear()
        untouched = job.snapshot()
        nothing = rank.restore(job, newest, folder=folder)
        held = same(untouched, job.snapshot())
        found = rank.restore(build(6, rank=rank.rank), newest, TWO, folder=folder)
        seen.append({"damage": done[0], "alone": nothing, "held": held, "found": found, "notes": list(rank.notes)})
    return {"seen": seen}


def out_of_sight(rank: Rank) -> dict[str, Any]:
    """One rank does not see the newest, and no rank takes it; where another finds it damaged, it is damaged."""
    newest = "step-00000009.a1w9"
    job = build(6, rank=rank.rank)
    seen: dict[str, Any] = {}
    for case, there in (("hidden", "pristine"), ("damaged", "damaged2")):  # a file of that one was deleted
        view = rank.folder / f"view-{case}-{rank.rank}"
        view.mkdir()
        (view / TWO).symlink_to(rank.checkpoints / TWO)
        (view / newest).symlink_to(rank.folder / (there if rank.rank == 0 else "not mounted") / newest)
        untouched = job.snapshot()
        try:
            alone = str(rank.restore(job, newest, folder=view))
        except CheckpointUnreadable as error:
            alone = str(error)
        held = same(untouched, job.snapshot())
        rank.notes.clear()
        found = rank.restore(build(6, rank=rank.rank), newest, TWO, folder=view)
        notes = [(note["note"], note["checkpoint"]) for note in rank.notes]
        seen[case] = {"alone": alone, "held": held, "found": found, "notes": notes}
    return seen


def copy_as(path: Path, copy: Path) -> None:
    copy.parent.mkdir()
    shutil.copytree(path, copy)


def save_alone(rank: Rank) -> None:
    """One rank, without a process group, leaves a checkpoint for other worlds."""
    job = build(1)
    job.train(3)
    saver = rank.saver(world=2)
    saver.save(3, job.state, data_index=7)
    saver.close()
    torch.save(job.full(), rank.folder / f"{ONE}.pt")


def take_over(rank: Rank, name: str) -> dict[str, Any]:
    """Restore what another number of ranks saved: the whole tensors are the same, the random numbers this rank's."""
    job = build(3, rank=rank.rank)
    found = rank.restore(job, name)
    equal = same(job.full(), torch.load(rank.folder / f"{name}.pt", weights_only=True))
    drawn = draw()
    rank.restore(job, name)
    return {"found": found, "equal": equal, "drawn": drawn, "repeated": draw() == drawn, "notes": rank.notes}


def from_one(rank: Rank) -> dict[str, Any]:
    """One rank's checkpoint."""
    return take_over(rank, ONE)


def from_two(rank: Rank) -> dict[str, Any]:
    """Two ranks' checkpoint."""
    return take_over(rank, TWO)


def misfit(rank: Rank) -> dict[str, Any]:
    """Another model is the user's mistake on every rank, and never a reason to try an older checkpoint."""
    job = build(3, rank=rank.rank)
    del job.state["loader"]
    job.state["model"] = torch.nn.Linear(3, 3)
    job.state["optimizer"] = torch.optim.SGD(job.state["model"].parameters())
    try:
        rank.restore(job, TWO, TWO)
    except RestoreFailed as error:
        return {"why": str(error), "notes": rank.notes}
    return {"why": None, "notes": rank.notes}


SCENARIOS: dict[str, tuple[Callable[[Rank], dict[str, Any]], ...]] = {
    "two": (resume, from_copies, fail_in_turn, fall_back, out_of_sight, from_one, misfit),
    "three": (from_two,),
}


def main(scenario: str, rank: int, world_size: int, folder: Path) -> None:
    """Play one rank of all parts of a scenario."""
    meeting = dist.FileStore(  # type: ignore[attr-defined]
        str(folder / f"meeting-{scenario}-{world_size}"), world_size
    )
    dist.init_process_group("gloo", store=meeting, rank=rank, world_size=world_size)
    seen = {part.__name__: part(Rank(rank, world_size, folder)) for part in SCENARIOS[scenario]}
    (folder / f"{scenario}.{rank}.json").write_text(json.dumps(seen))
    dist.destroy_process_group()
