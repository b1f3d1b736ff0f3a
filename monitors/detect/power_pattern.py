"""Which picture do the GPUs of a run make together, and whom does it point at?

In synchronous training everybody waits for the slowest. So when most GPUs spin, the one that does not is whom they
wait for; when none differs, the run waits for something else; and a single GPU that draws little while the others
work cannot be waiting for long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

from monitors.detect.power_level import LOW, Doing, Gpu
from monitors.incidents import Subject


class Pattern(StrEnum):
    """What is seen over several polls."""

    ALL_WAIT = "all_wait"
    """every GPU spins or idles: the run waits for something that is no GPU, or its culprit looks like the others"""
    LAGGARD = "laggard"
    """all GPUs but one spin"""
    NODE_APART = "node_apart"
    """all GPUs of one node differ from the others, which spin"""
    OUTLIER = "outlier"
    """one GPU draws little, the others work"""
    OTHERS_WAIT = "others_wait"
    """the others draw less than they did and one does not: each step waits for it"""
    BRAKE = "brake"
    """held back by heat, a brake, a limit or its clock"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One pattern at one moment."""

    pattern: Pattern
    subject: Subject
    confidence: float
    sentence: str


_MOST = 0.9
_JUDGED = 0.7
"""of the GPUs: the others were not heard, are not counted, or are not known yet"""
_OUTLIER = 0.7
"""of the peers' middle"""
_SPREADS = 6.0
"""times the peers' spread (1.48 times the median absolute deviation)"""
_SPREAD_FLOOR = 0.03
"""of the peers' middle: sensors are right to 5 %"""
_DROPPED, _KEPT = 0.9, 0.97
"""of their own levels: the waiting ones, and the one they wait for"""


def pictures(gpus: Sequence[Gpu], now: float, *, steps: bool) -> list[Picture]:
    """What the GPUs show now. `steps`: the run is known to finish steps, so nobody waits for ever."""
    doing = {gpu.device: seen for gpu in gpus if (seen := gpu.doing(now)) is not None}
    judged = [gpu for gpu in gpus if gpu.device in doing]
    if len(judged) < max(2, _JUDGED * len(gpus)):
        return []  # too few to say what the run does
    waiting = [gpu for gpu in judged if doing[gpu.device] is Doing.SPINNING]
    apart = [gpu for gpu in judged if doing[gpu.device] is not Doing.SPINNING]
    if not steps and len(waiting) * 2 >= len(judged) and apart:
        return _apart(waiting, apart, doing)
    if len(waiting) >= _MOST * len(judged) and not apart:
        return [_all_wait(judged, "spin: fully used, at full clock, at the power of a wait")]
    idle = sum(seen is Doing.IDLE for seen in doing.values())
    if idle >= _MOST * len(judged) and idle + len(waiting) == len(judged):
        return [_all_wait(judged, "idle")]
    return [*_outliers(judged, doing), *_others_wait(judged)]


def _all_wait(judged: Sequence[Gpu], how: str) -> Picture:
    return Picture(
        pattern=Pattern.ALL_WAIT,
        subject=Subject(),
        confidence=0.6,
        sentence=f"all {len(judged)} GPUs of the run {how}",
    )


def _apart(waiting: Sequence[Gpu], apart: Sequence[Gpu], doing: Mapping[str, Doing]) -> list[Picture]:
    """Most wait: who does not?"""
    nodes = {gpu.node for gpu in apart}
    spin = "the other GPU spins" if len(waiting) == 1 else f"the other {len(waiting)} GPUs spin"
    if len(apart) == 1:
        gpu, seen = apart[0], doing[apart[0].device]
        if seen is Doing.UNCLEAR:
            return []
        confidence = (0.85 if seen is Doing.UNREADABLE else 0.8) if len(waiting) > 1 else 0.4
        return [
            Picture(
                pattern=Pattern.LAGGARD,
                subject=_subject(gpu),
                confidence=confidence,
                sentence=f"{spin}, and only {_named(gpu)} {_how(gpu, seen)}",
            )
        ]
    (node, *others) = nodes
    if others or any(gpu.node == node for gpu in waiting):
        return []
    kinds = " or ".join(sorted({str(doing[gpu.device]) for gpu in apart}))
    return [
        Picture(
            pattern=Pattern.NODE_APART,
            subject=Subject(node=node),
            confidence=0.75,
            sentence=f"{spin}, and each of the {len(apart)} GPUs of node {node} {kinds}",
        )
    ]


def _outliers(judged: Sequence[Gpu], doing: Mapping[str, Doing]) -> list[Picture]:
    """One GPU low among working ones of its model and role, against its own level and theirs."""
    found: list[Picture] = []
    groups: dict[tuple[str, str], list[Gpu]] = {}
    for gpu in judged:
        groups.setdefault((gpu.looked.name, gpu.role), []).append(gpu)
    for peers in groups.values():
        shares = {gpu.device: share for gpu in peers if (share := gpu.share) is not None}
        if len(shares) < 2:
            continue
        usual = median(shares.values()) if len(shares) > 2 else max(shares.values())
        # Of two, the lower one must not widen the spread that it is held against.
        spread = 1.48 * median(abs(share - usual) for share in shares.values()) if len(shares) > 2 else 0.0
        least = min(_OUTLIER * usual, usual - _SPREADS * max(spread, _SPREAD_FLOOR * usual))
        least_w = _least_w(peers)
        low = [gpu for gpu in peers if _is_low(gpu, doing[gpu.device], least, least_w)]
        works = sum(doing[gpu.device] is Doing.WORKING for gpu in peers)
        if 0 < len(low) <= max(1, len(peers) // 8) and works >= 0.5 * (len(peers) - len(low)) and works:
            found += [_outlier(gpu, doing[gpu.device], len(peers)) for gpu in low]
        elif _is_one_node(low, judged) and works:
            found.append(_node_low(low))
    return found


def _least_w(peers: Sequence[Gpu]) -> float:
    """Watts that none of them should be below while they work: levels are each GPU's own, and may be learned anew."""
    watts = [power_w for gpu in peers if (power_w := gpu.power_w) is not None]
    return _OUTLIER * (median(watts) if len(watts) > 2 else max(watts, default=0.0))


def _is_low(gpu: Gpu, seen: Doing, least: float, least_w: float) -> bool:
    if seen is Doing.UNREADABLE:
        return True
    power_w = gpu.power_w
    return power_w is not None and power_w < least_w and gpu.is_low(least)


def _is_one_node(low: Sequence[Gpu], judged: Sequence[Gpu]) -> bool:
    nodes = {gpu.node for gpu in low}
    return len(low) > 1 and len(nodes) == 1 and sum(gpu.node in nodes for gpu in judged) == len(low) < len(judged)


def _node_low(low: Sequence[Gpu]) -> Picture:
    return Picture(
        pattern=Pattern.NODE_APART,
        subject=Subject(node=low[0].node),
        confidence=0.6,
        sentence=f"each of the {len(low)} GPUs of node {low[0].node} draws little, while the others work",
    )


def _outlier(gpu: Gpu, seen: Doing, peers: int) -> Picture:
    return Picture(
        pattern=Pattern.OUTLIER,
        subject=_subject(gpu),
        confidence=0.7 if seen in (Doing.SPINNING, Doing.UNREADABLE) else 0.5,
        sentence=f"{_named(gpu)} {_how(gpu, seen)}, while its {peers - 1} peers work at their usual power",
    )


def _others_wait(judged: Sequence[Gpu]) -> list[Picture]:
    """A slow GPU is the only one that still draws what it did: the others wait for it in each step."""
    shares = {g.device: share for g in judged if not g.level.instants and (share := g.share) is not None}
    if len(shares) < max(4, len(judged)):
        return []
    *others, top = sorted(judged, key=lambda gpu: shares[gpu.device])
    rest = [shares[gpu.device] for gpu in others]
    usual = median(rest)
    spread = 1.48 * median(abs(share - usual) for share in rest)
    lead = shares[top.device] - max(rest)
    if LOW < usual < _DROPPED and shares[top.device] >= _KEPT and lead > max(0.05, _SPREADS * spread):
        said = f"its peers draw {100 * usual:.0f} % of what they did, {_named(top)} as much as before"
        return [Picture(pattern=Pattern.OTHERS_WAIT, subject=_subject(top), confidence=0.6, sentence=said)]
    return []


def _subject(gpu: Gpu) -> Subject:
    return Subject(node=gpu.node, rank=gpu.rank, device=gpu.device)


def _named(gpu: Gpu) -> str:
    return f"GPU {gpu.index} of node {gpu.node} (rank {gpu.rank})"


def _how(gpu: Gpu, seen: Doing) -> str:
    power_w = gpu.power_w
    if seen is Doing.UNREADABLE or power_w is None:
        return "cannot be read"
    usual = f" of its usual {gpu.level.middle_w:.0f} W" if gpu.level.known else ""
    return f"{seen} at {power_w:.0f} W{usual}"
