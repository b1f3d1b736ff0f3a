"""What may a spec say of trackers, and what must not stand in it?"""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs import load
from jobs.errors import SpecError

SPEC = "name: x\ncommand: y\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("tracker: {wandb: {}}", "tracker.wandb.project: is missing"),
        ("tracker: {wandb: {project: a/b}}", "none of them"),
        ("tracker: {wandb: {project: p, api_key: abcdef}}", "unknown key"),
        ("tracker: {wandb: {project: p, base_url: 'https://me:hush@host'}}", "without user, password or query"),
        ("tracker: {wandb: {project: p, after_rewind: undo}}", "after_rewind"),
        ("env: {WANDB_API_KEY: hush}", "would be written down with the spec"),
        ("{tracker: {script: {service: true}}, recovery: {in_process: true}}", "exclude each other"),
    ],
)
def test_a_mistake_is_told_without_what_is_secret(text: str, why: str) -> None:
    body = SPEC + text if not text.startswith("{") else f"{{name: x, command: y, {text[1:]}"
    with pytest.raises(SpecError) as refused:
        load.parse("run.yaml", body.encode())
    assert why in str(refused.value)
    assert "hush" not in str(refused.value)


def test_a_folder_is_meant_from_that_of_the_spec(tmp_path: Path) -> None:
    (tmp_path / "train.py").touch()
    text = "name: x\ncommand: train.py\ntracker: {tensorboard: {folder: events}}"
    spec = load.resolve(load.parse("run.yaml", text.encode()), tmp_path / "run.yaml")
    assert spec.tracker.tensorboard is not None
    assert spec.tracker.tensorboard.folder == str(tmp_path / "events")
    assert spec.tracker.is_on
