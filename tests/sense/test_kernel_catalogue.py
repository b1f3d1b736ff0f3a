"""Does the catalogue say the right thing of any kernel line, in any form that logs have, and quickly of anything?"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from monitors.catalogue.kernel import ROWS, Catalogue, read
from monitors.catalogue.kernel_prefix import bare
from monitors.catalogue.kernel_rows import FAULTS, address, slot
from monitors.catalogue.sxid import SXIDS
from monitors.catalogue.xid import NVLINK5, XIDS
from tests.score.kernel import by_class, judge, overall, score

LINES = [
    line.split("|", 2)
    for line in (Path(__file__).parent.parent / "data" / "kernel_lines.txt").read_text().splitlines()
    if line and not line.startswith("#")
]
PREFIXES = (
    "",
    "[123456.789012] ",
    "[    0.000001] [ T1946] ",
    "[  991.5][ C12] ",
    "[Sun Feb 23 16:24:18 2025] ",
    "[Feb23 16:24] ",
    "[  +0.000012] ",
    "kern  :warn  : [123456.789012] ",
    "kern  :err   : 2025-01-21T04:41:44,285060+00:00 ",
    "May 19 07:08:57 node-17 kernel: [681228.938869] ",
    "May 19 07:08:57 node-17 kernel: ",
    "2025-01-21T04:41:44.285060+01:00 gpu.example.com kernel: ",
    "<4>1 2025-01-21T04:41:44.285060Z node-17 kernel - - - ",
    "6,3964,206764307,-;",
    "4,3964,206764307,-,caller=T1946;",
    "<4>[   77.5] ",
    "kernel: ",
)
XID_FORMS = (
    "NVRM: Xid ({pci}): {xid}, ",
    "NVRM: Xid (PCI:{pci}): {xid}, Ch 0000005a, ",
    "NVRM: Xid (PCI:{pci}): {xid}, pid=7194, Ch 0000005a, ",
    "NVRM: Xid (PCI:{pci}): {xid}, pid=7194, name=a::b: [c] d), Ch 5, ",
    "NVRM: Xid (PCI:{pci} GPU-I:05): {xid}, pid='<unknown>', name=<unknown>, ",
    "NVRM: Xid (PCI:{pci} GPU-I:02 GPU-CI:00): {xid}, pid=7194, name=python3, channel 0x00000002, ",
)


@pytest.mark.parametrize(("fault", "action", "line"), LINES)
def test_a_line_says_its_class_and_its_action(fault: str, action: str, line: str) -> None:
    assert judge(line.replace("\\n", "\n"), (fault, action)).said == (fault, action)


def test_there_are_lines_of_every_class() -> None:
    assert set(FAULTS) <= {fault for fault, _, _ in LINES}
    assert len(LINES) >= 250
    assert sum(fault == "none" for fault, _, _ in LINES) >= 80


@pytest.mark.parametrize("prefix", PREFIXES)
def test_every_log_writes_it_differently(prefix: str) -> None:
    wrong = []
    for fault, action, line in LINES:
        if not line.startswith(("[", "<", "{", "kern")) and bare(line) == line:
            said = judge(prefix + line.replace("\\n", "\n"), (fault, action)).said
            wrong += [(line, said)] if said != (fault, action) else []
    assert not wrong


@pytest.mark.parametrize("form", XID_FORMS)
@pytest.mark.parametrize("pci", ["0000:3b:00", "0018:0A:00"])
def test_every_number_in_every_form(form: str, pci: str) -> None:
    for code, xid in XIDS.items():
        if code in (154, *NVLINK5):  # their words decide
            continue
        found = read(form.format(pci=pci, xid=code) + "whatever the driver of next year says")
        assert found is not None
        assert (found.fault, found.xid, found.pci) == (xid.fault, code, pci.lower())
        assert found.action == (xid.action or FAULTS[xid.fault].action)
        assert found.pid == (7194 if "7194" in form else None)
        assert found.cascade == (code in (45, 171, 172))


@pytest.mark.parametrize("code", NVLINK5)
@pytest.mark.parametrize(("word", "fatal"), [("Fatal", True), ("Nonfatal", False), ("Non-fatal", False)])
def test_the_printed_word_decides_of_new_nvlinks(code: int, word: str, *, fatal: bool) -> None:
    found = read(f"NVRM: Xid (PCI:0009:0a:00): {code}, RLW_NEW_UNIT  {word}   XC0 i0 Link 01 (0x021425c6 0x00000000)")
    assert found is not None
    assert (found.fault, found.action) == (("nvlink_error", "reset_gpu") if fatal else ("nvlink_nonfatal", "observe"))
    silent = read(f"NVRM: Xid (PCI:0009:0a:00): {code}, something else")
    assert silent is not None
    assert silent.action == "observe", "nobody said that it is fatal"


@pytest.mark.parametrize("code", SXIDS)
def test_the_printed_word_decides_of_a_switch_and_its_details_are_nothing_new(code: int) -> None:
    line = f"nvidia-nvswitch0: SXid (PCI:0000:a2:00.0): {code:05d}, "
    for word, fault in (
        ("Fatal", "nvswitch_fatal"),
        ("Non-fatal", "nvswitch_nonfatal"),
        ("Correctable", "nvswitch_nonfatal"),
    ):
        found = read(f"{line}{word}, Link 28 whatever (First)")
        assert found is not None
        assert (found.fault, found.sxid, found.pci) == (fault, code, "0000:a2:00.0")
    assert read(f"{line}Severity 1 Engine instance 28 Sub-engine instance 00") is None
    assert read(f"{line}Data {{0x00140000, 0x00140000}}") is None


def test_the_verdict_of_the_driver_is_its_last_word_and_may_take_it_back() -> None:
    line = "NVRM: Xid (PCI:0000:9b:00): 154, pid=1, name=x, GPU recovery action changed from 0x2 (Reboot) to "
    said = [read(line + word) for word in ("0x0 (None)", "0x1 (GPU Reset Required)", "0x9 (Pray)", "0x2 ()")]
    assert [one.action for one in said if one] == ["none", "reset_gpu", "observe", "reboot_node"]
    assert said[0] is not None
    assert (said[0].fault, said[0].clears) == (None, "gpu_recovery_action")


def test_victim_disk_and_server_are_named() -> None:
    found = [
        read("Out of memory: Killed process 22222 (python3 -m a) total-vm:1kB"),
        read("I/O error, dev nvme0n1, sector 32545872 op 0x0:(READ)"),
        read("nfs: server store-3 not responding, still trying"),
        read("INFO: task pt (a):b:136986 blocked for more than 120 seconds."),
        read("pcieport 0000:15:01.0: AER: Corrected error received: 0000:16:00.0"),
    ]
    assert [(one.pid, one.subject, one.pci) for one in found if one] == [
        (22222, "python3 -m a", None),
        (None, "nvme0n1", None),
        (None, "store-3", None),
        (136986, "pt (a):b", None),
        (None, "", "0000:16:00.0"),
    ]


@pytest.mark.parametrize(
    ("text", "whole", "place"),
    [
        ("00000000:3B:00.0", "0000:3b:00.0", "0000:3b:00"),
        ("3b:00", "0000:3b:00", "0000:3b:00"),
        ("10000:e1:00.0", "10000:e1:00.0", "10000:e1:00"),
        (None, None, None),
    ],
)
def test_addresses_have_one_form(text: str | None, whole: str | None, place: str | None) -> None:
    assert (address(text), slot(text)) == (whole, place)


def test_every_row_has_a_class_and_nothing_of_the_tables_is_unknown() -> None:
    assert {row.fault or row.clears for row in ROWS} - {""} <= set(FAULTS)
    assert {xid.fault for xid in XIDS.values()} <= set(FAULTS)
    actions = {fault.action for fault in FAULTS.values()}
    assert {row.action for row in ROWS} | {xid.action for xid in XIDS.values()} - {""} <= actions | {""}
    assert set(XIDS) == set(range(1, 177))


def test_a_site_says_otherwise() -> None:
    body = {
        "faults": {"nvme_timeout": {"action": "isolate_node", "severity": "fatal"}},
        "xids": {"43": {"action": "none"}, "999": {"fault": "gpu_lost", "meaning": "new"}},
        "sxids": {"31337": {"grade": "always"}},
    }
    site = Catalogue().with_overrides(json.dumps(body))
    said = [
        site.read("nvme nvme3: I/O 193 QID 14 timeout, aborting"),
        site.read("NVRM: Xid (PCI:0000:9b:00): 43, Ch 1"),
        site.read("NVRM: Xid (PCI:0000:9b:00): 999, x"),
        site.read("nvidia-nvswitch1: SXid (PCI:0000:06:00.0): 31337, new"),
    ]
    assert [(one.fault, one.action, one.severity) for one in said if one] == [
        ("nvme_timeout", "isolate_node", "fatal"),
        ("app_gpu_error", "none", "warning"),
        ("gpu_lost", "reboot_node", "fatal"),
        ("nvswitch_fatal", "reset_gpu", "fatal"),
    ]
    assert Catalogue() == Catalogue(), "the catalogue itself is as it was"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "line 1"),
        ("[]", "an object"),
        ('{"xid": {}}', "an object with faults, xids and sxids"),
        ('{"faults": {"gpu_gone": {"action": "none"}}}', r"faults.gpu_gone: there is no such class"),
        ('{"xids": {"seventy": {"action": "none"}}}', r"xids.seventy: is no number"),
        ('{"xids": {"79": {"action": "explode"}}}', r"xids.79.action: explode is not one of .*reboot_node"),
        ('{"xids": {"79": {"fault": "gone"}}}', r"xids.79.fault: gone is not one of"),
        ('{"xids": {"79": {"code": "80"}}}', r"xids.79.code: may be action"),
        ('{"xids": {"79": {"action": 3}}}', r"xids.79.action: may be"),
        ('{"xids": {"79": "none"}}', r"xids.79"),
        ('{"xids": []}', r"xids"),
    ],
)
def test_an_override_that_is_wrong_says_where(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Catalogue().with_overrides(text)


PIECES = st.sampled_from(
    [line for _, _, line in LINES]
    + [needle for row in ROWS for needle in row.needles]
    + list(PREFIXES)
    + ["\n", "(", " "]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES | st.text(max_size=40), max_size=12).map("".join))
@example("Xid (PCI:0000:3b:00): 99999999999999999999")
@example("EDAC MC" + "9" * 5000)
@example("Killed process " + "9" * 5000 + " (a) total-vm")
@example("SXid (PCI:0000:3b:00): ٣٤, Fatal")
def test_nothing_that_is_written_breaks_it(line: str) -> None:
    found = read(line)
    assert found is None or (found.fault or found.clears) in FAULTS


HEAVY = [
    "x" * 10_000_000,
    "[1.1] " * 2_000_000,
    "mlx5_core 0000:18:00.0 init_one load_one " * 500,
    "nvidia 0000:18:00.0: [ 1] [ 14] CmpltT" * 500,
    "nvme nvme0: I/O " * 1000,
    "NVRM: GPU 0000:18:00.0 fallen off the bu " * 500,
    "NVRM: GPU 0000:18:00.0 The NVIDIA GPU 0000:18:00.0 fallen off the bus GSP Heartbeat timed out probe routine " * 99,
    "a[1] segfault in libnccl" * 500,
    "INFO: task " + "a:1 blocked " * 500,
    "EXT4-fs (a): " * 500 + "XFS (a): " * 500 + "BTRFS warning (device a" * 500,
    "Out of memory: Kill process 1 (" + "a" * 5000,
    "(" * 5000 + "Xid (PCI:0000:3b:00" + " " * 5000,
]


@pytest.mark.parametrize("line", HEAVY, ids=lambda line: line[:20])
def test_no_line_costs_more_than_50_ms(line: str) -> None:
    spent_s = []
    for _ in range(3):  # of three, because other processes have caches too
        began_s = time.process_time()
        read(line)
        spent_s.append(time.process_time() - began_s)
    assert min(spent_s) < 0.05


def test_the_score_sees_a_wrong_class_a_false_alarm_and_a_miss(tmp_path: Path) -> None:
    lost = "NVRM: Xid (PCI:0000:c1:00): 79, GPU has fallen off the bus."
    cases = [
        {"line": lost, "fault_class": "gpu_lost", "action": "reboot_node"},
        {"line": lost, "fault_class": "gpu_stopped", "action": "reset_gpu"},
        {"line": lost, "fault_class": "none", "action": "none"},
        {"line": "all is well", "fault_class": "gpu_lost", "action": "reboot_node"},
    ]
    (tmp_path / "kmsg_cases.jsonl").write_text("\n".join(map(json.dumps, cases)))
    rows = {row.what: row for row in score(tmp_path)}
    assert (rows["all"].precision, rows["all"].recall) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert (rows["gpu_lost"].precision, rows["gpu_lost"].recall) == (pytest.approx(1 / 3), 0.5)
    assert rows["gpu_stopped"].precision is None
    assert rows["all"].met is False
    assert score(tmp_path / "elsewhere") == []


def test_the_own_lines_meet_the_target() -> None:
    judged = [judge(line.replace("\\n", "\n"), (fault, action)) for fault, action, line in LINES]
    assert overall(judged).met
    assert not overall([replace(one, said=("none", "none")) for one in judged]).met
    assert {row.what for row in by_class(judged)} == {fault for fault, _, _ in LINES}
