"""Is a log shown as it is, a piece at a time, whatever is in it and however long it is?"""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.api import logfiles
from orchestrator.api.logfiles import NoLog, Wanted, inert, lines, source

RUN = "gpt-abcde"


def written(root: Path, body: bytes, rank: int = 0) -> logfiles.Source:
    folder = root / "runs" / RUN / "attempts" / "001" / "node0" / "w1" / f"rank{rank}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stdout.log").write_bytes(body)
    return source(root, RUN, f"1/0/1/{rank}/stdout")


def texts(answer: dict[str, object]) -> list[str]:
    return [line[1] for line in answer["lines"]]  # type: ignore[attr-defined]


def test_the_last_lines_then_the_ones_before_then_what_comes(tmp_path: Path) -> None:
    log = written(tmp_path, b"".join(b"line %d\n" % n for n in range(1000)))
    last = lines(tmp_path, RUN, log, Wanted(count=3))
    assert texts(last) == ["line 997", "line 998", "line 999"]
    before = lines(tmp_path, RUN, log, Wanted(count=2, before=last["first"]))
    assert texts(before) == ["line 995", "line 996"]
    assert before["more"]
    with log.path.open("ab") as file:
        file.write(b"line 1000\nhalf a li")
    new = lines(tmp_path, RUN, log, Wanted(start=last["next"]))
    assert texts(new) == ["line 1000"], "the rest of the last line is still to come"
    with log.path.open("ab") as file:
        file.write(b"ne\n")
    assert texts(lines(tmp_path, RUN, log, Wanted(start=new["next"]))) == ["half a line"]


@settings(max_examples=60, deadline=None)
@given(body=st.binary(max_size=600), count=st.integers(1, 7))
def test_pages_forward_and_back_show_every_line_once(
    tmp_path_factory: pytest.TempPathFactory, body: bytes, count: int
) -> None:
    root = tmp_path_factory.mktemp("log")
    log = written(root, body)
    whole = [inert(raw) for raw in body.split(b"\n")]
    if (whole and body.endswith(b"\n")) or not body:
        whole.pop()
    back: list[str] = []
    before = len(body)
    while True:
        page = lines(root, RUN, log, Wanted(count=count, before=before))
        back = texts(page) + back
        before = page["first"]
        if not page["more"]:
            break
    assert back == whole
    ahead: list[str] = []
    start = 0
    while True:
        page = lines(root, RUN, log, Wanted(count=count, start=start))
        ahead += texts(page)
        if page["next"] == start:
            break
        start = page["next"]
    finished = whole if body.endswith(b"\n") or not body else whole[:-1]
    assert ahead == finished


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_a_line_is_text_that_does_nothing(raw: bytes) -> None:
    text = inert(raw)
    assert not logfiles.UNSEEN.search(text)
    assert text.encode().decode() == text


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"\x1b[31mred\x1b[0m \x1b]0;title\x07x", "red x"),
        (b" 10%\r 50%\r100%\r", "100%"),
        (b"<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("ab\u202ecd\u2066".encode(), "abcd"),
        (b"caf\xe9 \xff", "caf\ufffd \ufffd"),
        (b"tab\there\x00", "tab\there"),
    ],
)
def test_what_terminals_would_do_is_done_or_left_out(raw: bytes, text: str) -> None:
    assert inert(raw) == text


def test_a_million_lines_and_a_line_without_end_take_no_memory(tmp_path: Path) -> None:
    log = written(tmp_path, b"")
    with log.path.open("wb") as file:
        for n in range(1000):
            file.write(b"".join(b"%07d a line of a rank that says a lot\n" % (n * 1000 + m) for m in range(1000)))
        file.write(b"NEEDLE " + b"x" * (8 << 20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    last = lines(tmp_path, RUN, log, Wanted(count=5000))
    assert sum(len(text) for text in texts(last)) < 5000 * (logfiles.LINE_CHARACTERS + 1)
    found = lines(tmp_path, RUN, log, Wanted(count=2, start=0, text="0999999 A LINE"))
    assert texts(found)[:1] == ["0999999 a line of a rank that says a lot"]
    newest = lines(tmp_path, RUN, log, Wanted(count=3, text="needle"))
    assert texts(newest)[-1].startswith("NEEDLE xxx")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 64 * 1024, f"{grown} KiB"


def test_only_logs_of_the_run_are_read(tmp_path: Path) -> None:
    written(tmp_path, b"x")
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "stdout.log").write_text("secret")
    folder = tmp_path / "runs" / RUN / "attempts" / "001" / "node0" / "w1" / "rank5"
    folder.symlink_to(other)
    with pytest.raises(NoLog):
        lines(tmp_path, RUN, source(tmp_path, RUN, "1/0/1/5/stdout"), Wanted())
    assert [one.rank for one in logfiles.sources(tmp_path, RUN, attempt=None, node=None, world=None, rank=None)] == [0]
