"""Do lines say the same, whoever shipped, coloured or prefixed them?"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from monitors.catalogue.kernel import read
from monitors.catalogue.kernel_prefix import bare
from monitors.catalogue.signatures import judge
from monitors.catalogue.wrapping import unwrapped, visible
from tests.sense.said import SAID
from tests.sense.test_kernel_catalogue import LINES

Wrap = Callable[[str], str]

KERNEL = [line.replace("\\n", "\n") for _, _, line in LINES if line[:1] not in "[<{kern" and bare(line) == line]
STAMP = "2026-01-01T10:00:00.123456789Z"
BOTH: dict[str, Wrap] = {
    "docker": lambda line: json.dumps({"log": f"{line}\n", "stream": "stderr", "time": STAMP}),
    "docker in kubernetes": lambda line: f"{STAMP} stderr F " + json.dumps({"level": "error", "msg": line}),
    "logger": lambda line: json.dumps({"timestamp": STAMP, "message": line}),
    "journald": lambda line: json.dumps({"_HOSTNAME": "n7", "PRIORITY": "4", "MESSAGE": line}),
    "journald, bytes": lambda line: json.dumps({"MESSAGE": list(f"\x1b[31m{line}".encode()), "PRIORITY": "4"}),
    "containerd": lambda line: f"{STAMP} stderr F {line}",
    "kubectl": lambda line: f"[pod/trainer-0/main] {STAMP} {line}",
    "compose": lambda line: f"trainer-0  | {line}",
    "bracket": lambda line: f"[2026-01-01 10:00:00] {line}",
    "colours": lambda line: f"\x1b[1;31m{line}\x1b[0m\x1b[K",
    "colour before a time": lambda line: f"\x1b[32m2026-01-01 10:00:00,123 \x1b[0m{line}",
    "windows": lambda line: f"{line}\r",
    "no utf-8": lambda line: f"\ufffd{line}\ufffd",
    "a buffer's rest": lambda line: f"{line}\x00\x00",
    "mpirun": lambda line: f"[1,3]<stderr>:{line}",
    "mpirun with a blank": lambda line: f"[1,3]<stderr>: {line}",
    "pdsh": lambda line: f"node07: {line}",
    "pdsh, long name": lambda line: f"gpu-a12.cluster.local: {line}",
    "rank": lambda line: f"[rank3]: {line}",
    "pdsh, time and rank": lambda line: f"node07: {STAMP} [rank3]: {line}",
}
OUTPUT: dict[str, Wrap] = {
    "torchrun --tee": lambda line: f"[default3]:{line}",
    "ray": lambda line: f"\x1b[36m(TrainWorker pid=77, ip=10.0.0.1)\x1b[0m {line}",
    "syslog": lambda line: f"Jan  1 10:00:00 n7 python3[4411]: {line}",
    "logging": lambda line: f"2026-01-01 10:00:00,123 - trainer - ERROR - {line}",
    "torchx": lambda line: f"trainer/0 {line}",
}


def _kernel(line: str) -> tuple[str | None, str] | None:
    found = read(line)
    return None if found is None else (found.fault, found.action)


def _output(text: str) -> tuple[str, str]:
    found = judge(text)
    return ("none", "none") if found is None or found.role == "none" else (found.fault, found.role.value)


@pytest.mark.parametrize("wrap", BOTH.values(), ids=BOTH)
def test_a_kernel_line_says_the_same_in_any_wrapping(wrap: Wrap) -> None:
    assert len(KERNEL) > 700
    assert [line for line in KERNEL if _kernel(wrap(line)) != _kernel(line)] == []


@pytest.mark.parametrize("wrap", (BOTH | OUTPUT).values(), ids=BOTH | OUTPUT)
def test_a_rank_says_the_same_in_any_wrapping(wrap: Wrap) -> None:
    texts = [one.text for one in SAID]
    wrapped = ["\n".join(map(wrap, text.split("\n"))) for text in texts]
    assert [text for text, other in zip(texts, wrapped, strict=True) if _output(other) != _output(text)] == []


def test_a_whole_traceback_may_be_one_json() -> None:
    for one in SAID:
        text = json.dumps({"level": "error", "message": "training failed", "exc_info": one.text})
        assert _output(text) == _output(one.text), one.text


def test_what_a_progress_bar_overwrote_is_read_too() -> None:
    bar = "".join(f"Epoch 3:  {n}%|####     | {n}/100 [00:{n:02d}<01:00]\r" for n in range(90))
    for one in SAID:
        assert _output(bar + one.text) == _output(one.text), one.text
    lost = "NVRM: GPU 0000:22:00.0: GPU has fallen off the bus."
    assert _kernel(bar + lost) == _kernel(lost) == ("gpu_lost", "reboot_node")


def test_ten_megabytes_behind_a_line_change_nothing() -> None:
    for line in ("NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus. ", "nvme nvme2: resetting controller "):
        assert _kernel(line + "x" * 10_000_000) == _kernel(line)
    assert _output("torch.OutOfMemoryError: CUDA out of memory. " + "x" * 10_000_000) == ("gpu_oom", "root")


def test_what_python_could_raise_nowhere_ended_nothing() -> None:
    aside = (
        'Exception ignored in: <function P.__del__ at 0x7f>\nTraceback (most recent call last):\n  File "a", line 1\n'
    )
    assert _output(f"{aside}OSError: [Errno 28] No space left on device") == ("cleanup_noise", "cascade")
    own = 'Traceback (most recent call last):\n  File "b", line 2\nKeyError: 7'
    assert _output(f"{own}\n{aside}OSError: [Errno 28] No space left on device") == ("python_exception", "root")
    assert _output(f"{aside}OSError: [Errno 9] Bad file descriptor\n{own}") == ("python_exception", "root")


def test_a_line_that_is_no_wrapping_stays_as_it_is() -> None:
    for line in ('{"step": 1, "loss": 2.5}', "{1}[Hardware Error]: event severity: fatal", "{}", '{"msg": 3}', "x"):
        assert unwrapped(line) == line
    assert visible("a\x1b]0;title\x07b\r\nc\rd") == "ab\nc\nd"
    assert unwrapped('{"log": "cut in an escape \\u00') == "cut in an escape \\u00"
    for disk in ("ata3.00: failed command: READ FPDMA QUEUED", "md0: attempt to access beyond end of device"):
        found = read(disk)
        assert found is not None
        assert found.text == disk, "a disk is no host"


HEAVY = [
    '{"msg": "',
    '{"log":"{\\"log\\":\\"',
    '{"msg":"\\u00',
    '{"msg": "x"}',
    "\r",
    "\x1b]",
    "x| ",
    "a1: ",
    '{"MESSAGE":[1, ',
]


@pytest.mark.parametrize("unit", HEAVY)
def test_no_wrapping_costs_much(unit: str) -> None:
    long = unit * (10_000_000 // len(unit))
    for ask, limit_s in ((read, 0.05), (judge, 0.2)):
        spent_s = []
        for _ in range(3):
            began_s = time.process_time()
            ask(long)
            ask(f'{{"log":"{long}')
            spent_s.append((time.process_time() - began_s) / 2)
        assert min(spent_s) < limit_s
