"""What does the user want run? The spec, validated on construction; `jobs.load` makes one from YAML.

Every default says where it comes from. Unknown keys are errors: a misspelt limit must not silently be off.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from jobs.spec_money import Budget, Cost, Power
from jobs.spec_part import Part
from jobs.spec_tracker import Tracker, refuse_secrets

NODES_MAX = 32768
RANKS_PER_NODE_MAX = 1024
RANKS_MAX = 262_144
"""More than the largest machines have. The supervisor keeps some objects for each rank: a slip of a digit must not cost
it its memory, and all other runs their supervisor."""

EXCLUDING: frozenset[str] = frozenset()
"""Schedulers that can be told which hosts not to give. `local_cwd` has one host."""

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")


def _is_name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise ValueError("must be 1 to 40 of a-z, 0-9 and '-', and neither begin nor end with '-'")
    return value


def _is_pattern(value: str) -> str:
    try:
        groups = re.compile(value).groupindex
    except re.error as error:
        raise ValueError(f"is not a regular expression: {error}") from None
    if "step" not in groups:
        raise ValueError("needs a named group (?P<step>...); (?P<loss>...) and (?P<grad_norm>...) are optional")
    return value


def _is_absolute(value: str) -> str:
    if not value.startswith("/"):
        raise ValueError(f"must be an absolute path: not {value!r}")
    return value


def _is_switch_or_path(value: str) -> str:
    if value not in ("auto", "off") and not value.startswith("/"):
        raise ValueError(f"must be auto, off, or the absolute path of a file: not {value!r}")
    return value


class Checkpoints(Part):
    """Durable saves of a training script that uses the SDK."""

    folder: str | None = None
    """Where they lie, on storage that every node sees; default: `checkpoints` in the run's own folder."""
    every_steps: int | None = Field(default=None, ge=1)
    """Steps between saves; default: chosen while the run goes on, from what a save costs and how often something fails.
    `lastgood status` shows the number, and why."""
    memory_every_steps: int | None = Field(default=None, ge=0)
    """Steps between copies of the state in the memory of each rank's node, from which a world goes on that follows a
    crash or a hang; default: as often as costs 0.4 % of the steps' time; 0: no copies. Up to three are kept, where they
    take less than 0.4 of the free memory, and two of another node's, where those take less than 0.4 of what is left;
    durable saves are then written from them, by a process of the node."""
    keep: int = Field(default=2, ge=1)
    """Good checkpoints kept; the last good one is never deleted."""
    resume_from: str | None = None
    """Checkpoint of another run (`.../step-00000040.a1w1`), of any world size, that this one begins from; it is only
    read, and read back first. Without it, a run begins from scratch and resumes only from its own checkpoints."""
    probation_steps: int = Field(default=20, ge=1)
    """Healthy steps after a save before it counts as good; longer than the loss detector needs to be sure."""


class Progress(Part):
    """How to see the progress of a script that does not use the SDK."""

    pattern: Annotated[str, AfterValidator(_is_pattern)] | None = None
    """Regular expression searched in every output line, with named groups step, loss, grad_norm."""


class Hang(Part):
    """When silence is a hang."""

    floor_s: float = Field(default=1.0, ge=0.5)
    """No learned limit is below this; measured: 1 s gave no false alarm in 29 runs of 0.1 s steps."""
    factor: float = Field(default=6.0, ge=2.0)
    """Times the 99th percentile of the run's own durations, per phase."""
    unlearned_s: float = Field(default=300.0, ge=1.0)
    """Limit for a phase that was not seen often enough to learn from: a first save, a first evaluation."""
    start_s: float = Field(default=600.0, ge=1.0)
    """From starting a world to its first step. In a run that never took one only ranks that do nothing are late."""


class Loss(Part):
    """The loss detector."""

    enabled: bool = True
    persist_rows: int = Field(default=12, ge=4)
    """Rows over which a spike must persist before anything is done about it (10 of 12)."""


class Detect(Part):
    """What the detectors may conclude."""

    hang: Hang = Hang()
    loss: Loss = Loss()
    unseen_s: float = Field(default=30.0, ge=1.0)
    """Silence of a node that is worth a word: an agent reports several times a second, dials again within seconds."""


class Senses(Part):
    """What each node looks at beside its ranks, in a process of its own beside the agent. `lastgood doctor` says which
    senses are blind on a machine, and what opens them."""

    kernel: Annotated[str, AfterValidator(_is_switch_or_path)] = "auto"
    """The kernel's log: `auto` takes what may be read of /dev/kmsg and the journal, a path is a file of its lines."""
    overrides: Annotated[str, AfterValidator(_is_absolute)] | None = None
    """File of JSON in which a site says what lines of its kernels, and Xids, mean, where the catalogue says otherwise:
    `{"xids": {"63": {"action": "none"}}, "faults": {"nvme_timeout": {"action": "isolate_node"}}}`."""
    nvml: Literal["auto", "off"] = "auto"
    """GPUs, through NVIDIA's management library."""
    host: Literal["auto", "off"] = "auto"
    """Memory, disks, mounts, clock, network ports and processes of the host."""
    paths: Annotated[tuple[Annotated[str, AfterValidator(_is_absolute)], ...], Field(max_length=32)] = ()
    """Further folders whose disks are watched, such as that of the data; the checkpoint folder, the state folder, /tmp
    and / always are."""

    @property
    def on(self) -> tuple[str, ...]:
        """Names of the senses that are not switched off."""
        return tuple(name for name in ("nvml", "kernel", "host") if getattr(self, name) != "off")


class Recovery(Part):
    """What the runbooks leave to the run."""

    runbooks: str | None = None
    """Folder whose runbooks replace the built-in ones of the same name."""
    skip_margin_steps: int = Field(default=8, ge=0)
    """Batches skipped beyond the last one fed, when a window of data is skipped."""
    fresh_steps_max: int = Field(default=500, ge=0)
    """Steps that may be thrown away by starting from scratch when no checkpoint is usable; else the run is held."""
    launch_timeout_s: float = Field(default=120.0, gt=0)
    warm: bool = True
    """Keep a process per node that has imported what the program imports, and fork ranks from it in milliseconds."""
    in_process: bool = False
    """Ranks that are not to blame for the end of a world keep their process, with its device and all it compiled, and
    call the training function again in the next one (`lastgood.main`). Needs `warm`."""
    spares: bool = True
    """Keep a process for each rank of a node that takes the place of a lost one at once. Needs `warm`."""
    spare_contexts: bool = False
    """Spares hold a context of their GPU already, which takes some hundred MiB of its memory; GPUs that admit only one
    process refuse it."""
    stop_grace_s: float = Field(default=60.0, ge=0)
    """For finishing the step and saving when a person stops the run."""


class Data(Part):
    """Which data is fed."""

    skip: tuple[tuple[int, int], ...] = ()
    """Data indices never to be fed, as half-open ranges."""

    @model_validator(mode="after")
    def _ordered(self) -> Data:
        for first, end in self.skip:
            if not 0 <= first < end:
                raise ValueError(f"skip: [{first}, {end}] is not a range of data indices: needs 0 <= first < end")
        return self


class Spec(Part):
    """One run."""

    name: Annotated[str, AfterValidator(_is_name)]
    """Name of the run; a submission adds a short suffix."""
    command: Annotated[tuple[str, ...], Field(min_length=1)] | str
    """What torchrun would be given: `train.py --lr 3e-4`, `-m my.module`, or any program with `python: false`."""
    python: bool = True
    """The command is a Python script or `-m module`; false: it is any program."""
    workdir: str = "."
    """Where the command runs, relative to the spec's file."""
    env: dict[str, str] = Field(default={})
    nodes: int = Field(default=1, ge=1, le=NODES_MAX)
    ranks_per_node: int = Field(default=1, ge=1, le=RANKS_PER_NODE_MAX)
    scheduler: Literal["local_cwd"] = "local_cwd"
    """TorchX scheduler."""
    checkpoint: Checkpoints = Checkpoints()
    progress: Progress = Progress()
    detect: Detect = Detect()
    senses: Senses = Senses()
    recovery: Recovery = Recovery()
    data: Data = Data()
    target_steps: int | None = Field(default=None, ge=1)
    """The step at which the run is complete, where the script does not say it through the SDK
    (`run.steps(until=...)`): what the forecast of `lastgood status` counts to. Nothing is ended by it."""
    cost: Cost = Cost()
    budget: Budget = Budget()
    power: Power = Power()
    tracker: Tracker = Tracker()

    @field_validator("ranks_per_node")
    @classmethod
    def _countable(cls, value: int, info: ValidationInfo) -> int:
        ranks = value * info.data.get("nodes", 1)
        if ranks > RANKS_MAX:
            raise ValueError(f"must be at most {RANKS_MAX} ranks in all, not {ranks} (nodes times ranks_per_node)")
        return value

    @model_validator(mode="after")
    def _resumable(self) -> Spec:
        if self.checkpoint.resume_from is not None and not self.python:
            raise ValueError("checkpoint.resume_from needs a Python script that uses the SDK, not `python: false`")
        return self

    @model_validator(mode="after")
    def _countable_money(self) -> Spec:
        if self.budget.money is not None and not self.cost.has_prices:
            raise ValueError("budget.money needs a price: cost.gpu_hour, cost.kwh, or both")
        return self

    @model_validator(mode="after")
    def _one_client(self) -> Spec:
        if self.tracker.script.service and self.recovery.in_process:
            raise ValueError(
                "tracker.script.service and recovery.in_process exclude each other: a process that lives on keeps the "
                "wandb service of its first world, which ends with that world"
            )
        return self

    @field_validator("env")
    @classmethod
    def _without_secrets(cls, value: dict[str, str]) -> dict[str, str]:
        return refuse_secrets(value)

    @property
    def argv(self) -> tuple[str, ...]:
        """The command as words."""
        import shlex

        return tuple(shlex.split(self.command)) if isinstance(self.command, str) else self.command
