"""What must the core know of the spec?

Journal format: fields are only ever added, with defaults.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.core.limits import Limits, Prices


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the core must know of the spec."""

    nodes: int = 1
    ranks_per_node: int = 1
    skips: tuple[tuple[int, int], ...] = ()
    """data indices never to be fed, half-open"""
    keep: int = 2
    """good checkpoints kept"""
    probation_steps: int = 20
    """healthy steps after a save before it counts as good"""
    skip_margin_steps: int = 8
    """steps skipped beyond the last one fed, when a window of data is skipped"""
    fresh_steps_max: int = 500
    """steps that may be thrown away by starting from scratch when no checkpoint is usable"""
    copies: bool = False
    """ranks keep copies of their state in memory"""
    in_process: bool = False
    """processes of ranks may outlive their world"""
    save_every: int | None = None
    """steps between durable saves, where the spec fixes them"""
    chooses_interval: bool = False
    """the run chooses them by what saves cost and how often something fails; False also in an older journal"""
    launch_timeout_s: float = 120.0
    start_timeout_s: float = 600.0
    """from starting a world to its first step"""
    stop_timeout_s: float = 30.0
    """from the order to end a world to no worker left"""
    stop_grace_s: float = 60.0
    """for finishing the step and saving, when a user stops the run"""
    excludes: bool = False
    """the scheduler can be told which hosts not to give"""
    unheard_s: float = 900.0
    """no progress heard for this long: a person is told"""
    target_step: int | None = None
    """at which the run is complete, where only the spec says so"""
    prices: Prices | None = None
    limits: Limits | None = None
    """as submitted"""
    watts: float | None = None
    """that all GPUs may draw together, as submitted"""
    watts_least: float | None = None
    """of each GPU, below which the run is paused instead"""
