"""Does a node tell a whole checkpoint from a damaged one, and is what it deleted gone?"""

from __future__ import annotations

from pathlib import Path

import pytest
import xxhash
from stage import RUN, Stage

from jobs.agent import orders
from lastgood import manifest
from monitors import signals as s

NAME = "step-00000004.a1w1"
SHARD = "__0_0.distcp"


@pytest.fixture
def checkpoint(stage: Stage) -> Path:
    """A whole one in the run's own folder, and an agent that can be asked."""
    stage.spec("train.py", nodes=2)
    files = {SHARD: bytes(range(256)) * 40, ".metadata": b"metadata"}
    entries = {
        name: manifest.Entry(bytes=len(body), xxh3_128=xxhash.xxh3_128_hexdigest(body)) for name, body in files.items()
    }
    meant = manifest.Manifest(
        run=RUN,
        attempt=1,
        world=1,
        step=4,
        world_size=1,
        data_index=4,
        saved_at=1.0,
        torch="2.13.0",
        files=entries,
    )
    folder = stage.place().checkpoints(None) / NAME
    folder.mkdir(parents=True)
    for name, body in {**files, manifest.MANIFEST: manifest.encode(meant)}.items():
        (folder / name).write_bytes(body)
    stage.launch(node=1)
    return folder


def test_whole_then_damaged_then_gone(stage: Stage, checkpoint: Path) -> None:
    stage.order(orders.VerifyCheckpoint(checkpoint=NAME), 1)
    (verified,) = stage.wait_for(s.CheckpointVerified)
    assert (verified.checkpoint, verified.node) == (NAME, 1)

    body = bytearray((checkpoint / SHARD).read_bytes())
    body[1000] ^= 4
    (checkpoint / SHARD).write_bytes(body)
    stage.order(orders.VerifyCheckpoint(checkpoint=NAME), 1)
    (refused,) = stage.wait_for(s.CheckpointRefused)
    assert (refused.checkpoint, refused.rank) == (NAME, None)
    assert SHARD in refused.why

    for count in (1, 2):  # gone is gone, however often it is ordered
        stage.order(orders.DeleteCheckpoint(checkpoint=NAME), 1)
        stage.wait_for(s.CheckpointDeleted, count)
    assert list(checkpoint.parent.iterdir()) == []
    assert stage.seen(s.Blind) == []


def test_a_new_world_clears_away_what_dead_ones_left_half_written(stage: Stage) -> None:
    folder = stage.place().checkpoints(None)
    for name in (NAME, "step-00000008.a1w1.writing", "step-00000012.a1w2.writing", "step-00000002.a1w1.deleting"):
        (folder / name).mkdir(parents=True)
    stage.spec(stage.script("import time; time.sleep(600)"))
    stage.launch()
    stage.start_world(2)
    stage.wait(lambda: len(list(folder.iterdir())) == 2, "the folder is not cleared")
    assert {path.name for path in folder.iterdir()} == {NAME, "step-00000012.a1w2.writing"}


def test_one_that_was_never_there_is_refused(stage: Stage, checkpoint: Path) -> None:
    other = checkpoint.name.replace("4", "8")
    stage.order(orders.VerifyCheckpoint(checkpoint=other), 1)
    (refused,) = stage.wait_for(s.CheckpointRefused)
    assert refused.checkpoint == other
