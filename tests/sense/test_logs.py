"""Is a step found in any output, and does no output harm the reader?"""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from monitors.sense.logs import LINE_BYTES, READ_BYTES, Found, Logs, Tail, search

PATTERN = r"step[ =]*(?P<step>[\d,]+).*?loss[ =]*(?P<loss>\S+)(.*?norm (?P<grad_norm>\S+))?"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("step 12 loss 3.5", Found(step=12, loss=3.5, grad_norm=None)),
        ("[rank 0] step=1,200 lr 1e-3 loss=nan norm inf", Found(step=1200, loss=float("nan"), grad_norm=float("inf"))),
        ("step 3 loss -", Found(step=3, loss=None, grad_norm=None)),
        ("step , loss 2", None),
        ("step 9007199254740992 loss 2", Found(step=2**53, loss=2.0, grad_norm=None)),
        ("step 20261129231557123456 loss 2", None),
        ("nothing", None),
    ],
)
def test_what_a_line_says(line: str, found: Found | None) -> None:
    assert repr(search(re.compile(PATTERN), line)) == repr(found)


def test_lines_come_whole_and_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    tail = Tail(path)
    assert tail.read() == (False, [])
    path.write_bytes(b"one\ntw")
    assert tail.read() == (True, ["one"])
    assert tail.read() == (False, [])
    with path.open("ab") as file:
        file.write(b"o\r 10%|#\r 20%|##\r\n\nend\n")
    assert tail.read() == (True, ["two", " 10%|#", " 20%|##", "end"])


def test_a_truncated_file_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    tail = Tail(path)
    path.write_text("a long first line\nrest")
    tail.read()
    path.write_text("new\n")
    assert tail.read() == (True, ["new"])


def test_an_endless_line_costs_little_and_hides_nothing(tmp_path: Path) -> None:
    path = tmp_path / "stdout.log"
    path.write_bytes(b"x" * 10_000_000 + b"\nstep 5 loss 1\n" + bytes(range(256)) * 100 + b"\nstep 6 loss 1\n")
    logs = Logs(tmp_path, PATTERN)
    steps: list[int] = []
    began_s = time.process_time()
    for _ in range(path.stat().st_size // READ_BYTES + 1):
        moved, found = logs.read()
        assert moved
        steps += [one.step for one in found]
    assert steps == [5, 6]
    assert time.process_time() - began_s < 1.0
    assert logs.read() == (False, [])


def test_what_is_kept_of_a_line_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"y" * (3 * LINE_BYTES) + b"\n")
    assert [len(line) for line in Tail(path).read()[1]] == [LINE_BYTES]
