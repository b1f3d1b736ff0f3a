"""What does a worker find in its environment? The table in ARCHITECTURE.md, as code."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from jobs.agent.orders import StartWorld
from jobs.agent.place import Place
from jobs.spec import Spec
from monitors import logbook
from monitors.sense.flight_recorder import NCCL_STEM

RING = "2000"
"""collectives that a flight recorder remembers: its default since torch 2.9, before it was off"""
RENAMED = {
    "TORCH_FR_BUFFER_SIZE": "TORCH_NCCL_TRACE_BUFFER_SIZE",
    "TORCH_FR_DUMP_TEMP_FILE": "TORCH_NCCL_DEBUG_INFO_TEMP_FILE",
}
"""what torch before 2.9 called them; a newer one warns of the old names on every rank"""


def of_worker(
    base: Mapping[str, str],
    spec: Spec,
    place: Place,
    order: StartWorld,
    *,
    local_rank: int,
    progress: Path,
    copies: Sequence[str] = (),
    service: str = "",
) -> dict[str, str]:
    """The environment of one rank: the agent's own, then the user's, then ours. `copies`: files that it may keep copies
    of its state in; `service`: that of wandb."""
    return {
        **base,
        **_defaults(base, spec),
        **_wandb(base, spec, place, _rank(spec, place, local_rank), service),
        **_dumps(base, spec, place.rank_folder(order.world, _rank(spec, place, local_rank))),
        **spec.env,
        **_torch(spec, place, order, local_rank),
        **_ours(spec, place, order, local_rank),
        **_memory(spec, order, copies),
        **({"LASTGOOD_SHARDINGS": str(_shardings(place))} if local_rank == 0 and spec.recovery.spares else {}),
        "LASTGOOD_PROGRESS": str(progress),
    }


def of_zygote(base: Mapping[str, str], spec: Spec, place: Place) -> dict[str, str]:
    """What is the same for every rank of this node."""
    return {
        **base,
        **_defaults(base, spec),
        **spec.env,
        "LASTGOOD_MARK": place.mark,
        "LASTGOOD_NODE": str(place.node),
    }


def of_spare(base: Mapping[str, str], spec: Spec, place: Place, local_rank: int) -> dict[str, str]:
    """Of a process that waits to be a rank."""
    rank = str(_rank(spec, place, local_rank))
    return {**of_zygote(base, spec, place), "RANK": rank, "LASTGOOD_SHARDINGS": str(_shardings(place))}


def failure_domain(base: Mapping[str, str]) -> str:
    """What fails together with this node, as somebody said, or else Slurm; empty: not known."""
    said = base.get("LASTGOOD_FAILURE_DOMAIN")
    # "core.rack4.node17", the node itself last.
    return said if said is not None else base.get("SLURM_TOPOLOGY_ADDR", "").rpartition(".")[0]


_OF_ALL = ("LASTGOOD_HOME", logbook.VARIABLE)


def of_no_attempt(base: Mapping[str, str]) -> dict[str, str]:
    """The agent's own without what makes it this attempt's: its marks, its share of the devices, what TorchX added.

    For what outlives the attempt: whoever sweeps that must not take it along, and a supervisor looks after other runs.
    """
    ours = ("LASTGOOD_", "TORCHX_", "TORCHELASTIC_", "PET_", "CUDA_VISIBLE_DEVICES")
    return {name: value for name, value in base.items() if name in _OF_ALL or not name.startswith(ours)}


def of_aide(base: Mapping[str, str], spec: Spec, place: Place) -> dict[str, str]:
    """It belongs to no world: nothing that ends one looks for it, and everything that ends the attempt finds it."""
    return {**of_zygote(base, spec, place), "LASTGOOD_WORLD": "0", "LASTGOOD_AGENT_PID": str(os.getpid())}


def _defaults(base: Mapping[str, str], spec: Spec) -> dict[str, str]:
    defaults = {
        # As torchrun does.
        "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",
        # Output is a sign of life and carries the step of an unmodified script: a full buffer would hide both.
        "PYTHONUNBUFFERED": "1",
        # Its warnings hold the cause of most failures, and nothing else does.
        "NCCL_DEBUG": "WARN",
        # On by default in new versions of torch, off in old ones.
        "TORCH_NCCL_DUMP_ON_TIMEOUT": "1",
        **_named(base, spec, {"TORCH_FR_BUFFER_SIZE": RING}),
    }
    if spec.ranks_per_node > 1:
        # As torchrun does: ranks that share cores must not each take all of them.
        defaults["OMP_NUM_THREADS"] = "1"
    return {name: value for name, value in defaults.items() if name not in base}


def _wandb(base: Mapping[str, str], spec: Spec, place: Place, rank: int, service: str) -> dict[str, str]:
    """For scripts that call wandb: what they logged is there after a kill, and their worlds are one run where asked."""
    wanted = {
        # Its own 15 s lose what was logged in the last 15 s; less than 1 is taken for unset.
        "WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "1",
        "WANDB_X_TRANSACTION_LOG_FLUSH_INTERVAL": "1",
        **({"WANDB_SERVICE": service} if service else {}),
    }
    if spec.tracker.script.one_run and not {"WANDB_RUN_ID", "WANDB_RESUME_FROM"} & {*base, *spec.env}:
        name = f"{place.run}-script" + (f"-rank{rank}" if rank else "")
        wanted |= {"WANDB_RUN_ID": name, "WANDB_RESUME": "allow", "WANDB_RUN_GROUP": place.run}
    return {name: value for name, value in wanted.items() if name not in base}


def _dumps(base: Mapping[str, str], spec: Spec, folder: Path) -> dict[str, str]:
    """Where NCCL writes what it recorded, by itself after a time-out and when asked through a pipe."""
    stem = str(folder / NCCL_STEM)
    pipe = {"TORCH_NCCL_DEBUG_INFO_PIPE_FILE": stem}
    named = _named(base, spec, {"TORCH_FR_DUMP_TEMP_FILE": stem})
    return named | {name: value for name, value in pipe.items() if name not in base}


def _named(base: Mapping[str, str], spec: Spec, wanted: Mapping[str, str]) -> dict[str, str]:
    """What nobody chose, under the old name too where we cannot know which torch a program brings."""
    named: dict[str, str] = {}
    for name, value in wanted.items():
        names = {name, RENAMED[name]}
        if not names & {*base, *spec.env}:
            named |= dict.fromkeys({name} if spec.python else names, value)
    return named


def _shardings(place: Place) -> Path:
    return place.folder / "shardings"


def _rank(spec: Spec, place: Place, local_rank: int) -> int:
    return place.node * spec.ranks_per_node + local_rank


def _torch(spec: Spec, place: Place, order: StartWorld, local_rank: int) -> dict[str, str]:
    rank = str(_rank(spec, place, local_rank))
    size = str(spec.nodes * spec.ranks_per_node)
    restarts = str(order.world - 1)
    return {
        "RANK": rank,
        "LOCAL_RANK": str(local_rank),
        "WORLD_SIZE": size,
        "LOCAL_WORLD_SIZE": str(spec.ranks_per_node),
        "GROUP_RANK": str(place.node),
        "GROUP_WORLD_SIZE": str(spec.nodes),
        "ROLE_RANK": rank,
        "ROLE_WORLD_SIZE": size,
        "ROLE_NAME": "default",
        "MASTER_ADDR": order.store.host,
        "MASTER_PORT": str(order.store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": restarts,
        # Budgets are per cause and the supervisor's: the only number an agent knows to be allowed is this one.
        "TORCHELASTIC_MAX_RESTARTS": restarts,
        "TORCHELASTIC_RUN_ID": place.run,
    }


def _memory(spec: Spec, order: StartWorld, copies: Sequence[str]) -> dict[str, str]:
    every = spec.checkpoint.memory_every_steps
    if every == 0 or not copies:
        return {}
    return {"LASTGOOD_MEMORY": json.dumps({"paths": copies, "since": order.memory_since, "every": every or 0})}


def _ours(spec: Spec, place: Place, order: StartWorld, local_rank: int) -> dict[str, str]:
    rank = _rank(spec, place, local_rank)
    return {
        "LASTGOOD_RUN": place.run,
        "LASTGOOD_ATTEMPT": str(place.attempt),
        "LASTGOOD_WORLD": str(order.world),
        "LASTGOOD_NODE": str(place.node),
        "LASTGOOD_MARK": place.mark,
        "LASTGOOD_RANK_DIR": str(place.rank_folder(order.world, rank)),
        "LASTGOOD_CHECKPOINTS": str(place.checkpoints(spec.checkpoint.folder)),
        "LASTGOOD_RESUME": json.dumps([[c.checkpoint, c.step] for c in order.candidates]),
        "LASTGOOD_SKIPS": json.dumps(order.skips),
        **_save_every(spec, order),
        "LASTGOOD_FRESH": str(int(order.fresh)),
        "LASTGOOD_AGENT_PID": str(os.getpid()),
    }


def _save_every(spec: Spec, order: StartWorld) -> dict[str, str]:
    steps = spec.checkpoint.every_steps or order.save_every
    return {"LASTGOOD_SAVE_EVERY": str(steps)} if steps else {}
