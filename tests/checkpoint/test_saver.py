"""Does a copy in memory hold all that a checkpoint needs, whatever the state is made of, and is it left alone?"""

from __future__ import annotations

import io
import shutil
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.utils._pytree import tree_flatten_with_path

from lastgood import saver as node_saver
from lastgood.copies import Copy
from lastgood.drafts import Drawing, opened
from lastgood.files import Files
from lastgood.restoring import restore
from lastgood.saving import Saver
from tests.checkpoint.copied import CopySaver
from tests.checkpoint.training import build, same


class Odd(nn.Module):
    """Tied weights, a view of a part, a transposed parameter, an empty one, a scalar, a hook that makes things up."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.embed = nn.Embedding(7, 5)
        self.head = nn.Linear(5, 7, bias=False)
        self.head.weight = self.embed.weight
        self.turned = nn.Parameter(torch.randn(4, 6).t())
        self.none = nn.Parameter(torch.zeros(0, 3))
        self.scale = nn.Parameter(torch.randn(()))
        self.register_buffer("part", self.embed.weight.detach()[2:4])
        self.register_buffer("coarse", torch.randn(3).to(torch.bfloat16))
        self.register_state_dict_post_hook(self._make_up)

    @staticmethod
    def _make_up(module: Any, state: dict[str, Any], prefix: str, _local: Any) -> None:
        state[f"{prefix}doubled"] = module.scale.detach() * 2


def odd(seed: int) -> dict[str, Any]:
    model = Odd(seed)
    return {
        "model": model,
        "optimizer": torch.optim.SGD([model.scale], lr=0.1, momentum=0.9),
        "means": {"loss": torch.full((2,), float(seed)), "seen": [seed]},
        "epoch": seed,
    }


def written(folder: Path) -> list[tuple[str, object]]:
    """Every value of a checkpoint, as torch's own tool reads it; bits of tensors, NaN included. Pickles of the random
    number generators may differ where their states do not."""
    dcp_to_torch_save(folder, folder.with_suffix(".pt"))
    whole = torch.load(folder.with_suffix(".pt"), weights_only=False)
    return [(str(path), _told(value)) for path, value in tree_flatten_with_path(whole)[0] if "rng" not in str(path)]


def _told(value: object) -> object:
    if isinstance(value, torch.Tensor):
        return value.dtype, value.shape, value.flatten().view(torch.uint8).tolist()
    return value


def test_it_is_the_checkpoint_that_the_rank_itself_would_have_written(tmp_path: Path) -> None:
    state, notes = odd(1), list[dict[str, Any]]()
    state["model"].scale.sum().backward()
    state["optimizer"].step()
    own = Saver(str(tmp_path / "own"), run="run", attempt=1, world=2, rank=0, world_size=1, note=notes.append)
    own.save(3, state, data_index=4)
    own.close()
    copies = CopySaver(tmp_path / "copied", notes)
    copies.save(3, state, data_index=4)
    with torch.no_grad():
        for parameter in state["model"].parameters():
            parameter.fill_(9.0)  # training goes on
    copies.close()
    assert [note["note"] for note in notes] == ["committed", "committed"]
    name = "step-00000003.a1w2"
    own_values = written(tmp_path / "own" / name)
    assert len(own_values) > 10
    assert written(tmp_path / "copied" / name) == own_values


def test_most_of_it_is_copied_once() -> None:
    state = odd(1)
    taken, _ = Drawing().draw(state, 0)
    besides = sorted(value.numel() for name, value in taken.tensors.items() if name.startswith("lastgood."))
    # What was made up, the plain tensor that is packed with the rest, and what does not lie in the order of its
    # indices; no tied weight, no view of a part.
    assert besides == [0, 1, 2, 24]


def test_what_is_drawn_again_is_what_would_be_drawn_afresh() -> None:
    job, drawing = build(1), Drawing()
    job.train(2)
    drawing.draw(job.state, 0)
    for change in (lambda: None, lambda: job.train(1), lambda: _moved(job.state["model"]), lambda: _grown(job.state)):
        change()
        again, afresh = drawing.draw(job.state, 0), Drawing().draw(job.state, 0)
        assert _loaded(again[1]) == _loaded(afresh[1]), "plan, places, and all that is no tensor"
        assert again[0].tensors.keys() == afresh[0].tensors.keys()
        assert all(torch.equal(again[0].tensors[name], tensor) for name, tensor in afresh[0].tensors.items())


def _loaded(draft: bytes) -> list[object]:
    sketch, bodies = opened(draft)
    plain = {index: torch.load(io.BytesIO(body), weights_only=False) for index, body in bodies.items()}
    return [sketch, {index: str(value) for index, value in plain.items() if "rng" not in index.fqn}]


def _moved(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()


def _grown(state: MutableMapping[str, Any]) -> None:
    state["epoch"] = {"number": 3, "of": [1, 2]}
    state["more"] = nn.Linear(3, 3)


def test_it_is_planned_once_while_the_tensors_stay() -> None:
    job, drawing = build(1), Drawing()
    job.train(1)
    drawing.draw(job.state, 0)
    sketch = drawing._sketch
    job.train(1)
    drawing.draw(job.state, 0)
    assert drawing._sketch is sketch
    _moved(job.state["model"])
    drawing.draw(job.state, 0)
    assert drawing._sketch is not sketch


def test_it_loads_bit_for_bit(tmp_path: Path) -> None:
    job, other, notes = build(1), build(2), list[dict[str, Any]]()
    job.train(3)
    copies = CopySaver(tmp_path, notes)
    copies.save(3, job.state, data_index=4)
    before = job.snapshot()
    gone_on = job.train(2)
    copies.close()
    found = restore(str(tmp_path), [("step-00000003.a1w2", 3)], other.state, rank=0, world_size=1, note=notes.append)
    assert found is not None
    assert (found.step, found.data_index) == (3, 4)
    assert same(other.snapshot(), before)
    assert other.loader.seen == [0, 1, 2]
    assert other.train(2) == gone_on, "the random numbers came back, too"


def test_a_copy_that_changed_is_written_nowhere(tmp_path: Path) -> None:
    job, notes = build(1), list[dict[str, Any]]()
    copies = CopySaver(tmp_path / "there", notes)
    copies.save(3, job.state, data_index=4)
    (staged,) = (note for note in copies.staged if note["note"] == "staged")
    with Path(staged["path"]).open("r+b") as file:
        file.seek(300)
        byte = file.read(1)
        file.seek(300)
        file.write(bytes([byte[0] ^ 1]))
    copies.close()
    assert [(note["note"], note["errno"]) for note in notes] == [("save_failed", None)]
    assert "CopyDamaged" in notes[0]["why"]
    assert not (tmp_path / "there").exists()


def test_the_copy_of_another_step_is_not_taken_for_it(tmp_path: Path) -> None:
    job, notes = build(1), list[dict[str, Any]]()
    copies = CopySaver(tmp_path, notes)
    copies.save(3, job.state, data_index=4)
    (staged,) = (note for note in copies.staged if note["note"] == "staged")
    outcome = node_saver.save({**copies.order([staged]), "step": 4}, Files())
    assert outcome.failure is not None
    assert "holds another copy than that of step 4" in outcome.failure.why
    copies.close()


def test_what_is_held_is_not_overwritten_and_what_is_free_is(tmp_path: Path) -> None:
    job, notes = build(1), list[dict[str, Any]]()
    copies = CopySaver(tmp_path, notes)
    copies.save(1, job.state, data_index=1)
    (staged,) = (note for note in copies.staged if note["note"] == "staged")
    for step in range(2, 8):
        job.train(1)
        copies.memory.copy(step, job.state, step, 0.1)
    copies.memory.settle()
    facts = Copy(staged["path"]).facts()
    assert facts is not None
    assert facts.step == 1
    copies.wait()
    for step in range(8, 11):
        copies.memory.copy(step, job.state, step, 0.1)
    copies.memory.settle()
    facts = Copy(staged["path"]).facts()
    assert facts is not None
    assert facts.step >= 8
    copies.close()
    assert [note["step"] for note in notes] == [1]


def test_no_copy_is_made_while_every_one_is_held(tmp_path: Path) -> None:
    job, notes = build(1), list[dict[str, Any]]()
    copies = CopySaver(tmp_path, notes, copies=1)
    copies.save(1, job.state, data_index=1)
    copies.memory.copy(2, job.state, 2, 0.1)
    copies.memory.settle()
    copies.save(3, job.state, data_index=3)
    copies.close()
    assert [(note["note"], note["step"]) for note in notes] == [("committed", 1), ("committed", 3)]


def test_without_a_saver_or_with_a_state_that_does_not_fit_nothing_is_staged_and_it_is_told_once(
    tmp_path: Path,
) -> None:
    job = build(1)
    copies = CopySaver(tmp_path, [])
    for has in ("starting", "there", "none", "none", "there"):
        copies.audience.has = has
        assert copies.memory.stage(1, job.state, 1) is (has == "there")
        copies.memory.settle()
    told = [note["why"] for note in copies.staged if note["note"] == "unstaged"]
    assert told == ["", "the node has no saver at present", ""]
    job.state["lastgood"] = 1
    assert not copies.memory.stage(2, job.state, 2)
    assert "the key 'lastgood' of the state is taken" in copies.staged[-1]["why"]
    copies.staged.clear()
    copies.close()


@pytest.mark.parametrize("kept", [True, False])
def test_a_copy_with_a_draft_is_a_copy_like_any_other(tmp_path: Path, kept: bool) -> None:
    """A world that begins takes it, whether it was written meanwhile or not."""
    job = build(1)
    job.train(2)
    before = job.snapshot()
    copies = CopySaver(tmp_path, [])
    copies.save(2, job.state, data_index=2)
    if kept:
        copies.wait()
    other = build(2)
    copies.memory._here = type(copies.memory._here)(**{**_fields(copies.memory._here), "world": 3})
    found = copies.memory.restore(other.state)
    assert found is not None
    assert found.step == 2
    assert same(other.snapshot(), before)
    copies.staged.clear()
    copies.close()
    shutil.rmtree(tmp_path, ignore_errors=True)


def _fields(place: Any) -> dict[str, Any]:
    return {name: getattr(place, name) for name in place.__dataclass_fields__}
