"""Has something been wrong for long enough to be told, and right for long enough to be forgotten?"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class _Spell:
    since: float
    looks: int = 0
    told: int = 0
    """the gravest degree that was told"""
    well_since: float | None = None


class Lasting:
    """Spells of things that are wrong, by name. A thing between wrong and right goes on as it was (hysteresis)."""

    def __init__(self, *, clear_s: float) -> None:
        """`clear_s`: a thing that was right for so long is over, and worth a word when it comes back."""
        self._clear_s = clear_s
        self._spells: dict[str, _Spell] = {}

    def see(
        self, what: str, wrong: bool | None, at: float, *, hold_s: float = 0.0, looks: int = 1, degree: int = 1
    ) -> float | None:
        """Since when it has been wrong, at the look that makes it worth a word (once for each degree); else None.

        `wrong` None is neither wrong nor right. It must be wrong at `looks` looks in a row, over `hold_s` seconds.
        """
        spell = self._spells.get(what)
        if not wrong:
            if spell is not None and wrong is False:
                self._right(what, spell, at)
            return None
        if spell is None or (not spell.told and at < spell.since):
            spell = self._spells[what] = _Spell(since=at)
        spell.looks += 1
        spell.well_since = None
        if spell.told >= degree or spell.looks < looks or at - spell.since < hold_s:
            return None
        spell.told = degree
        return min(spell.since, at)

    def names(self) -> tuple[str, ...]:
        """What is wrong, or was a moment ago."""
        return tuple(self._spells)

    def rearm(self) -> None:
        """Whatever goes on, or happens again, is worth a word again."""
        for spell in self._spells.values():
            spell.told = 0

    def _right(self, what: str, spell: _Spell, at: float) -> None:
        spell.looks = 0
        if spell.well_since is None:
            spell.well_since = at
        if not spell.told or at - spell.well_since >= self._clear_s:
            del self._spells[what]
