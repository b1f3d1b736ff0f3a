"""Is what a rank says heard once, in time, and whatever it writes besides?"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from lastgood import progress
from monitors.sense.progress import RankSense, Where
from monitors.sense.utterances import END_BYTES, LOOK_BYTES, LOOK_EVERY_S, Utterances
from monitors.signals import RankProgress, RankSaid

TIMEOUT = "[E ProcessGroupNCCL.cpp:607] [Rank 4] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=7)\n"
ECC = "RuntimeError: CUDA error: uncorrectable ECC error encountered\n"
TRACE = 'Traceback (most recent call last):\n  File "t.py", line 3, in <module>\n    f()\nValueError: bad shape\n'


class Rank:
    """A rank that prints, and the one who listens."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._now = 100.0
        self.ear = Utterances(folder, node=1, world=3, rank=9)

    def prints(self, text: str, name: str = "stderr.log") -> None:
        with (self._folder / name).open("a") as file:
            file.write(text)

    def heard(self, step: int = 0) -> list[RankSaid]:
        self._now += LOOK_EVERY_S
        return self.ear.look(self._now, step)

    def faults(self) -> list[str]:
        return [said.fault for said in self.heard()]


@pytest.fixture
def rank(tmp_path: Path) -> Rank:
    return Rank(tmp_path)


def test_a_class_of_faults_is_told_once_with_its_place(rank: Rank) -> None:
    assert rank.heard() == []
    rank.prints("step 1 loss 2\n" + TIMEOUT + TIMEOUT)
    (said,) = rank.heard(step=41)
    assert (said.fault, said.role, said.retryable, said.step) == ("nccl_timeout", "symptom", True, 41)
    assert (said.node, said.world, said.rank, said.at) == (1, 3, 9, 100.0 + 2 * LOOK_EVERY_S)
    assert said.text == TIMEOUT.strip()
    rank.prints(TIMEOUT.replace("SeqNum=7", "SeqNum=9") + ECC)
    assert rank.faults() == ["gpu_ecc"]
    assert rank.ear.end(200.0, 41) == []


def test_both_files_are_read_and_half_lines_are_waited_for(rank: Rank) -> None:
    rank.prints(ECC[:20])
    rank.prints("n1:1:2 [0] NCCL WARN NET/IB : Got completion with status=12 opcode=0\n", "stdout.log")
    assert rank.faults() == ["ib_retry_exceeded"]
    rank.prints(ECC[20:])
    assert rank.faults() == ["gpu_ecc"]


def test_a_progress_bar_hides_nothing(rank: Rank) -> None:
    rank.prints("".join(f"Epoch 3: {n}%|###    | {n}/100 [00:01<01:00]\r" for n in range(100)) * 3)
    assert rank.faults() == []
    rank.prints(ECC)
    assert rank.faults() == ["gpu_ecc"]


def test_innocent_output_says_nothing(rank: Rank) -> None:
    rank.prints("W destroy_process_group() was not called, error\nNCCL INFO error -> 3\nvalidation error 0.2\n")
    assert rank.heard() == rank.heard() == rank.ear.end(200.0, 0) == []


def test_a_traceback_counts_when_nothing_comes_after_it(rank: Rank) -> None:
    rank.prints(TRACE)
    assert rank.heard() == []
    (said,) = rank.heard()
    assert (said.fault, said.role, said.retryable, said.text) == (
        "python_exception",
        "root",
        False,
        "ValueError: bad shape",
    )


def test_a_handled_traceback_that_the_rank_goes_on_after_is_no_end(rank: Rank) -> None:
    rank.prints(TRACE)
    assert rank.heard() == []
    rank.prints("retrying\n")
    assert rank.heard() == []


def test_what_the_running_look_does_not_know_is_known_at_the_end(rank: Rank) -> None:
    rank.prints("train.py: unrecognized arguments: --lrr\n")
    assert rank.heard() == []
    (said,) = rank.ear.end(200.0, 0)
    assert (said.fault, said.retryable) == ("config_error", False)


def test_a_rank_that_floods_is_heard_by_its_newest_output(rank: Rank) -> None:
    rank.prints("x" * 79 + "\n")
    rank.heard()
    rank.prints(("error " * 13 + "\n") * (3 * LOOK_BYTES // 79) + ECC)
    assert rank.faults() == ["gpu_ecc"]
    rank.prints(TIMEOUT + "y" * (2 * LOOK_BYTES) + "\n")
    assert rank.faults() == []


def test_a_flood_of_telling_lines_costs_a_bounded_time(rank: Rank) -> None:
    rank.heard()
    rank.prints("".join(f"NCCL WARN error {chr(97 + n % 26) * (n % 50)} {n}\n" for n in range(400_000)))
    began_s = time.process_time()
    heard = rank.heard() + rank.ear.end(200.0, 0)
    assert time.process_time() - began_s < 0.5
    assert len(heard) == len({said.fault for said in heard})


def test_a_truncated_log_and_one_that_is_gone_harm_nobody(rank: Rank, tmp_path: Path) -> None:
    rank.prints("a long line that is soon gone\n" * 9)
    rank.heard()
    (tmp_path / "stderr.log").write_text(ECC)
    assert rank.faults() == ["gpu_ecc"]
    (tmp_path / "stderr.log").unlink()
    assert rank.heard() == rank.ear.end(200.0, 0) == []


def test_bytes_that_are_no_text_are_read_over(rank: Rank, tmp_path: Path) -> None:
    (tmp_path / "stderr.log").write_bytes(bytes(range(256)) * 400 + b"\n" + ECC.encode() + b"\xff" * END_BYTES)
    rank.heard()
    (tmp_path / "stdout.log").write_bytes(b"\x00error\n" * 10 + ECC.encode())
    assert rank.faults() == ["gpu_ecc"]


def test_looks_between_the_times_cost_nothing(rank: Rank) -> None:
    rank.prints(ECC)
    assert [said.fault for said in rank.ear.look(500.0, 0)] == ["gpu_ecc"]
    rank.prints(TIMEOUT)
    assert rank.ear.look(500.0 + LOOK_EVERY_S / 2, 0) == []


def test_the_sense_of_a_rank_tells_it_before_the_rank_is_told_dead(tmp_path: Path) -> None:
    progress.create(str(tmp_path / "progress"), capacity=64)
    where = Where(node=0, world=3, rank=1)
    sense = RankSense(where, progress=tmp_path / "progress", folder=tmp_path, pattern=None, at=100.0)
    assert not [s for s in sense.look(100.0) if isinstance(s, RankSaid)]
    (tmp_path / "stderr.log").write_text(TRACE)
    signals = sense.look(100.01, final=True)
    assert [s.fault for s in signals if isinstance(s, RankSaid)] == ["python_exception"]
    assert any(isinstance(s, RankProgress) for s in signals)
    sense.close()
