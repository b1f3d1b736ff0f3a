"""Which lines of which files `lastgood logs` shows."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.cli.conftest import DONE, HELD, RUN, Say


@pytest.fixture(autouse=True)
def _ranks_wrote(home: Path) -> None:
    for world in (1, 2):
        for rank in (0, 1):
            folder = home / "runs" / RUN / "attempts" / "001" / "node0" / f"w{world}" / f"rank{rank}"
            folder.mkdir(parents=True)
            lines = [f"w{world} r{rank} line {number}\n" for number in range(5)]
            (folder / "stdout.log").write_text("".join(lines))
            (folder / "stderr.log").write_text(f"w{world} r{rank} warned\n")


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--tail", "1"], ["w2 r0 line 4", "w2 r0 warned"]),
        (["--stderr"], ["w2 r0 warned"]),
        (["--grep", "line [12]$"], ["w2 r0 line 1", "w2 r0 line 2"]),
        (["--rank", "1", "--stderr"], ["w2 r1 warned"]),
        (["--rank", "culprit", "--stderr"], ["w1 r1 warned"]),
        (["--world", "1", "--tail", "1", "--grep", "line"], ["w1 r0 line 4"]),
        (["--world", "all", "--stderr"], ["[a1w1 rank0] w1 r0 warned", "[a1w2 rank0] w2 r0 warned"]),
        (["--rank", "all", "--stderr"], ["[a1w2 rank0] w2 r0 warned", "[a1w2 rank1] w2 r1 warned"]),
    ],
    ids=" ".join,
)
def test_the_lines_that_are_asked_for(words: list[str], shown: list[str], say: Say) -> None:
    result = say("logs", RUN, *words)
    assert (result.exit_code, result.stdout.splitlines()) == (0, shown), result.output


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--rank", "culprit"], ["w1 r1 warned"]),
        (["--world", "1"], ["w1 r0 warned"]),
        ([], ["w3 r0 warned"]),
        (["--world", "all"], ["w3 r0 warned"]),
        (["--attempt", "1"], ["w2 r0 warned"]),
    ],
    ids=" ".join,
)
def test_a_world_of_an_older_attempt_is_found_there(words: list[str], shown: list[str], say: Say, home: Path) -> None:
    folder = home / "runs" / RUN / "attempts" / "002" / "node0" / "w3" / "rank0"
    folder.mkdir(parents=True)
    (folder / "stderr.log").write_text("w3 r0 warned\n")
    result = say("logs", RUN, "--stderr", *words)
    assert (result.exit_code, result.stdout.splitlines()) == (0, shown), result.output


def test_json_says_whose_each_line_is(say: Say) -> None:
    (line,) = say("logs", RUN, "--stderr", "--json").stdout.splitlines()
    assert json.loads(line) == {"attempt": 1, "world": 2, "rank": 0, "stream": "stderr", "text": "w2 r0 warned"}


def test_bytes_that_are_no_text_are_shown_too(say: Say, home: Path) -> None:
    log = home / "runs" / RUN / "attempts" / "001" / "node0" / "w2" / "rank0" / "stderr.log"
    log.write_bytes(b"half \xff\xfe\nrest without an end")
    assert say("logs", RUN, "--stderr").stdout.splitlines() == ["half \ufffd\ufffd", "rest without an end"]


def test_old_files_are_left_out(say: Say, home: Path) -> None:
    for path in (home / "runs" / RUN).rglob("*.log"):
        os.utime(path, (1, 1))
    result = say("logs", RUN, "--since", "10m")
    assert result.exit_code == 102


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--rank", "first"], "'first' is neither a number, nor `culprit`, nor `all`"),
        (["--grep", "("], "is not a regular expression"),
        (["--since", "soon"], "needs a form like 90s, 10m, 2h or 1d"),
        (["--world", "new"], "'new': needs a number, or `all`"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_asked_is_a_usage_error(words: list[str], why: str, say: Say) -> None:
    result = say("logs", RUN, *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert why in result.stderr


def test_what_is_not_there_is_said_with_what_is(say: Say) -> None:
    assert "the newest is attempt 1, world 2, ranks [0, 1]" in say("logs", RUN, "--rank", "9").stderr
    assert "no rank was started yet" in say("logs", HELD).stderr
    assert "no incident names a rank" in say("logs", DONE, "--rank", "culprit").stderr


def test_the_supervisors_log(say: Say, home: Path) -> None:
    (home / "supervisor.log").write_text("a\nb\nc\n")
    assert say("logs", RUN, "--supervisor", "--tail", "2").stdout == "b\nc\n"


def test_following_a_run_that_has_ended_shows_everything_and_ends(say: Say, home: Path) -> None:
    folder = home / "runs" / DONE / "attempts" / "001" / "node0" / "w1" / "rank0"
    folder.mkdir(parents=True)
    (folder / "stdout.log").write_text("only line\n")
    assert say("logs", DONE, "-f").stdout == "[a1w1 rank0] only line\n"
