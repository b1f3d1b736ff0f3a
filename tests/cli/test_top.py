"""What does `lastgood top` show of recorded runs, at 80 columns and others, and does it obey the keys of a terminal?"""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from monitors.incidents import Kind
from monitors.signals import Phase, RankProgress, RanksReported
from orchestrator.cli import lastgood
from orchestrator.cli.top_bars import LOOKS, curve
from orchestrator.cli.top_frame import frame
from orchestrator.cli.top_sight import Reader, Sight
from orchestrator.journal import Journal
from orchestrator.roster import Roster
from orchestrator.spans import Bucket
from tests.cli.conftest import DONE, HELD, RUN, Say
from tests.metrics.stage import looked, row
from tests.story.scripted import PLAN, T0, Script

WIDTHS = (40, 80, 81, 132, 220)
RUNS = (RUN, HELD, DONE)
LONG = "the-longest-name-that-anybody-ever-gave-to-a-run-of-theirs-abcde"


def sight(home: Path, run: str, at: float = T0 + 70) -> Sight:
    reader = Reader(home, run)
    found = reader.look(at)
    reader.close()
    return found


def ranks(number: int = 1024) -> dict[str, list[object]]:
    """A thousand ranks: 7 lags, 900 computes slowly, the GPU of 13 is hot."""
    roster = Roster(ranks=number, ranks_per_node=8, rank_of=lambda node, index: node * 8 + index)
    roster.began(1)
    for rank in range(number):
        step = 98 if rank == 7 else 100
        seen = RankProgress(
            at=T0, node=rank // 8, world=1, rank=rank, step=step, phase=Phase.STEP, moved_at=T0, spent_s=()
        )
        roster.see(seen)
        look = looked(rank // 8, rank % 8)
        roster.see(replace(look, temperature_c=91.0 if rank == 13 else 61.0))
    own_s = tuple(0.5 if rank == 900 else 0.1 for rank in range(number))
    roster.see(RanksReported(at=T0, node=0, world=1, step=100, ranks=tuple(range(number)), own_s=own_s))
    return roster.table([7])


def text(shown: Sight, *, width: int = 80, height: int | None = None, runs: object = ()) -> list[str]:
    return [line.plain for line in frame(shown, list(runs), width=width, height=height)]  # type: ignore[call-overload]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("height", [None, 10, 24, 60])
@pytest.mark.parametrize("run", RUNS)
def test_no_line_is_wider_and_no_frame_higher_than_the_terminal(
    home: Path, run: str, width: int, height: int | None
) -> None:
    shown = replace(sight(home, run), ranks=ranks())
    runs = [(LONG, "RUNNING"), (run, "HELD"), *((f"gpt-{n:05d}", "RUNNING") for n in range(30))]
    lines = frame(shown, runs, width=width, height=height)
    assert max(line.cell_len for line in lines) <= width
    assert height is None or len(lines) <= height
    assert not [line.plain for line in lines if "\n" in line.plain]


def test_a_frame_has_the_essentials_of_the_run_page(home: Path) -> None:
    lines = text(sight(home, RUN))
    whole = "\n".join(lines)
    assert lines[0].startswith(f"{RUN}  RUNNING  attempt 1, world 2, 2 ranks")
    for part in (
        "world 2 is training, since",
        "step 31   loss 2.25",
        "last good checkpoint: step 10",
        "saves every 10 steps",
        "1 restart",
        "time  █",
        "productive",
        "\na1    ",
        "i1  ",
        "worker_killed  node 0 rank 1",
        "drill",
        "next: no supervisor",
        "ranks  not known: no supervisor answers",
    ):
        assert part in whole, part


def test_what_a_person_has_to_do_for_a_held_run_is_said(home: Path) -> None:
    whole = "\n".join(text(sight(home, HELD)))
    assert f"{HELD}  HELD" in whole
    assert f"next: lastgood story {HELD}; then lastgood resume {HELD}" in whole
    assert "open: i1" in whole


def test_the_slowest_then_the_hottest_ranks_stand_first(home: Path) -> None:
    lines = text(replace(sight(home, RUN), ranks=ranks()), height=30)
    at = next(n for n, line in enumerate(lines) if "RANK" in line)
    assert [line.split()[0] for line in lines[at + 1 : at + 4]] == ["7", "900", "13"]
    assert lines[at + 1].endswith("culprit")
    assert "91C" in lines[at + 3]
    assert any(re.fullmatch(r"and \d+ ranks more, less slow and less hot", line) for line in lines)


def test_a_bar_is_as_long_as_its_time(home: Path) -> None:
    for width in WIDTHS:
        shown = sight(home, DONE)
        bar = next(line for line in text(shown, width=width) if line.startswith("time  "))
        assert len(bar) == width
        wall_s, room = shown.ledger.wall_s, width - 6
        for bucket, spent_s in shown.ledger.buckets.items():
            letter, _ = LOOKS[bucket]
            assert abs(bar[6:].count(letter) - room * spent_s / wall_s) <= len(Bucket) / 2


def test_the_lane_of_an_attempt_shows_each_stretch_in_its_place(home: Path) -> None:
    with Journal(home / "journal.db") as journal:
        script = Script(journal, run="gpt-lanes").join(10.0).begin(0, start_s=10, restore_s=10).train(200).save()
        script.train(200).fail(Kind.HANG, detect_s=10.0).stop(10.0).begin(200, start_s=10, restore_s=10).train(100)
    lane = next(line for line in text(sight(home, "gpt-lanes", script.now), width=126) if line.startswith("a1"))
    assert re.fullmatch(r"a1    ·{8,10}s{8,10}r{8,10}█{18,20}x{18,20}h{8,10}R{8,10}s{8,10}r{8,10}█{8,10}", lane), lane


def test_every_bucket_has_a_letter_of_its_own() -> None:
    assert set(LOOKS) == set(Bucket)
    assert len({letter for letter, _ in LOOKS.values()}) == len(Bucket)


def test_the_curve_falls_with_the_loss_and_shows_what_is_not_finite() -> None:
    assert curve([4.0, 3.0, 2.0, 1.0], 80).plain == "loss  █▆▃▁  1 to 4"
    assert curve([2.0, float("nan"), 1.0], 80).plain == "loss  █!▁  1 to 2"
    assert curve([1.5, 1.5], 80).plain == "loss  ▁▁  1.5 to 1.5"
    assert len(curve([float(n) for n in range(500)], 80).plain) <= 80


def test_steps_that_were_rolled_back_leave_the_curve(home: Path) -> None:
    with Journal(home / "journal.db") as journal:
        script = Script(journal, run="gpt-curve", plan=PLAN).join().begin(0).train(10).save().train(10)
        journal.add_rows("gpt-curve", [replace(row(script, step), loss=9.0) for step in range(1, 21)])
        script.fail(Kind.NONFINITE_LOSS).stop().begin(10).train(5)
        journal.add_rows("gpt-curve", [replace(row(script, step), loss=1.0) for step in range(11, 16)])
    assert sight(home, "gpt-curve").losses == (9.0,) * 10 + (1.0,) * 5


def test_a_pipe_gets_one_frame_without_colours(say: Say) -> None:
    for words in (("top", RUN), ("top", RUN, "--once")):
        result = say(*words)
        assert result.exit_code == 0, result.output
        assert result.stdout.startswith(f"{RUN}  RUNNING")
        assert "\x1b" not in result.stdout
        assert max(map(len, result.stdout.splitlines())) <= 80


def test_without_a_name_it_is_the_newest_run_that_has_not_ended(say: Say) -> None:
    assert say("top").stdout.startswith(HELD)
    assert say("top", "-").stdout.startswith(DONE)
    missing = say("top", "nope")
    assert (missing.exit_code, missing.stdout) == (102, "")


# On a terminal


class Terminal:
    """A pseudo-terminal with `lastgood top` in it."""

    def __init__(self, home: Path, *words: str, columns: int = 80, rows: int = 24, **env: str) -> None:
        self.master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (rows, columns))
        self.before = termios.tcgetattr(slave)
        clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", "from orchestrator.cli import main; main()", "top", *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**clean, "LASTGOOD_HOME": str(home), "TERM": "xterm-256color", "TZ": "UTC", **env},
            start_new_session=True,
        )
        self.slave = slave
        self.said = ""

    def until(self, found: Callable[[str], object], most_s: float = 60.0) -> str:
        """Read on until what came since the last call holds it; returns that."""
        deadline, since = time.monotonic() + most_s, len(self.said)
        while not found(self.said[since:]):
            assert time.monotonic() < deadline, self.said[since:]
            if select.select([self.master], [], [], 0.1)[0]:
                self.said += os.read(self.master, 65536).decode(errors="replace")
        return self.said[since:]

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal(home: Path) -> Iterator[Callable[..., Terminal]]:
    began: list[Terminal] = []

    def begin(*words: str, **more: object) -> Terminal:
        began.append(Terminal(home, *words, **more))  # type: ignore[arg-type]
        return began[-1]

    yield begin
    for one in began:
        one.close()


def plain(said: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said)


def test_on_a_terminal_it_is_live_and_its_keys_work(terminal: Callable[..., Terminal]) -> None:
    screen = terminal(RUN)
    first = screen.until(lambda said: "ranks  not known" in plain(said) and "q quit" in plain(said))
    assert "\x1b[?1049h" in first, "a screen of its own, that leaves no trace"
    assert "\x1b[1;32mRUNNING" in first
    assert all(len(line) <= 80 for line in plain(first).splitlines())
    screen.press("p")
    screen.until(lambda said: "HELD   q quit" in plain(said))
    screen.press("p")
    screen.until(lambda said: "q quit" in plain(said) and "HELD   q" not in plain(said))
    screen.press("2")
    screen.until(lambda said: "crash_loop" in plain(said))
    screen.press("\x1b[A")
    screen.until(lambda said: "worker_killed" in plain(said))
    screen.press("q")
    screen.until(lambda said: "\x1b[?1049l" in said)
    assert screen.process.wait(30) == 0
    assert termios.tcgetattr(screen.slave) == screen.before, "the terminal is as it was"


def test_it_follows_a_run_that_goes_on(terminal: Callable[..., Terminal], home: Path) -> None:
    with Journal(home / "journal.db") as journal:
        script = Script(journal, run="gpt-livee").join().begin(0).train(10)
        screen = terminal("gpt-livee")
        screen.until(lambda said: "step 10" in plain(said))
        script.train(7)
        screen.until(lambda said: "step 17" in plain(said))


def test_ctrl_c_ends_it_and_gives_the_terminal_back(terminal: Callable[..., Terminal]) -> None:
    screen = terminal(HELD)
    screen.until(lambda said: "q quit" in plain(said))
    os.kill(screen.process.pid, signal.SIGINT)
    screen.until(lambda said: "\x1b[?1049l" in said)
    assert screen.process.wait(30) in (0, 130)
    assert termios.tcgetattr(screen.slave) == screen.before


def test_no_color_is_heard(terminal: Callable[..., Terminal]) -> None:
    screen = terminal(RUN, NO_COLOR="1")
    said = screen.until(lambda said: "q quit" in plain(said))
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", said)


def test_a_state_folder_without_runs_says_so(tmp_path: Path) -> None:
    result = CliRunner().invoke(lastgood, ["top"], env={"LASTGOOD_HOME": str(tmp_path / "none")})
    assert result.exit_code == 102
    assert "no run was ever submitted" in result.stderr
