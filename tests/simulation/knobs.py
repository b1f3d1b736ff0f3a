"""How rough is this world? Every knob drawn from the seed.

Swarm testing: each seed switches most faults off altogether, because a world in which everything fails at once never
gets far enough to meet the rare orders of events.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import Any

DAY_S = 86400.0


class Profile(StrEnum):
    """What a seed is for; what may go wrong in it, and so what must not happen."""

    HEALTHY = "healthy"
    """nothing fails: no incident may be raised"""
    BENIGN = "benign"
    """nothing that a run cannot live with: no world may be ended"""
    ROUGH = "rough"
    HARDWARE = "hardware"
    """GPUs, links and hosts fail, and little else: what is told of them must be right"""


BENIGN_RATES = {
    "crash_supervisor": (0.5, 12.0),
    "lose_link": (0.5, 12.0),
    "transient": (0.2, 2.0),
    "corrupt_save": (0.2, 2.0),
    "fail_saves": (0.2, 2.0),
}
"""fault: how often a day, from and to"""
ROUGH_RATES = {
    "kill_rank": (0.3, 8.0),
    "raise_in_rank": (0.3, 8.0),
    "hang_rank": (0.3, 6.0),
    "flip_bit": (0.1, 2.0),
    "kill_agent": (0.2, 4.0),
    "end_attempt": (0.05, 1.0),
    "stop_run": (0.05, 0.5),
}

HARDWARE_RATES = {
    "off_the_bus": (0.3, 3.0),
    "memory": (0.3, 3.0),
    "firmware": (0.3, 3.0),
    "verdict": (0.3, 2.0),
    "link": (0.3, 3.0),
    "port": (0.3, 3.0),
    "out_of_memory": (0.3, 3.0),
    "machine_check": (0.2, 2.0),
    "read_only": (0.2, 2.0),
    "mount": (0.2, 2.0),
    "user_fault": (0.3, 3.0),
    "power_loss": (0.1, 1.0),
}
PEOPLE_RATES = {
    "pause_run": (0.05, 0.5),
    "restart_run": (0.05, 0.5),
    "cordon_host": (0.2, 2.0),
    "pin_save": (0.2, 2.0),
    "remark": (0.2, 2.0),
}
INNOCENT_RATES = {
    "slow_gpu": (0.2, 2.0),
    "corrected": (0.5, 4.0),
    "other_job": (0.5, 4.0),
    "idle_gpu": (0.2, 2.0),
    "blink": (0.5, 4.0),
}
"""what no world may be ended for"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Knobs:
    """One world's character. Rates are per simulated day, times in seconds."""

    seed: int
    profile: Profile
    nodes: int
    ranks_per_node: int
    step_s: float
    jitter: float
    """relative spread of step times"""
    slow_step: float
    """share of steps that take three times as long"""
    eval_every: int
    save_every: int
    stall_s: float
    commit_s: float
    verify_s: float
    startup_s: float
    keep: int
    probation_steps: int
    steps: int
    """the run is complete after so many"""
    days: float
    """how long anything may fail"""
    lag_s: float
    """most a message takes"""
    resend: float
    """chance that a new connection repeats reports that were heard already"""
    launch_fails: float = 0.0
    launch_loses_agent: float = 0.0
    launch_slow: float = 0.0
    start_stalls: float = 0.0
    stop_ignored: float = 0.0
    end_ignored: float = 0.0
    order_lost: float = 0.0
    bug_steps: int = 0
    """steps at which the training code fails, always"""
    chooses_interval: bool = False
    """`save_every` is only what the ranks begin with when nobody tells them"""
    copy_every: int = 0
    """steps between copies in memory; 0: none are made"""
    copy_late: float = 0.0
    """chance that a copy comes to another node only when the next one is made"""
    keeper_lost: float = 0.0
    """chance that a keeper does not last until the next attempt"""
    budget_share: float = 0.0
    """of the GPU hours that the run needs when nothing fails, which is all that it may spend; 0: no budget"""
    power_changes: float = 0.0
    """how often a day a person changes the power budget; 0: there is none"""
    power_right: bool = False
    """agents may limit the power of GPUs"""
    poison_every: int = 0
    """one poisoned window of data in so many batches; 0: none"""
    rates: dict[str, float] = field(default_factory=dict)
    people: dict[str, float] = field(default_factory=dict)
    """what is asked, as rates"""
    spare_hosts: int = 0
    """that the scheduler can give in place of others; 0: it cannot be told which not to give"""
    ignores_exclude: float = 0.0
    """chance that it gives a host all the same"""
    hardware: dict[str, float] = field(default_factory=dict)
    """breakage of `tests/simulation/breakage.py`, as rates"""
    idle_gpus: int = 0
    """on each node, that no rank uses"""
    stays_broken: float = 0.0
    """chance that a new attempt meets the same broken GPU"""
    sense_blind: float = 0.0
    """chance, for each sense of an agent, that it cannot see"""
    sense_lag_s: float = 0.0
    sense_repeats: float = 0.0
    """chance that something is told twice"""
    clock_off_s: float = 0.0
    """most that the clock of a node is off"""

    @property
    def ranks(self) -> int:
        """In the whole world."""
        return self.nodes * self.ranks_per_node

    def of_node(self, node: int) -> range:
        """Ranks of a node."""
        each = self.ranks_per_node
        return range(node * each, node * each + each)

    @property
    def seen_every_s(self) -> float:
        """Between two looks of an agent: coarse, or the simulation would do nothing else."""
        return 4 * self.step_s


def drawn(seed: int, days: float | None = None, profile: Profile | None = None) -> Knobs:
    """The knobs of a seed; `days` and `profile` may be fixed."""
    dice = Random(f"knobs {seed}")
    chosen = dice.choices(list(Profile), weights=(3, 3, 10, 4))[0]
    profile = profile or chosen
    days = days or dice.choice((2.0, 4.0, 8.0, 16.0))
    step_s = dice.choice((200.0, 400.0, 600.0, 900.0)) * dice.uniform(0.7, 1.3)
    save_every = dice.randint(3, 20)
    return Knobs(
        seed=seed,
        profile=profile,
        nodes=dice.choices((1, 2, 3, 4), weights=(4, 4, 1, 1))[0],
        ranks_per_node=dice.choice((1, 2)),
        step_s=step_s,
        jitter=dice.choice((0.0, 0.02, 0.1, 0.2)),
        slow_step=dice.choice((0.0, 0.0, 0.01, 0.05)),
        eval_every=dice.choice((0, 0, 25, 100)),
        save_every=save_every,
        stall_s=step_s * dice.choice((0.0, 0.02, 0.5)),
        commit_s=step_s * dice.choice((0.1, 1.0, 3.0)),
        verify_s=step_s * dice.choice((0.05, 1.0, 10.0, 25.0)),
        startup_s=dice.uniform(5.0, 200.0),
        keep=dice.randint(1, 3),
        probation_steps=dice.randint(13, 30),
        # The promise of the spec: longer than the loss detector needs to be sure (12 rows).
        steps=max(60, int(days * DAY_S / step_s * dice.uniform(0.6, 1.2))),
        days=days,
        lag_s=dice.choice((0.0, 0.0, 0.5, 20.0)),
        resend=dice.choice((0.0, 0.5)),
        chooses_interval=Random(f"interval {seed}").random() < 0.25,
        copy_every=Random(f"copies {seed}").choice((0, 1, 1, 3)),
        copy_late=Random(f"late {seed}").choice((0.0, 0.3)),
        keeper_lost=Random(f"lost {seed}").choice((0.0, 0.2)),
        power_changes=Random(f"power {seed}").choice((0.0,) * 5 + (2.0,)) if profile is Profile.ROUGH else 0.0,
        power_right=Random(f"right {seed}").random() < 0.5,
        budget_share=_budget(Random(f"budget {seed}"), profile),
        **_faults(dice, profile),
        **_hardware(Random(f"hardware {seed}"), profile),
        **_people(Random(f"people {seed}"), profile),
    )


def _budget(dice: Random, profile: Profile) -> float:
    """A person lets the run go on in a new world, which a run where nothing fails must not have."""
    return dice.choice((0.0, 0.0, 0.0, 0.5)) if profile in (Profile.ROUGH, Profile.HARDWARE) else 0.0


def _people(dice: Random, profile: Profile) -> dict[str, Any]:
    """Drawn apart as well. What ends no world may be asked where none may be ended."""
    asked = {name: dice.uniform(*bounds) for name, bounds in PEOPLE_RATES.items() if dice.random() < 0.4}
    hosts = {"spare_hosts": dice.choice((0, 1, 1, 2)), "ignores_exclude": dice.choice((0.0, 0.0, 0.3))}
    match profile:
        case Profile.ROUGH:
            return {"people": asked, **hosts}
        case Profile.BENIGN:
            return {"people": {name: rate for name, rate in asked.items() if name in ("pin_save", "remark")}}
        case _:
            return {}


def _faults(dice: Random, profile: Profile) -> dict[str, Any]:
    some = {name: dice.uniform(*bounds) for name, bounds in BENIGN_RATES.items() if dice.random() < 0.4}
    rough = {name: dice.uniform(*bounds) for name, bounds in ROUGH_RATES.items() if dice.random() < 0.4}
    chances = {
        "launch_fails": dice.choice((0.0, 0.0, 0.1, 0.3)),
        "launch_loses_agent": dice.choice((0.0, 0.0, 0.1)),
        "launch_slow": dice.choice((0.0, 0.0, 0.1)),
        "start_stalls": dice.choice((0.0, 0.0, 0.1)),
        "stop_ignored": dice.choice((0.0, 0.0, 0.3)),
        "end_ignored": dice.choice((0.0, 0.0, 0.3)),
        "order_lost": dice.choice((0.0, 0.0, 0.0, 0.1)),
        "bug_steps": dice.choice((0, 0, 0, 1)),
        "poison_every": dice.choice((0, 150, 400)),
    }
    match profile:
        case Profile.HEALTHY:
            return {}
        case Profile.BENIGN:
            return {"rates": some}
        case Profile.ROUGH:
            return {"rates": some | rough, **chances}
        case Profile.HARDWARE:
            return {"rates": {}}


def _hardware(dice: Random, profile: Profile) -> dict[str, Any]:
    """Drawn apart, so that what else a seed does stays the same."""
    innocent = {name: dice.uniform(*bounds) for name, bounds in INNOCENT_RATES.items() if dice.random() < 0.5}
    broken = {name: dice.uniform(*bounds) for name, bounds in HARDWARE_RATES.items() if dice.random() < 0.5}
    senses = {
        "idle_gpus": dice.choice((0, 0, 1)),
        "stays_broken": dice.choice((0.0, 0.2)),
        "sense_blind": dice.choice((0.0, 0.0, 0.3)),
        "sense_lag_s": dice.choice((0.0, 0.0, 0.3, 5.0)),
        "sense_repeats": dice.choice((0.0, 0.3)),
        "clock_off_s": dice.choice((0.0, 0.0, 40.0)),
    }
    match profile:
        case Profile.HARDWARE:
            return {"hardware": innocent | broken, **senses}
        case Profile.BENIGN:
            return {"hardware": _rarer(innocent), **senses}
        case Profile.ROUGH if dice.random() < 0.2:
            return {"hardware": _rarer(innocent | broken), **senses}
        case _:
            return {}


def _rarer(rates: dict[str, float]) -> dict[str, float]:
    """Beside all else: every world that ends costs the simulation as much as hours of training do."""
    return {name: rate / 3 for name, rate in rates.items()}
