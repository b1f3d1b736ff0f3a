"""Two ranks under plain torchrun variables, nobody supervising: they agree on where to resume."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

TIMEOUT_S = 120


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def together(folder: Path, *words: str) -> str:
    """Train the recipe on two ranks; what rank 0 said on stderr."""
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    tiny = ["--dim", "32", "--layers", "1", "--seq", "16", "--batch", "2", "--data", __file__]
    command = [sys.executable, "-P", "-m", "lastgood.worker", "--", "-m", "jobs.recipes.gpt", *tiny, *words]
    ranks = [
        subprocess.Popen(
            command,
            cwd=folder,
            text=True,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank), "LASTGOOD_SAVE_EVERY": "3"},
        )
        for rank in range(2)
    ]
    said = [rank.communicate(timeout=TIMEOUT_S)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], said
    return said[0]


@pytest.mark.e2e
def test_two_ranks_resume_from_the_newest_checkpoint_that_both_find_whole(tmp_path: Path) -> None:
    together(tmp_path, "--steps", "9", "--losses", "whole", "--weights", "weights1")
    saved = tmp_path / "checkpoints"
    assert sorted(path.name for path in saved.iterdir()) == ["step-00000006.a0w0", "step-00000009.a0w0"]
    shard = saved / "step-00000009.a0w0/__1_0.distcp"  # rank 1's: rank 0 must hear of it
    raw = bytearray(shard.read_bytes())
    raw[len(raw) // 2] ^= 1
    shard.write_bytes(raw)
    said = together(tmp_path, "--steps", "9", "--losses", "again", "--weights", "weights2")
    assert "resumed from step-00000006.a0w0 (step 6)" in said
    assert (tmp_path / "again").read_text().splitlines() == (tmp_path / "whole").read_text().splitlines()[6:]
    assert (tmp_path / "weights1").read_text() == (tmp_path / "weights2").read_text()
