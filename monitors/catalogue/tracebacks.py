"""Which lines of a text did a program say itself, and which only show where in the code it was?

Frames, quoted source and native stacks are left out: a traceback through `raise RuntimeError("DataLoader timed out")`
quotes many messages and says one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

LINE_CHARS = 4096
"""looked at of each line"""
_HEADER = "Traceback (most recent call last):"
_LINKS = ("The above exception was the direct cause", "During handling of the above exception")
_PREFIX = re.compile(r"(?:\d{1,6}: |\[[\w :.,/-]{1,40}\]: ?|\([\w =.,-]{1,60}\) )")
"""what launchers, schedulers and torch (`[rank3]:`) put before each line"""
_EXCEPTION = re.compile(r"((?:\w{1,60}\.){0,8}[A-Za-z]\w{0,60}(?:Error|Exception|Interrupt|Exit|Iteration))(?::|$)")
_ANY_NAME = re.compile(r"((?:\w{1,60}\.){0,8}[A-Za-z_]\w{0,60})(?::|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One thing that was said."""

    text: str
    """without prefixes, cut"""
    exception: str = ""
    """name of the exception's class, when the line is the last one of a traceback (or looks like it)"""
    chain: int = 0
    """exceptions that were raised while handling each other have the same; 0: no exception"""
    frames: str = ""
    """the frames above the exception, one a line, outermost first"""


def unprefixed(line: str) -> str:
    """A line as the program printed it, cut."""
    text = line[:LINE_CHARS].rstrip()
    for _ in range(4):
        match = _PREFIX.match(text)
        if match is None or match.end() == len(text):
            break
        text = text[match.end() :]
    return text


def lines_of(lines: list[str]) -> Iterator[Line]:
    """What the lines (without prefixes) say, in their order."""
    return _Reader().read(lines)


class _Reader:
    def __init__(self) -> None:
        self._frames: list[str] | None = None
        """of the traceback we are in; None: in none"""
        self._chain = 0
        self._is_linked = False
        self._follows = False
        """the last thing said was an exception, whose message may go on"""

    def read(self, lines: list[str]) -> Iterator[Line]:
        for text in lines:
            if _HEADER in text:
                self._begins(text)
            elif self._frames is not None and (not text or text[0] in " \t|+"):
                self._frames.append(text.strip())
            elif self._frames is not None:
                yield self._ends(text)
            elif said := self._said(text):
                yield said

    def _begins(self, text: str) -> None:
        if not self._is_linked and not text.startswith("Original"):
            self._chain += 1
        self._frames, self._is_linked = [], False

    def _ends(self, text: str) -> Line:
        frames = "\n".join(self._frames or ())
        self._frames, self._follows = None, True
        match = _ANY_NAME.match(text)
        return Line(text=text, exception=match[1] if match else "", chain=self._chain, frames=frames)

    def _said(self, text: str) -> Line | None:
        if not text:
            return None
        if text.startswith(_LINKS):
            self._is_linked = True
            return None
        if text.startswith(("frame #", "│", "╭", "╰")):
            return None
        if self._follows and text[0] in " \t":
            return Line(text=text, chain=self._chain)
        self._follows = False
        match = _EXCEPTION.match(text)
        if match is None:
            return Line(text=text)
        if not self._is_linked:
            self._chain += 1
        self._is_linked, self._follows = False, True
        return Line(text=text, exception=match[1], chain=self._chain)
