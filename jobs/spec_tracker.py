"""Which experiment trackers are told how the run goes, and what does a script find that talks to W&B by itself?"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from jobs.spec_part import Part

SECRETS = ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN")
NAME = re.compile(r"[^/\\#?%:\s][^/\\#?%:]{0,127}")
"""what W&B takes for a project"""


def _is_project(value: str) -> str:
    if not NAME.fullmatch(value):
        raise ValueError("must be 1 to 128 characters, none of them / \\ # ? % :")
    return value


def _is_url(value: str) -> str:
    """Without a user or a password in it: what stands in a spec is shown."""
    if not re.fullmatch(r"https?://[^\s/@?#]+(/[^\s@?#]*)?", value):
        raise ValueError("must be http://HOST or https://HOST, without user, password or query")
    return value.rstrip("/")


class WandB(Part):
    """One run of W&B that goes on over every attempt and world of the run. The API key comes from the environment
    (WANDB_API_KEY) or ~/.netrc, and from nowhere else."""

    project: Annotated[str, AfterValidator(_is_project)]
    """Where W&B keeps the run."""
    entity: Annotated[str, AfterValidator(_is_project)] | None = None
    """User or team; default: the key's own."""
    group: str | None = Field(default=None, min_length=1, max_length=128)
    """Runs of one group stand together at W&B."""
    tags: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=64)], ...], Field(max_length=32)] = ()
    """What W&B lists the run under."""
    mode: Literal["auto", "online", "offline"] = "auto"
    """`offline` writes files for `wandb sync`; `auto` is what WANDB_MODE says, else `online` where a key is found."""
    after_rewind: Literal["append", "fork", "rewind", "auto"] = "append"
    """What becomes of steps that were rolled back: `append` keeps them beside those that are trained again (the row
    says in which world), `rewind` takes them out of the run, `fork` goes on in another run without them. `auto` is the
    first of rewind and fork that the server can do; what it cannot do becomes append, and the reason is told."""
    alerts: bool = True
    """Send W&B alerts besides the paging path."""
    base_url: Annotated[str, AfterValidator(_is_url)] | None = None
    """A server of your own; default: WANDB_BASE_URL, else https://api.wandb.ai."""


class TensorBoard(Part):
    """Event files for TensorBoard."""

    folder: str | None = Field(default=None, min_length=1)
    """Where they lie; default: `tracker/tensorboard` in the run's own folder."""


class Script(Part):
    """For a training script that calls wandb itself."""

    one_run: bool = False
    """WANDB_RUN_ID and WANDB_RESUME, so that the worlds of a rank are one W&B run: that of rank 0 is `RUN-script`."""
    service: bool = False
    """A wandb service for each world of a node (WANDB_SERVICE), so that what a rank logged outlives the rank."""
    service_wait_s: float = Field(default=5.0, ge=0, le=60)
    """At most how long the next world waits until the service of the last one has uploaded what it has; it goes on
    uploading after that."""


class Tracker(Part):
    """Experiment trackers that are told how the run goes: by a process of their own, so none ever delays a step."""

    wandb: WandB | None = None
    """W&B; default: not told."""
    tensorboard: TensorBoard | None = None
    """TensorBoard's files, `{}` for the usual place; default: none."""
    script: Script = Script()
    dashboard: Annotated[str, AfterValidator(_is_url)] | None = None
    """Address of lastgood's dashboard as others reach it, for the link; default: where it listens, if it does."""

    @property
    def is_on(self) -> bool:
        """Anybody is told."""
        return self.wandb is not None or self.tensorboard is not None

    def resolved(self, base: str) -> Tracker:
        """With a folder that is meant from the absolute folder `base` made absolute."""
        if self.tensorboard is None or self.tensorboard.folder is None or self.tensorboard.folder.startswith("/"):
            return self
        board = TensorBoard(folder=f"{base}/{self.tensorboard.folder}")
        return self.model_copy(update={"tensorboard": board})


def refuse_secrets(env: dict[str, str]) -> dict[str, str]:
    """Raises ValueError for a key in the spec: it would stand in files and in the journal for good."""
    found = [name for name in SECRETS if name in env]
    if found:
        raise ValueError(
            f"{found[0]} would be written down with the spec: put it into the environment that lastgood is started in, "
            "or into ~/.netrc (`wandb login` does)"
        )
    return env
