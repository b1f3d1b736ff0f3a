"""Who is compared, and how is each started at its best? One row a peer."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.environments import ENVIRONMENTS, Environment

RANKS = 2
JOB = Path(__file__).with_name("job.py")
RESTARTS_MAX = "3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One process to start."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One launcher."""

    name: str
    title: str
    environment: Environment | None
    """None: the project's own, for lastgood"""
    starts: Callable[[Environment, tuple[str, ...]], tuple[Start, ...]] = lambda _, __: ()
    """of the environment and the job's words; the last process is the launcher that `launcher` kills"""
    words: tuple[str, ...] = ()
    """more of them for the job"""
    without: frozenset[str] = frozenset()
    """faults that mean nothing here"""
    spec: Mapping[str, Any] = field(default_factory=dict)
    """of lastgood: more than the usual"""
    usual: bool = True
    """takes part unless others are named"""
    job: Path = JOB
    until: int = 40
    """the last step"""
    ends_alike: bool = True
    """what it trains must end as the ranks alone do"""


def free_port() -> int:
    """A port that nobody listens on, nor on the one after it. It may be taken before it is used: then a start fails."""
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        port = int(one.getsockname()[1])
        try:
            two.bind(("127.0.0.1", port + 1))
        except OSError:
            return free_port()
        return port


def _torchrun(environment: Environment, job: tuple[str, ...], **env: str) -> tuple[Start, ...]:
    shape = ("--standalone", "--nproc-per-node", str(RANKS), "--max-restarts", RESTARTS_MAX)
    return (Start(argv=(environment.program("torchrun"), *shape, *job), env=env),)


def _torchrun_store(environment: Environment, job: tuple[str, ...]) -> tuple[Start, ...]:
    return _torchrun(environment, job, TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1")


def _nvrx(environment: Environment, job: tuple[str, ...]) -> tuple[Start, ...]:
    shape = (
        "--standalone",
        "--nproc-per-node",
        str(RANKS),
        "--max-restarts",
        RESTARTS_MAX,
        "--monitor-interval",
        "0.1",
    )
    beats = ("--ft-initial-rank-heartbeat-timeout", "30", "--ft-rank-heartbeat-timeout", "2")
    looks = ("--ft-workload-check-interval", "0.5")
    module = ("-m", "nvidia_resiliency_ext.fault_tolerance.launcher")
    return (Start(argv=(environment.program("python"), *module, *shape, *beats, *looks, *job)),)


def _bare(environment: Environment | None, python: str, job: tuple[str, ...]) -> tuple[Start, ...]:
    del environment
    # No LOCAL_RANK: with it NVRx asks NVML for the health of GPUs, and fails on a host that has none.
    meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(RANKS)}
    return tuple(Start(argv=(python, *job), env={**meet, "RANK": str(rank)}) for rank in range(RANKS))


def _inprocess(environment: Environment, job: tuple[str, ...]) -> tuple[Start, ...]:
    return _bare(environment, environment.program("python"), job)


def _dlrover(environment: Environment, job: tuple[str, ...]) -> tuple[Start, ...]:
    shape = ("--standalone", f"--nproc_per_node={RANKS}", f"--max_restarts={RESTARTS_MAX}")
    return (Start(argv=(environment.program("dlrover-run"), *shape, *job)),)


def _torchft(environment: Environment, job: tuple[str, ...]) -> tuple[Start, ...]:
    at = free_port()
    limits = ("--heartbeat_timeout_ms", "1000", "--join_timeout_ms", "2000", "--quorum_tick_ms", "100")
    lighthouse = ("--bind", f"[::]:{at}", "--min_replicas", "1", *limits)
    meet = {"TORCHFT_LIGHTHOUSE": f"http://127.0.0.1:{at}", "NUM_REPLICA_GROUPS": str(RANKS)}
    shape = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1", "--max-restarts", RESTARTS_MAX)
    replicas = tuple(
        Start(argv=(environment.program("python"), *shape, *job), env={**meet, "REPLICA_GROUP_ID": str(rank)})
        for rank in range(RANKS)
    )
    return (*replicas, Start(argv=(environment.program("torchft_lighthouse"), *lighthouse)))


def undisturbed(python: str, job: tuple[str, ...]) -> tuple[Start, ...]:
    """The ranks alone, for what they should end with."""
    return _bare(None, python, job)


PEERS = {
    peer.name: peer
    for peer in (
        Peer(name="lastgood", title="**lastgood**", environment=None, words=("--by", "lastgood")),
        Peer(
            name="lastgood-inprocess",
            title="lastgood, ranks that are not to blame keep their process",
            environment=None,
            words=("--by", "lastgood"),
            spec={"recovery": {"in_process": True}},
            usual=False,
        ),
        Peer(name="torchrun", title="torchrun 2.13", environment=ENVIRONMENTS["torchrun"], starts=_torchrun),
        Peer(
            name="torchrun-store",
            title="torchrun, a store per attempt, collectives time out after 10 s",
            environment=ENVIRONMENTS["torchrun"],
            starts=_torchrun_store,
            words=("--timeout-s", "10"),
        ),
        Peer(
            name="nvrx",
            title="NVRx ft_launcher 0.7, heartbeats of 2 s",
            environment=ENVIRONMENTS["nvrx"],
            starts=_nvrx,
            words=("--by", "heartbeats"),
        ),
        Peer(
            name="nvrx-inprocess",
            title="NVRx in-process 0.7, tuned",
            environment=ENVIRONMENTS["nvrx"],
            starts=_inprocess,
            words=("--by", "inprocess", "--timeout-s", "2"),
            without=frozenset({"launcher"}),
        ),
        Peer(name="dlrover", title="DLRover 0.6.1, patched", environment=ENVIRONMENTS["dlrover"], starts=_dlrover),
        Peer(
            name="torchft",
            title="torchft nightly, replicas that share gradients (launcher: its lighthouse)",
            environment=ENVIRONMENTS["torchft"],
            starts=_torchft,
            job=JOB.with_name("job_torchft.py"),
            until=1000,  # the survivor trains on alone meanwhile
            ends_alike=False,
        ),
    )
}
