"""A rank without an agent: a real progress file and real checkpoints, in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from lastgood import progress
from lastgood.place import Place
from lastgood.run import Run, open_run


class Rank:
    """A rank and, in the test's hand, the agent's end of it."""

    def __init__(self, folder: Path, **place: Any) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        progress.create(str(folder / "progress"))
        self.reader = progress.Reader(str(folder / "progress"))
        defaults = {"checkpoints": str(folder / "checkpoints"), "resume": ()}
        self.place = Place(
            **{**defaults, **place}, progress=str(folder / "progress"), rank_dir=str(folder), launched=False
        )
        self.run: Run = open_run(self.place)

    def rows(self) -> list[progress.Row]:
        """All rows written so far."""
        return self.reader.rows(0)[1]

    def notes(self, kind: str = "") -> list[dict[str, Any]]:
        """The notes written so far, as far as the progress file says that there are some."""
        raw = (self.folder / "notes.jsonl").read_bytes()[: self.reader.look().notes]
        notes = [json.loads(line) for line in raw.splitlines()]
        return [note for note in notes if kind in ("", note["note"])]

    def order(self, number: int, drill: str, **more: Any) -> None:
        """Order a drill as the agent does: the file, then the number."""
        (self.folder / "drill.json").write_text(json.dumps({"number": number, "drill": drill, **more}))
        self.reader.order_drill(number)


def advance(state: dict[str, Any]) -> float:
    """One training step that changes the state; its loss."""
    loss: torch.Tensor = state["model"](torch.ones(1, 2)).square().sum()
    state["optimizer"].zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    state["optimizer"].step()
    return loss.item()
