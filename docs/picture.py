"""Draws `docs/way.svg`, the way of the data: `python docs/picture.py`."""

from __future__ import annotations

from pathlib import Path

WIDTH, HEIGHT = 980, 360
ROOMS = (
    # x, y, width, height, title, question
    (20, 40, 250, 250, "monitors/", "what is happening?"),
    (300, 40, 370, 250, "orchestrator/", "what should be done about it?"),
    (700, 40, 260, 250, "jobs/", "what should run?"),
)
BOXES = {
    "sense": (40, 110, 90, 44, "sense", "shm, pidfd, logs"),
    "detect": (160, 110, 90, 44, "detect", "exits, hang, loss"),
    "inbox": (320, 110, 90, 44, "inbox", "adds signals up"),
    "journal": (435, 110, 90, 44, "journal", "fact first"),
    "decide": (550, 110, 100, 44, "core.decide", "pure, says why"),
    "launch": (720, 110, 100, 44, "launch", "TorchX"),
    "agent": (840, 110, 100, 44, "node agent", "one per node"),
    "workers": (840, 210, 100, 44, "workers", "import lastgood"),
    "checkpoints": (720, 210, 100, 44, "checkpoints", "digest first"),
    "story": (320, 210, 205, 44, "story", "CLI, alerts, ledger"),
    "runbooks": (550, 210, 100, 44, "runbooks/", "are the policy"),
}
ARROWS = (
    ("sense", "detect", "signals"),
    ("detect", "inbox", "incidents"),
    ("inbox", "journal", "events"),
    ("journal", "decide", ""),
    ("decide", "launch", "actions"),
    ("launch", "agent", ""),
    ("agent", "workers", ""),
    ("workers", "checkpoints", ""),
    ("journal", "story", ""),
    ("runbooks", "decide", ""),
)
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1f2933}.small{font-size:10.5px;fill:#52606d}"
    ".label{font-size:11px;fill:#0b69a3}"
    ".room{fill:#f5f7fa;stroke:#cbd2d9}.box{fill:#fff;stroke:#3e4c59;stroke-width:1.2}.arrow{stroke:#0b69a3;stroke-width:1.5;fill:none}"
)


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "middle") -> str:
    return f'<text x="{x}" y="{y}" class="{kind}" text-anchor="{anchor}">{text}</text>'


def _box(name: str) -> str:
    x, y, width, height, title, note = BOXES[name]
    return (
        f'<rect class="box" x="{x}" y="{y}" width="{width}" height="{height}" rx="6"/>'
        + _text(x + width / 2, y + 19, title)
        + _text(x + width / 2, y + 35, note, "small")
    )


def _arrow(start: str, end: str, label: str) -> str:
    ax, ay, aw, ah, *_ = BOXES[start]
    bx, by, bw, bh, *_ = BOXES[end]
    if abs(ay - by) < ah:  # side by side
        right = bx > ax
        points = (ax + aw if right else ax, ay + ah / 2, bx if right else bx + bw, by + bh / 2)
    else:
        down = by > ay
        points = (ax + aw / 2, ay + ah if down else ay, max(bx, min(ax + aw / 2, bx + bw)), by if down else by + bh)
    x1, y1, x2, y2 = points
    line = f'<path class="arrow" marker-end="url(#tip)" d="M{x1},{y1} L{x2},{y2}"/>'
    return line + (_text((x1 + x2) / 2, min(y1, y2) - 26, label, "label") if label else "")


def draw() -> str:
    """The picture as SVG."""
    rooms = "".join(
        f'<rect class="room" x="{x}" y="{y}" width="{w}" height="{h}" rx="10"/>'
        + _text(x + 14, y + 24, title, anchor="start")
        + _text(x + 14, y + 42, question, "small", anchor="start")
        for x, y, w, h, title, question in ROOMS
    )
    back = (
        f'<path class="arrow" marker-end="url(#tip)" d="M890,254 L890,340 L85,340 L85,154"/>'
        f"{_text(490, 332, 'steps, losses, exits, saves', 'label')}"
    )
    tip = (
        '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" fill="#0b69a3"/></marker>'
    )
    body = rooms + "".join(_arrow(*arrow) for arrow in ARROWS) + "".join(_box(name) for name in BOXES) + back
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="The way of the data through lastgood"><style>{STYLE}</style><defs>{tip}</defs>'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>{body}</svg>\n'
    )


if __name__ == "__main__":
    Path(__file__).with_name("way.svg").write_text(draw())
