"""Which rank's own numbers left those of the others?

The loss and the gradients of a rank before they are averaged: one rank that computes wrong numbers, or is fed wrong
data, shows there and nowhere else. A number is held against the middle of the others in the same step, which takes out
what training does to all; against what is usual for this rank, whose data may always be harder; and against how far the
ranks lie apart anyway. It has to last, and the rank itself must have moved: of two that drift apart, one did not.

All in logarithms, and a few numbers for each rank: a world may have a hundred thousand of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, isfinite, log
from statistics import median

from monitors.signals import RanksReported


@dataclass(frozen=True, slots=True, kw_only=True)
class RanksConfig:
    """Counts are steps that were told of."""

    learn_rows: int = 48
    kept_rows: int = 64
    """over which what is usual is averaged"""
    norm_factor: float = 3.0
    """times its usual distance from the others, as for the norm that all share"""
    loss_factor: float = 1.5
    """a rank that was fed random tokens had 2.7 times the loss of the others"""
    noise_factor: float = 3.5
    """and this many deviations of its own"""
    spread_factor: float = 3.0
    """and of the ranks from each other, where there are enough of them to tell"""
    rows: int = 24
    needed: int = 20
    """of them, that must be away: the data of one rank may be hard for a few steps"""
    hint: int = 3
    """of them, to be told beside a loss that jumped: that may be concluded after five"""
    open_steps: int = 3
    """steps that wait for the word of other nodes"""
    open_steps_small: int = 24
    """the same in a world of few ranks, whose nodes tell a second's worth of steps at once: up to 20"""
    small_ranks: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Departed:
    """Ranks whose own numbers left the others', and stay away."""

    what: str
    """the gradient norm, the loss"""
    ranks: tuple[int, ...]
    """those that went together, the furthest first"""
    nodes: tuple[int, ...]
    onset_step: int
    onset_at: float
    usual: float
    now: float
    """of the first rank"""

    @property
    def sentence(self) -> str:
        """For people."""
        one, more = self.ranks[0], len(self.ranks) - 1
        who = f"rank {one} alone" if not more else f"rank {one} and {more} more"
        way = "up" if self.now > self.usual else "down"
        return (
            f"{self.what} of {who} stepped {way} from {self.usual:.4g} to {self.now:.4g} near step {self.onset_step},"
            " and left that of the other ranks"
        )


class _Usual:
    """A mean and a deviation that few wild values cannot move far. O(1) in time and memory."""

    __slots__ = ("deviation", "mean")

    def __init__(self, value: float) -> None:
        self.mean = value
        self.deviation = 0.0

    def learn(self, value: float, number: int, kept: int) -> None:
        """The value of one more row, the `number`-th."""
        far = value - self.mean
        if number > _ROUGH_ROWS:
            most = _CLIP * max(self.deviation, _LEAST)
            far = max(-most, min(far, most))
        gain = 1.0 / min(number, kept)
        self.mean += gain * far
        # The mean distance of normal values is 0.8 deviations.
        self.deviation += gain * (1.25 * abs(far) - self.deviation)


class _Rank:
    """One number of one rank."""

    __slots__ = ("away", "far", "node", "now", "number", "own", "rows", "seen", "told")

    def __init__(self, number: int, node: int, own: float, apart: float) -> None:
        self.number = number
        self.node = node
        self.own = _Usual(own)
        self.far = _Usual(apart)
        """from the middle of the others"""
        self.rows = 1
        self.seen = (own, apart)
        self.away = 0
        """a bit for each of the newest rows, the newest lowest"""
        self.now = own
        self.told = False


class _Column:
    """One number of all ranks."""

    def __init__(self, what: str, factor: float, config: RanksConfig) -> None:
        self._what = what
        self._least = log(factor)
        self._config = config
        self._ranks: dict[int, _Rank] = {}
        self._rows: deque[tuple[int, float]] = deque(maxlen=config.rows)

    def forget(self) -> None:
        """Whatever is away now never was."""
        self._rows.clear()
        for rank in self._ranks.values():
            rank.away, rank.told = 0, False

    def see(self, step: int, at: float, values: Mapping[int, tuple[int, float]]) -> Departed | None:
        """The numbers, in logarithms, of one step: rank to node and number."""
        if len(values) < 2:
            return None
        self._rows.append((step, at))
        ranks = [self._rank(number, node, own) for number, (node, own) in values.items()]
        middle = median(own for _, own in values.values())
        few = len(values) < _FEW
        for rank in ranks:
            own = values[rank.number][1]
            others = _middle_of_others(values, rank.number) if few else middle
            rank.seen = (own, own - others)
        gone = [abs(rank.seen[1] - rank.far.mean) for rank in ranks]
        limit = self._least if few else max(self._least, self._config.spread_factor * 1.48 * median(gone))
        newest = [rank for rank in ranks if self._judge(rank, limit) and not rank.told]
        return self._departed(self._config.rows // 2, told=True) if newest else None

    def away(self, rows: int) -> Departed | None:
        """Those that are away for so many of the newest rows; it is not counted as told."""
        return self._departed(rows, told=False)

    def _rank(self, number: int, node: int, own: float) -> _Rank:
        rank = self._ranks.get(number)
        if rank is None:
            rank = self._ranks[number] = _Rank(number, node, own, 0.0)
        rank.node = node
        return rank

    def _judge(self, rank: _Rank, limit: float) -> bool:
        """Take the row in; whether the rank has been away for long enough."""
        config, (own, apart) = self._config, rank.seen
        gone, moved = apart - rank.far.mean, own - rank.own.mean
        known = rank.rows >= config.learn_rows
        limit = max(limit, config.noise_factor * rank.far.deviation)
        away = known and abs(gone) > limit and moved * gone >= 0.5 * gone * gone
        rank.away = (rank.away << 1 | away) & ((1 << config.rows) - 1)
        if away:
            rank.now = own if rank.away == 1 else rank.now + (own - rank.now) / 4
        else:
            rank.rows += 1
            rank.own.learn(own, rank.rows, config.kept_rows)
            rank.far.learn(apart, rank.rows, config.kept_rows)
        count = rank.away.bit_count()
        rank.told = rank.told and count >= config.rows / 2
        return count >= config.needed

    def _departed(self, rows: int, *, told: bool) -> Departed | None:
        gone = [rank for rank in self._ranks.values() if rank.away.bit_count() >= rows]
        if not gone:
            return None
        gone.sort(key=lambda rank: -abs(rank.now - rank.own.mean))
        for rank in gone:
            rank.told = rank.told or told
        first = gone[0]
        onset_step, onset_at = self._rows[-min(first.away.bit_length(), len(self._rows))]
        return Departed(
            what=self._what,
            ranks=tuple(rank.number for rank in gone),
            nodes=tuple(dict.fromkeys(rank.node for rank in gone)),
            onset_step=onset_step,
            onset_at=onset_at,
            usual=exp(first.own.mean),
            now=exp(first.now),
        )


class Apart:
    """The own numbers of all ranks, in whatever order their nodes tell them."""

    def __init__(self, config: RanksConfig | None = None) -> None:
        self.config = config or RanksConfig()
        self._norms = _Column("the gradient norm", self.config.norm_factor, self.config)
        self._losses = _Column("the loss", self.config.loss_factor, self.config)
        self._nodes: set[int] = set()
        """that were ever heard"""
        self.world_began()

    def world_began(self) -> None:
        """Ranks are new, what is usual for them stays; whoever is still away is told again."""
        self._open: dict[int, dict[int, RanksReported]] = {}
        self._judged = -1
        self._norms.forget()
        self._losses.forget()

    def rewound(self, step: int) -> None:
        """Steps after this one never happened."""
        if step < self._judged:
            self._judged = step
            self._norms.forget()
            self._losses.forget()
        self._open = {one: nodes for one, nodes in self._open.items() if one <= step}

    def see(self, signal: RanksReported) -> list[Departed]:
        """The word of one node; what it says twice, or too late, counts for nothing."""
        self._nodes.add(signal.node)
        if signal.step <= self._judged:
            return []
        self._open.setdefault(signal.step, {})[signal.node] = signal
        found: list[Departed] = []
        config = self.config
        few = len(self._nodes) * len(signal.ranks) <= config.small_ranks
        most = config.open_steps_small if few else config.open_steps
        for step in sorted(self._open):
            if len(self._open[step]) < len(self._nodes) and len(self._open) <= most:
                break
            found += self._judge(step, list(self._open.pop(step).values()))
        return found

    def away(self, rows: int) -> list[Departed]:
        """Ranks whose numbers are away by now, for so many of the newest rows: what is known before it is sure."""
        return [found for column in (self._norms, self._losses) if (found := column.away(rows)) is not None]

    def _judge(self, step: int, nodes: Sequence[RanksReported]) -> list[Departed]:
        self._judged = step
        at = max(node.at for node in nodes)
        norms = _logs((node.node, node.ranks, node.grad_norms) for node in nodes)
        losses = _logs((node.node, node.ranks, node.losses) for node in nodes)
        told = (self._norms.see(step, at, norms), self._losses.see(step, at, losses))
        return [departed for departed in told if departed is not None]


def _logs(
    told: Iterable[tuple[int, tuple[int, ...], tuple[float | None, ...]]],
) -> dict[int, tuple[int, float]]:
    """Rank to its node and the logarithm of its number; numbers that are none, broken or below 0 have none."""
    return {
        rank: (node, log(max(value, _ZERO)))
        for node, ranks, values in told
        for rank, value in zip(ranks, values, strict=False)
        if value is not None and isfinite(value) and value >= 0.0
    }


def _middle_of_others(values: Mapping[int, tuple[int, float]], rank: int) -> float:
    return median(own for number, (_, own) in values.items() if number != rank)


_ZERO = 1e-12
"""a rank that adds nothing to the gradients is as far away as can be"""
_FEW = 8
"""ranks: fewer say little of how far ranks lie apart, and each of them is a good part of the middle"""
_ROUGH_ROWS = 8
_CLIP = 3.0
_LEAST = 0.01
