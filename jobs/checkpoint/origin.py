"""What does a run begin from? Asked before anything starts; whether the bytes are whole is asked later."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from jobs.errors import SpecError
from lastgood.manifest import CheckpointDamaged, CheckpointUnreadable, Manifest, names, parse_name, read
from lastgood.skips import Skips

KEY = "checkpoint.resume_from"


def origin(path: str, skips: Sequence[tuple[int, int]]) -> Manifest:
    """The manifest of the checkpoint folder `path`, for a run that never feeds `skips`. Raises SpecError."""
    folder = Path(path)
    if parse_name(folder.name) is None or not folder.is_dir():
        raise SpecError(f"{KEY}: {folder} is not a checkpoint{_nearest(folder)}")
    try:
        found = read(path)
    except CheckpointDamaged as damage:
        raise SpecError(f"{KEY}: {folder} is damaged: {damage.file}: {damage.why}") from None
    except CheckpointUnreadable as unread:
        raise SpecError(f"{KEY}: {folder}: {unread.file}: {unread.why}") from None
    fed = Skips(tuple(skips)).data_index(found.step + 1)
    if fed != found.data_index:
        raise SpecError(
            f"{KEY}: {folder} was saved where data index {found.data_index} came next, but this run would feed {fed}: "
            f"give data.skip the windows that its run skipped (see `lastgood story {found.run}`)"
        )
    return found


def check_vacant(folder: str) -> None:
    """A run saves into a folder of its own: names of checkpoints repeat from run to run. Raises SpecError."""
    found = names(folder)
    if found:
        newest = Path(folder) / str(found[-1])
        raise SpecError(
            f"checkpoint.folder: {folder} holds the checkpoints of another run: name another folder; "
            f"to begin from one of them, say {KEY}: {newest}"
        )


def _nearest(folder: Path) -> str:
    """What may have been meant."""
    inside = [str(name) for name in names(str(folder))]
    if inside:
        return f" but a folder of them: name one, such as {folder / inside[-1]}"
    beside = [str(name) for name in names(str(folder.parent))]
    near = difflib.get_close_matches(folder.name, beside, n=1) or beside[-1:]
    return f"; did you mean {folder.parent / near[0]}?" if near else ", such as .../checkpoints/step-00000040.a1w1"
