"""The recipes: what a user copies must be right. Tiny models, in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import yaml

from jobs.recipes import gpt, plain
from jobs.spec import Spec
from lastgood.place import Place
from lastgood.run import open_run

RECIPES = Path(gpt.__file__).parent
TINY = ["--dim", "32", "--layers", "1", "--seq", "16", "--batch", "2"]

Train = Callable[..., None]


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """Something to learn."""
    file = tmp_path / "book.txt"
    file.write_text("abcdefgh" * 200)
    return file


@pytest.fixture
def train(tmp_path: Path, book: Path) -> Train:
    """Trains the tiny recipe alone; the words are its options."""

    def go(*words: str, life: str = "one", **place: object) -> None:
        here = Place(checkpoints=str(tmp_path / life), **place)  # type: ignore[arg-type]
        run = open_run(here)
        gpt.train(gpt.parse([*TINY, "--data", str(book), *words]), run)
        run.close()

    return go


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_an_interrupted_run_computes_what_an_undisturbed_one_does(train: Train, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train("--steps", "7", "--losses", str(whole), "--weights", str(tmp_path / "weights1"))
    train("--steps", "4", "--losses", str(parts), life="two")
    train("--steps", "7", "--losses", str(parts), "--weights", str(tmp_path / "weights2"), life="two")
    assert len(lines(whole)) == 7
    assert lines(parts) == lines(whole)
    assert (tmp_path / "weights1").read_text() == (tmp_path / "weights2").read_text()


def test_a_rank_tells_its_own_loss_and_the_gradient_that_came_back_to_its_first_block(book: Path) -> None:
    text = gpt.Text(str(book), seq=16, batch=2)
    model = gpt.GPT(32, 2, 16)
    own = gpt.Own(model.get_submodule("blocks.0"))
    inputs, targets = text.batch(0, 0)
    kept: list[torch.Tensor] = []
    model.get_submodule("blocks.0").register_forward_pre_hook(
        lambda _module, entered: entered[0].register_hook(kept.append) and None
    )
    loss, _ = gpt.learn(model, torch.optim.SGD(model.parameters(), lr=0.0), inputs, targets)
    assert loss.item() == pytest.approx(5.55, abs=0.3)
    assert own.norm is not None
    assert own.norm.item() == pytest.approx(kept[0].norm().item())
    assert own.norm > 0


def test_the_model_learns(train: Train, tmp_path: Path) -> None:
    train("--steps", "40", "--losses", str(tmp_path / "losses"))
    losses = [float.fromhex(line.split()[2]) for line in lines(tmp_path / "losses")]
    assert losses[0] == pytest.approx(5.55, abs=0.3)  # ln 256: it knows nothing
    assert losses[-1] < 3


def test_a_poisoned_window_is_seen_and_skipping_it_is_not(train: Train, tmp_path: Path) -> None:
    train("--steps", "45", "--losses", str(tmp_path / "fed"), "--poison", "40:60")
    train("--steps", "45", "--losses", str(tmp_path / "skipped"), "--poison", "40:60", life="two", skips=((40, 60),))
    fed, skipped = ([line.split() for line in lines(tmp_path / name)] for name in ("fed", "skipped"))
    assert fed[:40] == skipped[:40]
    assert [int(index) for _, index, _ in skipped[40:]] == [60, 61, 62, 63, 64]
    worst_before = max(float.fromhex(loss) for _, _, loss in fed[30:40])
    assert all(float.fromhex(loss) > worst_before + 1 for _, _, loss in fed[40:])
    assert all(float.fromhex(loss) < worst_before + 1 for _, _, loss in skipped[40:])


def test_a_batch_depends_on_its_index_and_rank_alone(book: Path) -> None:
    one, two = (gpt.Text(str(book), seq=16, batch=4) for _ in range(2))
    one.batch(7, 0)
    for index, rank in ((0, 0), (0, 1), (900, 1)):
        assert all(torch.equal(a, b) for a, b in zip(one.batch(index, rank), two.batch(index, rank), strict=True))
    assert not torch.equal(one.batch(0, 0)[0], one.batch(0, 1)[0])
    assert not torch.equal(one.batch(0, 0)[0], one.batch(1, 0)[0])


def test_targets_are_the_next_bytes(book: Path) -> None:
    inputs, targets = gpt.Text(str(book), seq=16, batch=4).batch(3, 0)
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    assert inputs.shape == targets.shape == (4, 16)


def test_a_folder_is_read_once_per_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "texts/deep").mkdir(parents=True)
    (tmp_path / "texts/b.txt").write_text("b" * 40)
    (tmp_path / "texts/deep/a.txt").write_text("a" * 40)
    for _ in range(2):
        gpt.Text(str(tmp_path / "texts"), seq=16, batch=1)
    joined = list((tmp_path / "cache/lastgood/text").iterdir())
    assert [file.read_text() for file in joined] == ["b" * 40 + "a" * 40]
    (tmp_path / "texts/b.txt").write_text("c" * 41)
    gpt.Text(str(tmp_path / "texts"), seq=16, batch=1)
    assert len(list((tmp_path / "cache/lastgood/text").iterdir())) == 2


def test_by_default_it_learns_the_standard_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    gpt.Text(None, seq=64, batch=1)
    (joined,) = (tmp_path / "lastgood/text").iterdir()
    text = joined.read_bytes()
    assert len(text) > 5_000_000
    assert b"class Thread" in text


def test_too_little_text_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "short").write_text("abc")
    with pytest.raises(SystemExit, match="holds 3 bytes, a sequence needs 17"):
        gpt.Text(str(tmp_path / "short"), seq=16, batch=1)


@pytest.mark.parametrize("name", ["pretrain", "plain"])
def test_the_specs_are_valid_and_their_options_exist(name: str) -> None:
    spec = Spec(**yaml.safe_load((RECIPES / f"{name}.yaml").read_text()))
    module, *words = spec.argv[1:]
    parse = {"jobs.recipes.gpt": gpt.parse, "jobs.recipes.plain": plain.parse}[module]
    assert parse(words).steps == 300
    assert spec.ranks_per_node == 2


def test_the_plain_script_goes_on_from_its_own_save(
    tmp_path: Path, book: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def go(steps: int, out: str) -> list[str]:
        words = ["--data", str(book), "--save-every", "2", "--steps", str(steps), "--out", str(tmp_path / out)]
        plain.train(plain.parse([*TINY, *words]), torch.device("cpu"))
        return capsys.readouterr().out.splitlines()

    store = dist.HashStore()  # type: ignore[attr-defined]
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        whole = go(6, "one")
        assert [line.split()[1] for line in whole] == ["1", "2", "3", "4", "5", "6"]
        assert go(4, "two") + go(6, "two") == whole
    finally:
        dist.destroy_process_group()
