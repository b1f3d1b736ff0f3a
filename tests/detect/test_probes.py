"""Who is probed when a rank is slow, and what is made of the answers?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from monitors.detect.probes import Probes, ProbeWanted
from monitors.hardware import GpuLooked, ProbeDone
from monitors.incidents import Incident, Kind, Subject
from monitors.signals import RankExited, RankStarted, StepReported
from monitors.watch import Watch, WatchConfig
from orchestrator.core import events as e
from orchestrator.inbox import Inbox

GIB = 1 << 30


# ------------------------------------------------------------------------------------------------- who is asked


def gpu(node: int, index: int, name: str = "H100", free: int = 20 * GIB) -> GpuLooked:
    return GpuLooked(
        at=0.0,
        node=node,
        device=f"GPU-{node}-{index}",
        index=index,
        name=name,
        memory_bytes=80 * GIB,
        memory_used_bytes=80 * GIB - free,
    )


def named(
    rank: int | None = 1, node: int = 0, device: str | None = None, *, kind: Kind = Kind.STRAGGLER, at: float = 100.0
) -> Incident:
    return Incident(
        kind=kind,
        at=at,
        onset=at - 5,
        world=1,
        subject=Subject(node=node, rank=rank, device=device),
        step=40,
        confidence=0.8,
        evidence=("it is slow",),
        senses=("progress", "collectives"),
    )


def probes(*gpus: GpuLooked, nodes: int = 1, ranks_per_node: int = 4) -> Probes:
    made = Probes(nodes=nodes, ranks_per_node=ranks_per_node)
    made.world_began(1)
    for look in gpus:
        made.see(look)
    return made


def asked(made: Probes) -> list[tuple[int, str | None]]:
    return [(wanted.node, wanted.device) for wanted in made.wanted]


def answer(
    made: Probes, wanted: ProbeWanted, tflops: float = 600.0, *, at: float = 105.0, why: str = ""
) -> list[Incident]:
    return made.see(
        ProbeDone(
            at=at,
            node=wanted.node,
            device=wanted.device,
            tflops=0.0 if why else tflops,
            bandwidth_bytes_s=0.0 if why else 4e12,
            why=why,
            world=wanted.world,
            about=wanted.about,
        )
    )


EIGHT = [gpu(0, index) for index in range(8)]
TWO_NODES = [gpu(node, index) for node in (0, 1) for index in range(2)]
ROUNDS = {
    "the GPU of a rank, and three beside it": (
        EIGHT, {"ranks_per_node": 8}, named(3),
        [(0, "GPU-0-3"), (0, "GPU-0-0"), (0, "GPU-0-1"), (0, "GPU-0-2")],
    ),
    "a GPU that no rank has is no peer": (
        EIGHT, {"ranks_per_node": 2}, named(1), [(0, "GPU-0-1"), (0, "GPU-0-0")],
    ),
    "nor is one of another model, or one that is full": (
        [gpu(0, 0), gpu(0, 1, "A100"), gpu(0, 2, free=GIB), gpu(0, 3)], {}, named(3),
        [(0, "GPU-0-3"), (0, "GPU-0-0")],
    ),
    "one GPU a node: those of other nodes": (
        [gpu(node, 0) for node in range(6)], {"nodes": 6, "ranks_per_node": 1}, named(4, node=4),
        [(4, "GPU-4-0"), (5, "GPU-5-0"), (0, "GPU-0-0"), (1, "GPU-1-0")],
    ),
    "the driver calls a GPU slow": (
        EIGHT, {"ranks_per_node": 8}, named(2, device="GPU-0-2", kind=Kind.GPU_DEGRADED),
        [(0, "GPU-0-2"), (0, "GPU-0-0"), (0, "GPU-0-1"), (0, "GPU-0-3")],
    ),
    "no GPUs: the core of its node, and of those that come after": (
        [], {"nodes": 5, "ranks_per_node": 2}, named(7, node=3), [(3, None), (4, None), (0, None), (1, None)],
    ),
    "one node without GPUs: it alone": ([], {}, named(1), [(0, None)]),
    "all ranks of a node: its core, whatever GPUs it has": (
        TWO_NODES, {"nodes": 2, "ranks_per_node": 2}, named(None, node=1), [(1, None), (0, None)],
    ),
    "several GPUs held back at once": (EIGHT, {}, named(None, kind=Kind.GPU_DEGRADED), []),
    "another kind": (EIGHT, {}, named(1, kind=Kind.HANG), []),
}  # fmt: skip


@pytest.mark.parametrize("case", ROUNDS)
def test_a_suspect_and_its_peers_are_measured(case: str) -> None:
    gpus, size, suspect, expected = ROUNDS[case]
    made = probes(*gpus, **size)  # type: ignore[arg-type]
    made.suspect(suspect)
    measured: list[tuple[int, str | None]] = []
    while made.wanted:
        nodes = [wanted.node for wanted in made.wanted]
        assert len(nodes) == len(set(nodes)), "one device of a node at a time"
        first = min(made.wanted, key=lambda wanted: expected.index((wanted.node, wanted.device)))
        measured.append((first.node, first.device))
        answer(made, first)
    assert measured == expected


def test_what_is_wanted_stays_so_until_it_is_answered() -> None:
    made = probes(*EIGHT)
    made.suspect(named(1))
    (wanted,) = made.wanted
    assert made.wanted == (wanted,)
    answer(made, replace(wanted, about="GPU-of-another-round"))
    answer(made, replace(wanted, device="GPU-of-nobody"))
    assert made.wanted == (wanted,)
    answer(made, wanted)
    assert wanted not in made.wanted


def test_a_suspect_is_measured_once_in_a_world() -> None:
    made = probes()
    made.suspect(named(1))
    answer(made, made.wanted[0])
    made.suspect(named(1))
    assert not made.wanted
    made.world_began(2)
    made.suspect(replace(named(1), world=2))
    assert made.wanted


def test_suspects_are_measured_one_after_the_other_and_not_too_many_of_them() -> None:
    made = probes(nodes=8, ranks_per_node=1)
    for node in range(8):
        made.suspect(named(node, node=node, at=100.0 + node))
    suspects = list[str]()
    while made.wanted:
        assert len({wanted.about for wanted in made.wanted}) == 1
        suspects.append(made.wanted[0].about)
        for wanted in made.wanted:
            answer(made, wanted)
    assert suspects == ["node 0", "node 1", "node 2", "node 3"]
    made.suspect(named(6, node=6, at=3600.0))
    assert not made.wanted, "four an hour"
    made.suspect(named(7, node=7, at=3700.5))
    assert made.wanted


def test_who_is_short_of_memory_is_left_alone() -> None:
    made = probes(gpu(0, 0), gpu(0, 1, free=GIB))
    made.suspect(named(1))
    assert not made.wanted
    (note,) = made.notes()
    assert "rank 1's GPU (GPU-0-1) is not probed" in note.sentence


def test_a_world_that_ends_is_not_measured_on() -> None:
    made = probes(*EIGHT)
    made.suspect(named(1))
    made.see(RankExited(at=101.0, node=0, world=1, rank=0, code=1, signal=None, step=40))
    assert not made.wanted
    assert made.deadline is None


# ------------------------------------------------------------------------------------------------- what is concluded


def concluded(made: Probes, suspect: Incident, tflops: dict[str | None, float]) -> tuple[list[Incident], list[str]]:
    made.suspect(suspect)
    found: list[Incident] = []
    while made.wanted:
        wanted = made.wanted[0]
        of = tflops[wanted.device]
        found += answer(made, wanted, of, why="" if of else "no answer in 30 s")
    return found, [note.sentence for note in made.notes()]


FOUR = {"GPU-0-0": 600.0, "GPU-0-1": 610.0, "GPU-0-2": 590.0, "GPU-0-3": 600.0}


@pytest.mark.parametrize(
    ("tflops", "sentence"),
    [
        (360.0, "the probe of rank 1's GPU (GPU-0-1): it multiplies at 60 % of what its 3 peers do"),
        (0.0, "the probe of rank 1's GPU (GPU-0-1) failed: no answer in 30 s"),
    ],
)
def test_a_slow_device_is_an_incident_with_both_witnesses(tflops: float, sentence: str) -> None:
    made = probes(*EIGHT)
    found, notes = concluded(made, named(1), FOUR | {"GPU-0-1": tflops})
    (incident,) = found
    assert (incident.kind, incident.subject) == (Kind.GPU_DEGRADED, Subject(node=0, rank=1, device="GPU-0-1"))
    assert incident.evidence == (sentence, "it is slow")
    assert incident.senses == ("probe", "progress", "collectives")
    assert incident.onset == named(1).onset
    assert incident.confidence > named(1).confidence
    assert notes == []
    made.suspect(incident)
    assert not made.wanted, "what a probe said is not probed"


def test_a_sound_device_is_a_note_that_says_where_to_look() -> None:
    found, notes = concluded(probes(*EIGHT), named(1), FOUR)
    assert found == []
    (note,) = notes
    assert note.startswith(
        "rank 1's GPU (GPU-0-1) multiplies and copies as fast as its 3 peers do: look at its rank's "
    )


def test_a_slow_host_is_an_incident_of_the_host() -> None:
    made = probes(nodes=2, ranks_per_node=2)
    made.suspect(named(3, node=1))
    speeds = {1: 0.02, 0: 0.1}
    (incident,) = [i for wanted in made.wanted for i in answer(made, wanted, speeds[wanted.node])]
    assert (incident.kind, incident.subject) == (Kind.HOST_DEGRADED, Subject(node=1, rank=3))
    assert incident.evidence[0] == "the probe of the host of node 1: it multiplies at 20 % of what its peer does"


def test_without_peers_the_figures_are_told() -> None:
    found, notes = concluded(probes(), named(1), {None: 0.09})
    assert found == []
    assert notes == [
        "the host of node 0 was probed (0.09 Tflop/s, 4e+03 GB/s), and nothing is there to compare it with"
    ]


def test_no_answer_is_no_verdict() -> None:
    made = probes(*EIGHT)
    made.suspect(named(1))
    assert made.silent(159.0) == []
    assert made.deadline == 160.0
    assert made.silent(160.0) == []
    assert [note.sentence for note in made.notes()] == [
        "the probe of rank 1's GPU (GPU-0-1) was asked for, and no answer came"
    ]
    assert made.deadline is None


def test_peers_that_do_not_answer_are_done_without() -> None:
    made = probes(*EIGHT)
    made.suspect(named(1))
    answer(made, made.wanted[0], 300.0, at=105.0)
    answer(made, made.wanted[0], 600.0, at=110.0)
    assert made.silent(169.0) == []
    (incident,) = made.silent(170.0)
    assert incident.evidence[0].endswith("it multiplies at 50 % of what its peer does")


def test_a_suspect_that_cannot_be_measured_needs_no_peers() -> None:
    made = probes(*EIGHT)
    made.suspect(named(1))
    (wanted,) = made.wanted
    made.see(
        ProbeDone(at=105.0, node=0, device=wanted.device, why="no torch", unable=True, world=1, about=wanted.about)
    )
    assert not made.wanted
    assert [note.sentence for note in made.notes()] == ["rank 1's GPU (GPU-0-1) could not be probed: no torch"]


# ------------------------------------------------------------------------------------------------- in the whole watch


def slow_rank() -> tuple[Watch, Inbox, list[e.Event], int]:
    """Two nodes of one rank each; the second one's steps take twice as long from some step on, until it is named."""
    watch = Watch(WatchConfig(), nodes=2, ranks_per_node=1)
    inbox = Inbox(nodes=2, ranks_per_node=1, watch=watch, folder="/c")
    inbox.began(1, 0.0)
    events: list[e.Event] = []
    now, step, slow_steps = 0.0, 0, 0
    while not watch.probes and slow_steps < 10:
        step += 1
        slow = step > 40
        slow_steps += slow
        now += 0.2 if slow else 0.1
        for rank, took_s in enumerate((0.1, 0.2 if slow else 0.1)):
            row = StepReported(at=now, node=rank, world=1, rank=rank, step=step, step_s=took_s)
            events += inbox.see(row)
    return watch, inbox, events, slow_steps


def test_the_naming_waits_for_no_probe_and_the_note_follows() -> None:
    watch, inbox, events, slow_steps = slow_rank()
    (told,) = [event for event in events if isinstance(event, e.IncidentDetected)]
    assert (told.incident.kind, told.incident.subject.rank) == (Kind.STRAGGLER, 1)
    assert slow_steps == 3
    assert {(wanted.node, wanted.device) for wanted in inbox.probes} == {(0, None), (1, None)}
    after: list[e.Event] = []
    for wanted in inbox.probes:
        after += inbox.see(
            ProbeDone(
                at=told.at + 4, node=wanted.node, device=None, tflops=0.1, bandwidth_bytes_s=1e10, world=1,
                about=wanted.about,
            )
        )  # fmt: skip
    (probed,) = after
    assert isinstance(probed, e.DeviceProbed)
    assert probed.sentence.startswith(
        "the host of node 1 multiplies and copies as fast as its peer does: look at the code"
    )
    assert watch.probes == ()


def rows(inbox: Inbox, step: int, at: float, *took_s: float) -> list[e.Event]:
    """All ranks report a step."""
    reports = (
        StepReported(at=at, node=0, world=1, rank=rank, step=step, step_s=took) for rank, took in enumerate(took_s)
    )
    return [event for report in reports for event in inbox.see(report)]


@pytest.mark.parametrize("measured", [True, False])
def test_steps_that_a_probe_lies_beside_name_nobody(measured: bool) -> None:
    watch = Watch(WatchConfig(), nodes=1, ranks_per_node=3)
    inbox = Inbox(nodes=1, ranks_per_node=3, watch=watch, folder="/c")
    inbox.began(1, 0.0)
    events: list[e.Event] = []
    for rank in range(3):
        inbox.see(RankStarted(at=0.0, node=0, world=1, rank=rank, pid=7))
    for step in range(1, 41):
        events += rows(inbox, step, 0.1 * step, 0.1, 0.1, 0.1)
    for poll in range(5 if measured else 0):
        for look in (gpu(0, 0), gpu(0, 1), gpu(0, 2)):
            lanes = 4 if look.index == 2 else 16
            events += inbox.see(replace(look, at=4.0 + poll, pcie_width=lanes, pcie_width_max=16))
    assert bool(inbox.probes) is measured
    for step in range(41, 61):
        events += rows(inbox, step, 10.0 + 0.2 * step, 0.2, 0.1, 0.1)
    kinds = [event.incident.kind for event in events if isinstance(event, e.IncidentDetected)]
    assert kinds == [Kind.GPU_DEGRADED if measured else Kind.STRAGGLER]
