"""Was this process asked to end? Noted, and looked at between two turns.

An exception raised wherever the signal happens to strike (in a library's callback, in a destructor) can be lost there,
and then Ctrl-C does nothing.
"""

from __future__ import annotations

import signal
from types import FrameType


class Ending:
    """Notes the first request; a second one is not waited for."""

    def __init__(self, *numbers: signal.Signals) -> None:
        self.asked = False
        for number in numbers:
            signal.signal(number, self._note)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
