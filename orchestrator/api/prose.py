"""How is a runbook shown without trusting it? Its Markdown as a tree of a few kinds of blocks, all of them text.

Only what our pages use is known: headings, paragraphs, lists, code, and in a line code, emphasis and links to http.
Everything else, HTML included, is the text that it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

HEADING = re.compile(r"(#{1,6})\s+(.*)")
ITEM = re.compile(r"(?P<mark>[-*]|\d{1,3}\.)\s+(?P<text>.*)")
INLINE = re.compile(
    r"`(?P<code>[^`]+)`|\*\*(?P<strong>[^*]+)\*\*|\*(?P<emphasis>[^*\s][^*]*)\*"
    r"|\[(?P<text>[^\]]*)\]\((?P<href>https?://[^\s)]+)\)"
)
FENCE = "```"


def blocks(markdown: str) -> list[dict[str, Any]]:
    """The blocks of a page, as docs/dashboard.md has them. Total: any text gives a tree."""
    return [block for lines in _chunks(markdown) for block in _block(lines)]


def _chunks(markdown: str) -> Iterator[list[str]]:
    """Lines that belong together: between empty lines, a heading by itself, code whole."""
    chunk: list[str] = []
    fenced = False
    for line in markdown.splitlines():
        if line.startswith(FENCE):
            if not fenced:
                yield chunk
                chunk = []
            fenced = not fenced
        if fenced or line.startswith(FENCE):
            chunk.append(line)
            continue
        if not line.strip() or HEADING.fullmatch(line):
            yield chunk
            chunk = [line] if line.strip() else []
            continue
        if chunk and (chunk[0].startswith(FENCE) or HEADING.fullmatch(chunk[0]) or _starts_list(chunk, line)):
            yield chunk
            chunk = []
        chunk.append(line)
    yield chunk


def _starts_list(chunk: list[str], line: str) -> bool:
    return ITEM.fullmatch(line) is not None and ITEM.fullmatch(chunk[0]) is None


def _block(lines: list[str]) -> Iterator[dict[str, Any]]:
    if not lines:
        return
    heading, item = HEADING.fullmatch(lines[0]), ITEM.fullmatch(lines[0])
    if lines[0].startswith(FENCE):
        yield {"is": "code", "text": "\n".join(line for line in lines if not line.startswith(FENCE))}
    elif heading:
        yield {"is": "heading", "level": len(heading[1]), "of": inline(heading[2])}
    elif item:
        yield {"is": "list", "ordered": item["mark"][0].isdigit(), "items": [inline(text) for text in _items(lines)]}
    else:
        yield {"is": "paragraph", "of": inline(" ".join(line.strip() for line in lines))}


def _items(lines: list[str]) -> list[str]:
    items: list[str] = []
    for line in lines:
        item = ITEM.fullmatch(line)
        if item:
            items.append(item["text"])
        else:
            items[-1] += " " + line.strip()
    return items


def inline(text: str) -> list[dict[str, str]]:
    """The parts of a line."""
    parts: list[dict[str, str]] = []
    place = 0
    for found in INLINE.finditer(text):
        if found.start() > place:
            parts.append({"is": "text", "text": text[place : found.start()]})
        parts.append(_part(found))
        place = found.end()
    if place < len(text):
        parts.append({"is": "text", "text": text[place:]})
    return parts


def _part(found: re.Match[str]) -> dict[str, str]:
    if found["href"]:
        return {"is": "link", "text": found["text"], "href": found["href"]}
    kind = next(name for name in ("code", "strong", "emphasis") if found[name])
    return {"is": kind, "text": found[kind]}
