"""Which lines of a text did a program say itself, and which only show where in the code it was?

Frames, quoted source and native stacks are left out: a traceback through `raise RuntimeError("DataLoader timed out")`
quotes many messages and says one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from monitors.catalogue.wrapping import HOST, PLACED, SHIPPED, unwrapped

LINE_CHARS = 4096
"""looked at of each line"""
_HEADER = "Traceback (most recent call last):"
_ASIDE = ("Exception ignored in", "Exception ignored on", "Error in atexit", "Error in sys.excepthook")
_LINKS = ("The above exception was the direct cause", "During handling of the above exception")
_NAME = r"(?:\w{1,60}\.){0,8}[A-Za-z]\w{0,60}(?:Error|Exception|Interrupt|Exit|Iteration)"
_LIBRARYS = (
    r"(?:\w{1,60}\.){1,8}[A-Z]\w{0,60}(?:Timeout|Failure|Expired|Cancelled|OutOfResources)|"
    r"(?:\w{1,60}\.){0,8}(?:exc|errors?|exceptions?)\.[A-Z]\w{0,60}"
)
"""names that end otherwise: behind their modules, where prose has none"""
_EXCEPTION = re.compile(rf"({_NAME}|{_LIBRARYS})(?::|$)")
_SYSLOG = r"[A-Z][a-z]{2} {1,2}\d{1,2} \d\d:\d\d:\d\d [\w.-]{1,100} [\w./-]{1,60}(?:\[\d{1,8}\])?: "
_TELLING = (
    r"(?:Traceback |Original |During |The above |Exception ignored|Error in |Failures:|Root Cause|[=-]{5}|[ \[]|"
    rf"\d{{4}}-\d\d|\d{{1,6}}: |(?:{_NAME}|{_LIBRARYS})(?::|$))"
)
"""what is read by how it begins; any other line is found behind its host, too"""
_PREFIX = re.compile(
    rf"\d{{1,6}}: |{PLACED}|{SHIPPED}|{_SYSLOG}|\[[\w :.,/-]{{1,40}}\]: ?|\([\w =.,-]{{1,60}}\) |"
    rf"{HOST.pattern}(?={_TELLING})"
)
"""what launchers, schedulers, shippers of logs and torch (`[rank3]:`) put before each line"""
_PREFIXES_MOST = 5
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


def unprefixed(line: str) -> list[str]:
    """A line as the program printed it, cut; several, when they were shipped as one JSON."""
    text = line.rstrip(" \t\n\ufffd").lstrip("\ufffd")
    for _ in range(_PREFIXES_MOST):
        match = _PREFIX.match(text)
        if match is None or match.end() == len(text):
            break
        text = text[match.end() :]
    said = unwrapped(text)
    if said is text:
        return [text[:LINE_CHARS].rstrip()]
    return [one for part in said.split("\n") for one in unprefixed(part)]


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
        self._is_aside = False
        """what comes next is a traceback that Python could raise nowhere: it ended nothing"""

    def read(self, lines: list[str]) -> Iterator[Line]:
        for text in lines:
            if _HEADER in text:
                self._begins(text)
            elif self._frames is not None and (not text or text[0] in " \t|+"):
                self._frames.append(text.strip())
            elif self._frames is not None:
                ended = self._ends(text)
                if not self._is_aside:
                    yield ended
                self._is_aside = False
            elif said := self._said(text):
                self._is_aside = text.startswith(_ASIDE)
                yield said

    def _begins(self, text: str) -> None:
        if not self._is_linked and not text.startswith("Original"):
            self._chain += 1
        self._frames, self._is_linked = [], False

    def _ends(self, text: str) -> Line:
        frames = "\n".join(self._frames or ())
        self._frames, self._follows = None, True
        host = HOST.match(text)
        match = _ANY_NAME.match(text) or (host and _ANY_NAME.match(text, host.end()))
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
