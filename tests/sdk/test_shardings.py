"""Is a new rank spared what DTensor works out at its first step, and answered only what torch itself would say?

Each case is a process of its own: what torch knows is known for its life.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from lastgood import shardings

COMMON = """
    import sys, torch, torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor
    from torch.testing._internal.distributed.fake_pg import FakeStore
    from lastgood import shardings

    def train(dim, mesh_shape=(2,)):
        size = 2 * len(mesh_shape)
        dist.init_process_group("fake", store=FakeStore(), rank=1, world_size=size)
        shardings.attach()
        torch.manual_seed(0)
        mesh = init_device_mesh("cpu", mesh_shape, mesh_dim_names=("a", "b")[: len(mesh_shape)])
        model = torch.nn.Sequential(torch.nn.Linear(dim, dim), torch.nn.LayerNorm(dim))
        fully_shard(model, mesh=mesh)
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        for _ in range(2):
            model(torch.ones(2, dim)).sum().backward()
            optimizer.step()
        groups = {parameter.device_mesh is mesh for parameter in model.parameters()}
        sums = [parameter.to_local().double().sum().item() for parameter in model.parameters()]
        return groups, sums
"""


def run(code: str, file: Path) -> list[str]:
    whole = textwrap.dedent(COMMON) + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-c", whole],
        env={"LASTGOOD_SHARDINGS": str(file), "PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


ASK = "print(*train({dim}, {shape})); print(len(shardings._asked)); shardings.note(); print(len(shardings._asked))"
"""what was trained, how many questions it asked, and how many are left once they are written down"""
LEARN = "print(shardings.learn({file!r}, 1)); print(*train({dim}, {shape})); print(len(shardings._asked))"


@pytest.mark.parametrize("shape", [(2,), (2, 2)], ids=["fsdp", "hsdp"])
def test_what_one_process_asked_the_next_one_knows(tmp_path: Path, shape: tuple[int, ...]) -> None:
    file = tmp_path / "shardings"
    trained, asked, left = run(ASK.format(dim=8, shape=shape), file)
    assert int(asked) > 3, "the optimizer's step is one of them"
    assert int(left) == 0
    known, again, unknown = run(LEARN.format(file=str(file), dim=8, shape=shape), file)
    assert (int(known), int(unknown)) == (int(asked), 0)
    assert again == trained, "the same numbers, on the mesh of the process itself"
    assert again.startswith("{True}")


def test_another_shape_is_another_question(tmp_path: Path) -> None:
    file = tmp_path / "shardings"
    run(ASK.format(dim=8, shape=(2,)), file)
    trained, asked, _ = run(ASK.format(dim=6, shape=(2,)), tmp_path / "other")
    known, again, unknown = run(LEARN.format(file=str(file), dim=6, shape=(2,)), file)
    assert 0 < int(unknown) <= int(asked)
    assert int(known) > 0
    assert again == trained


def test_questions_add_up_over_worlds(tmp_path: Path) -> None:
    file = tmp_path / "shardings"
    first = run(ASK.format(dim=8, shape=(2,)), file)[1]
    second = run(ASK.format(dim=6, shape=(2,)), file)[1]
    assert int(run(LEARN.format(file=str(file), dim=6, shape=(2,)), file)[0]) > max(int(first), int(second))


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps([print]), pickle.dumps(Path("/"))])
def test_a_file_that_holds_something_else_is_left_alone(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "shardings"
    file.write_bytes(content)
    known, trained, asked = run(LEARN.format(file=str(file), dim=8, shape=(2,)), file)
    assert int(known) == 0
    assert trained.startswith("{True}")
    assert int(asked) > 3


def test_without_a_file_and_without_torch_nothing_is_done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(shardings.FILE, raising=False)
    shardings.note()
    assert list(tmp_path.iterdir()) == []
    assert run("print(shardings.learn('/nowhere', 0))", tmp_path / "none") == ["0"]
