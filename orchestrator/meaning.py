"""What does a spec mean to the core and to the detectors?"""

from __future__ import annotations

from jobs.checkpoint.origin import check_vacant
from jobs.checkpoint.origin import origin as checkpoint_origin
from jobs.spec import EXCLUDING, Spec
from jobs.spec_money import Budget, Cost
from monitors.watch import Watch, WatchConfig
from orchestrator.core import events, origin
from orchestrator.core.limits import Limits, Prices
from orchestrator.inbox import QUIET_START_S

START_SLACK_S = 10.0
"""for the detector to conclude first that a start has stalled, and where: the core only knows that it was long"""


def plan_of(spec: Spec) -> events.Plan:
    """What the core must know of a spec."""
    every = spec.checkpoint.every_steps
    return events.Plan(
        save_every=every,
        chooses_interval=spec.python and every is None,
        copies=spec.python and spec.checkpoint.memory_every_steps != 0,
        in_process=spec.python and spec.recovery.warm and spec.recovery.in_process,
        excludes=spec.scheduler in EXCLUDING,
        nodes=spec.nodes,
        ranks_per_node=spec.ranks_per_node,
        skips=spec.data.skip,
        keep=spec.checkpoint.keep,
        probation_steps=spec.checkpoint.probation_steps,
        skip_margin_steps=spec.recovery.skip_margin_steps,
        fresh_steps_max=spec.recovery.fresh_steps_max,
        launch_timeout_s=spec.recovery.launch_timeout_s,
        start_timeout_s=max(spec.detect.hang.start_s, QUIET_START_S) + START_SLACK_S,
        stop_grace_s=spec.recovery.stop_grace_s,
        target_step=spec.target_steps,
        prices=prices_of(spec.cost),
        limits=limits_of(spec.budget),
        watts=spec.power.watts,
        watts_least=spec.power.min_watts_per_gpu,
    )


def prices_of(cost: Cost) -> Prices | None:
    """None: as nobody said anything."""
    return Prices(**cost.model_dump()) if cost != Cost() else None


def limits_of(budget: Budget) -> Limits | None:
    """None: there is none."""
    return Limits(**budget.model_dump()) if budget != Budget() else None


def origin_of(spec: Spec, at: float) -> events.CheckpointCommitted | None:
    """The checkpoint of another run that this one begins from. Raises SpecError when it cannot."""
    if spec.checkpoint.folder is not None:
        check_vacant(spec.checkpoint.folder)
    path = spec.checkpoint.resume_from
    if path is None:
        return None
    found = checkpoint_origin(path, spec.data.skip)
    return events.CheckpointCommitted(
        at=at,
        checkpoint=path,
        step=found.step,
        world=origin.WORLD,
        saved_at=found.saved_at,
        bytes=found.bytes,
        path=path,
    )


def watch_of(spec: Spec) -> Watch:
    """The detectors that a spec asks for."""
    hang, loss = spec.detect.hang, spec.detect.loss
    config = WatchConfig(
        floor_s=hang.floor_s,
        factor=hang.factor,
        unlearned_s=hang.unlearned_s,
        start_s=hang.start_s,
        unseen_s=spec.detect.unseen_s,
        loss_enabled=loss.enabled,
        persist_rows=loss.persist_rows,
    )
    return Watch(config, nodes=spec.nodes, ranks_per_node=spec.ranks_per_node)
