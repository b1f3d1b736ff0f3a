"""What does TorchX get to launch? One app per attempt: one role, one replica per node, each replica an agent."""

from __future__ import annotations

import sys
from pathlib import Path

from torchx.specs import AppDef, Resource, Role, macros

from jobs.registry import AGENT, MARK, mark
from jobs.spec import Spec


def app(spec: Spec, *, run: str, attempt: int, home: Path) -> AppDef:
    """The attempt as TorchX sees it. Only agents are in it: they start the workers, world by world."""
    return AppDef(
        name=_name(run, attempt),
        roles=[
            Role(
                name="agent",
                # local_cwd ignores images; schedulers that pull one get the machine's own file system.
                image="/",
                entrypoint=sys.executable,
                args=_args(run, attempt, home),
                env=_env(run, attempt, home),
                num_replicas=spec.nodes,
                resource=Resource(cpu=1, gpu=spec.ranks_per_node, memMB=1),
                # Whether to try again, and where, is the orchestrator's decision.
                max_retries=0,
            )
        ],
    )


def _args(run: str, attempt: int, home: Path) -> list[str]:
    words = ["-P", "-m", AGENT, "--home", str(home), "--run", run, "--attempt", str(attempt)]
    return [*map(_literal, words), "--node", macros.replica_id]


def _env(run: str, attempt: int, home: Path) -> dict[str, str]:
    values = {
        MARK: mark(run, attempt),
        "LASTGOOD_HOME": str(home),
        "LASTGOOD_RUN": run,
        "LASTGOOD_ATTEMPT": str(attempt),
    }
    return {name: _literal(value) for name, value in values.items()}


def _literal(text: str) -> str:
    """TorchX substitutes `${...}` in every argument and variable."""
    return text.replace("$", "$$")


def _name(run: str, attempt: int) -> str:
    """Names of apps are also names of folders and of scheduler jobs."""
    return f"{run}-{attempt}"
