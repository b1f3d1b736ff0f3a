"""What may the supervisor ask of an agent? Every order is safe to hear twice.

The link is one TCP connection that the agent dials: lines of JSON, each a value in the format of `monitors.wire`.

    agent       -> Hello(token, run, attempt, node, ...)          first line, always
    supervisor  -> Welcome()  or  Refused(why)                     then both talk at will
    agent       -> Report(seq, signal)                             kept and sent again until acknowledged
    supervisor  -> Heard(seq)                                      everything up to seq is in the journal
    supervisor  -> any order below

An agent that loses the link trains on, buffers its reports (progress is thinned out, facts are not) and dials again
with the address it reads anew from `$LASTGOOD_HOME/supervisor.json`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from monitors import signals, wire


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Where the ranks of one world meet: a TCPStore of its own, so that no stale key can be read."""

    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A checkpoint that the world may restore."""

    checkpoint: str
    step: int
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A copy of a rank's state in memory."""

    rank: int
    world: int
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeper:
    """Who keeps copies in memory, and where other nodes reach it."""

    node: int
    host: str
    port: int
    holds: tuple[Kept, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A keeper that has newer copies of a rank than the rank's own node."""

    rank: int
    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """Who dials."""

    token: str
    run: str
    attempt: int
    node: int
    host: str
    pid: int
    started_at: float
    """of the agent process, to tell a reused pid"""
    world: int
    """newest world it has workers for, or was ordered to start; 0 for none"""
    alive: bool
    """workers of that world are running"""
    store: Store | None = None
    """only node 0: the store for the *next* world; listens already"""
    at: float | None = None
    """by the agent's clock, which all its signals are dated with"""
    ranks: tuple[signals.RankStarted, ...] = ()
    """of that world, as they were started: a supervisor that was started anew has to know whose process and whose GPU
    is whose, also in the reports that nobody heard meanwhile"""
    keepers: tuple[Keeper, ...] = ()
    """of this node, if it has one, then those that an earlier attempt left on this host"""
    domain: str = ""
    """what fails together, as a rack: the node's copies are better kept in another one; empty: not known"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """The supervisor knows this agent."""

    heard: int = 0


class Refusal(StrEnum):
    """What a refusal is for."""

    OVER = "over"
    """its attempt was ended, or replaced: it ends its workers and itself"""
    TOKEN = "token"
    """the token is wrong: it trains on, reads the token anew and dials again"""
    UNKNOWN = "unknown"
    """nothing is known of its run: it trains on and dials again, for minutes"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The supervisor does not want this agent."""

    why: str
    cause: Refusal = Refusal.UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A signal, numbered by the agent from 1."""

    seq: int
    signal: signals.Signal


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOffered:
    """Node 0 has a fresh store for the next world."""

    store: Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """Reports up to `seq` need not be sent again."""

    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StartWorld:
    """Start this node's workers; nothing happens when this or a newer world was ordered before."""

    world: int
    store: Store
    candidates: tuple[Candidate, ...]
    """newest first; empty: start fresh. The ranks take the first whose bytes match its manifest."""
    skips: tuple[tuple[int, int], ...]
    """data indices never to be fed, half-open"""
    memory_since: int | None = None
    """first world whose copies in memory the ranks may take, where those are newer; None: none may"""
    fresh: bool = True
    """they may begin from scratch when there is nothing to restore"""
    in_process: bool = False
    """processes that left the world before may be ranks of this one"""
    save_every: int = 0
    """steps between durable saves, where the spec does not fix them; 0: of an older supervisor"""
    fetch: tuple[Source, ...] = ()
    """whose copies are to be brought here before the ranks begin"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SendCopies:
    """Have every copy in memory sent to this keeper, from now on."""

    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StopWorld:
    """End this node's workers of `world` and of older ones: SIGKILL at once, SIGTERM first when `grace_s` > 0."""

    world: int
    grace_s: float = 0.0
    in_process: bool = False
    """processes that leave the world in time may live on, but for those of `culprits`"""
    culprits: tuple[int, ...] = ()
    """ranks"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveEvery:
    """Tell the ranks how many steps should lie between durable saves; they agree on it at their next one."""

    world: int
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StopAfter:
    """Ask the ranks to finish `step`, save, and end with status 0."""

    world: int
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyCheckpoint:
    """Read a checkpoint back and compare it with its manifest."""

    checkpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteCheckpoint:
    """Remove a checkpoint, atomically for a reader."""

    checkpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LookAt:
    """Take `ProcessLooked` of these ranks (all of this node when empty), stacks included where possible."""

    world: int
    ranks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Inject:
    """A drill: `kill` and `stop` are signals by the agent, the others are done by the SDK inside the rank."""

    world: int
    drill: str
    rank: int
    number: int
    """unique in the run: injected once, however often the order comes"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Measure a device beside the ranks of `world`. Answer: `ProbeDone`, which is repeated when this is heard again."""

    world: int
    device: str | None
    """GPU UUID; None: a core of the host"""
    about: str
    """the suspect whom it is measured for: each device is measured once for each"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CapPower:
    """Limit the power of each GPU of this node's ranks, or (None) put the limits back. Answer: `PowerCapped`.

    They are put back when the agent leaves or dies, too.
    """

    watts: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """The attempt is over: end the workers, then the agent."""

    grace_s: float = 0.0
    relaunch: bool = False
    """another one follows: copies in memory stay with their keepers"""


InWorld = SaveEvery | StopAfter | LookAt | Inject | Probe
"""what means something only while its world is there"""
Order = StartWorld | SendCopies | StopWorld | InWorld | CapPower | VerifyCheckpoint | DeleteCheckpoint | Leave
ToAgent = Welcome | Refused | Heard | Order
FromAgent = Hello | Report | StoreOffered

TO_AGENT = wire.by_name(
    Welcome,
    Refused,
    Heard,
    StartWorld,
    SendCopies,
    StopWorld,
    SaveEvery,
    StopAfter,
    VerifyCheckpoint,
    DeleteCheckpoint,
    LookAt,
    Inject,
    Probe,
    CapPower,
    Leave,
)
FROM_AGENT = wire.by_name(Hello, StoreOffered)
SIGNALS = wire.by_name(*signals.Signal.__args__)


def encode(message: ToAgent | FromAgent) -> bytes:
    """One line for the link, newline included."""
    if isinstance(message, Report):
        # The signal is tagged on its own: a union cannot be told from its fields.
        body = f'{{"{wire.TAG}":"Report","seq":{message.seq},"signal":{wire.dumps(message.signal)}}}'
        return body.encode() + b"\n"
    return wire.dumps(message).encode() + b"\n"


def decode_from_agent(body: dict[str, Any]) -> FromAgent:
    """The message of one parsed line. Raises KeyError or ValueError when it is none."""
    if body.get(wire.TAG) == "Report":
        return Report(seq=int(body["seq"]), signal=wire.decode(body["signal"], SIGNALS))
    message: FromAgent = wire.decode(body, FROM_AGENT)
    return message
