"""Is each fault told once and at once, its repeats counted, its victims marked, and what is over taken back?"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from monitors.catalogue.kernel_story import (
    CASCADE_S,
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    MOST_OVER,
    MOST_THREADS,
    Story,
)

XID = "NVRM: Xid (PCI:0000:{gpu}:00): {xid}, pid={pid}, name=python3, {text}"


def xid(code: int, text: str = "x", *, gpu: str = "3b", pid: int = 7) -> str:
    """A line of the driver."""
    return XID.format(xid=code, text=text, gpu=gpu, pid=pid)


def told(story: Story, now: float) -> list[tuple[str, int | None, bool, int]]:
    """Class, number, cascade and count of what is due."""
    return [(one.finding.fault or "", one.finding.xid, one.finding.cascade, one.count) for one in story.tell(now)]


def test_a_storm_is_told_once_with_its_count() -> None:
    story = Story()
    for number in range(5_000):
        story.see(xid(95, "Uncontained: LTC TAG (0x2, 0x1). RST: Yes, D-RST: No"), number / 1e5)
    assert told(story, 0.2) == [("gpu_ecc_uncontained", 95, False, 5_000)]
    assert told(story, 100.0) == []


def test_repeats_are_told_after_pauses_that_double_and_silence_begins_anew() -> None:
    story, tellings = Story(), []
    for second in range(3600):
        story.see(xid(95), float(second))
        tellings += [(second, count) for *_, count in told(story, float(second))]
    assert [at for at, _ in tellings[:4]] == [0.0, FIRST_PAUSE_S, 3 * FIRST_PAUSE_S, 7 * FIRST_PAUSE_S]
    assert len(tellings) < 25
    assert tellings[-1][0] - tellings[-2][0] == LONGEST_PAUSE_S
    story.tell(3600.0 + LONGEST_PAUSE_S)
    story.see(xid(95), 9000.0)
    story.see(xid(95), 9000.0 + FIRST_PAUSE_S)
    assert told(story, 9000.0 + FIRST_PAUSE_S) == [("gpu_ecc_uncontained", 95, False, 2)]
    story.see(xid(95), 9010.0)
    assert told(story, 9010.0), "the pause is short again"


def test_the_next_worlds_failure_is_not_held_back() -> None:
    story = Story()
    story.see(xid(31, pid=100), 0.0)
    assert told(story, 0.5) == [("app_gpu_error", 31, False, 1)]
    story.see(xid(31, pid=200), 1.0)
    assert told(story, 1.0) == [("app_gpu_error", 31, False, 1)], "another process"
    story.see(xid(74), 1.0)
    story.see(xid(74, gpu="9b"), 1.0)
    assert len(told(story, 1.0)) == 2, "another GPU"


def test_what_follows_an_event_on_the_same_gpu_is_its_cascade() -> None:
    story = Story()
    for line, at in [(xid(48), 0.0), (xid(94), 0.06), (xid(43), 0.07), (xid(45), 0.08), (xid(43, gpu="9b"), 0.09)]:
        story.see(line, at)
    assert told(story, 1.0) == [
        ("gpu_ecc_uncorrectable", 48, False, 1),
        ("gpu_ecc_contained", 94, True, 1),
        ("app_gpu_error", 43, True, 1),
        ("gpu_sympathetic", 45, True, 1),
        ("app_gpu_error", 43, False, 1),
    ]
    story.see(xid(94, pid=8), 0.08 + 2 * CASCADE_S)
    assert [cascade for _, _, cascade, _ in told(story, 100.0)] == [False], "long after"


def test_broken_memory_is_no_programs_cascade() -> None:
    story = Story()
    for code in (13, 94, 63, 94):
        story.see(xid(code, pid=code), 0.0)
    assert [(code, cascade) for _, code, cascade, _ in told(story, 1.0)] == [(13, False), (94, False), (63, False)]


def test_a_lost_gpu_is_one_fault_whoever_says_so() -> None:
    story = Story()
    story.see(xid(79, "GPU has fallen off the bus."), 0.0)
    story.see("NVRM: GPU 0000:3b:00.0: GPU has fallen off the bus.", 0.001)
    story.see(xid(119, "Timeout waiting for RPC from GSP!"), 6.0)
    story.see(xid(154, "GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)"), 6.1)
    assert told(story, 7.0) == [
        ("gpu_lost", 79, False, 2),
        ("gpu_gsp_timeout", 119, True, 1),
        ("gpu_recovery_action", 154, False, 1),
    ]


def test_a_message_in_three_records_names_its_gpu() -> None:
    story = Story()
    for line in (
        "NVRM: The NVIDIA GPU 0000:ab:00.0",
        "NVRM: (PCI ID: 10de:2901) installed in this system has",
        "NVRM: fallen off the bus and is not responding to commands.",
    ):
        story.see(f"[  77.5] {line}", 5.0)
    [one] = story.tell(5.0)
    assert (one.finding.fault, one.finding.pci) == ("gpu_lost", "0000:ab:00.0")
    later = Story()
    later.see("NVRM: The NVIDIA GPU 0000:ab:00.0", 5.0)
    later.see("NVRM: fallen off the bus and is not responding to commands.", 60.0)
    assert [one.finding.pci for one in later.tell(60.0)] == [None]


def test_a_server_that_answers_again_takes_its_stall_back() -> None:
    stall, fine = "nfs: server {} not responding, still trying", "nfs: server {} OK"
    story = Story()
    story.see(stall.format("a"), 0.0)
    story.see(stall.format("b"), 0.0)
    assert len(told(story, 0.0)) == 2
    story.see(fine.format("a"), 30.0)
    [over] = story.tell(30.0)
    assert (over.finding.fault, over.finding.action, over.finding.clears) == ("nfs_stall", "none", "nfs_stall")
    assert over.finding.subject == "a"
    story.see(fine.format("a"), 31.0)
    story.see(stall.format("c"), 31.0)
    story.see(fine.format("c"), 31.1)
    assert told(story, 32.0) == [], "nobody knew of it"
    story.see(stall.format("a"), 33.0)
    assert told(story, 33.0) == [("nfs_stall", None, False, 1)], "a new one"


def test_the_verdict_none_is_passed_on_even_when_nobody_knew_better() -> None:
    story = Story()
    story.see(xid(154, "GPU recovery action changed from 0x1 (GPU Reset Required) to 0x0 (None)"), 0.0)
    [one] = story.tell(0.0)
    assert (one.finding.fault, one.finding.action) == ("gpu_recovery_action", "none")


def test_memory_is_bounded_and_what_is_new_is_told_before_it_is_forgotten() -> None:
    story = Story()
    for pid in range(MOST_THREADS + 500):
        story.see(xid(13, pid=pid), 0.0)
    assert len(told(story, 0.0)) == MOST_THREADS + 500
    for pid in range(2 * (MOST_THREADS + MOST_OVER)):
        story.see(xid(31, pid=pid, gpu=f"{pid % 256:02x}"), 1.0)
    assert len(told(story, 1.0)) == MOST_THREADS + MOST_OVER


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([13, 43, 45, 48, 63, 74, 79, 94, 95, 119]),
            st.sampled_from(["3b", "9b"]),
            st.floats(0.0, 3.0),
        ),
        max_size=40,
    )
)
def test_no_line_is_lost_and_none_is_told_twice(events: list[tuple[int, str, float]]) -> None:
    story, now, seen = Story(), 0.0, 0
    for code, gpu, wait_s in events:
        now += wait_s
        story.see(xid(code, gpu=gpu), now)
        seen += sum(count for *_, count in told(story, now))
    seen += sum(count for *_, count in told(story, now + LONGEST_PAUSE_S))
    assert seen == len(events)
