"""Who is told where this rank stands? An agent, through the progress file; or nobody, when the script runs alone."""

from __future__ import annotations

from lastgood.place import Place
from lastgood.progress import Saved, Writer


class Nobody:
    """Listens to nothing and orders nothing."""

    def phase(self, phase: str) -> None:
        """Unheard."""

    def row(self, *row: float | None) -> None:
        """Unheard."""

    def stands_at(self, step: int) -> None:
        """Unheard."""

    def stop_after(self) -> int:
        """Never."""
        return -1

    def save_every(self) -> int:
        """Nobody says."""
        return 0

    def drill(self) -> int:
        """None was ordered."""
        return 0

    def saver(self) -> str:
        """There is nobody to write a copy in memory."""
        return "none"

    def saved(self) -> Saved:
        """Nothing."""
        return Saved()


Audience = Writer | Nobody


def listening(place: Place) -> Audience:
    """The audience of this place. Raises OSError or ValueError when a progress file is named and is none."""
    return Nobody() if place.progress is None else Writer(place.progress)
