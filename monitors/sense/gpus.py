"""How are the GPUs of this node, and what does their driver tell? Looked at without ever waiting for the driver.

One process asks for values, one listens for events, so that a call which never returns costs no event. A GPU whose
calls do not return in time is left out from then on, and tried now and then by a process of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from monitors.catalogue.kernel import Catalogue
from monitors.hardware import GpuEvent, GpuFailed, GpuLooked
from monitors.sense import site
from monitors.sense.gpus_child import LIBRARY, Asker, Said
from monitors.signals import Blind, Signal

EVENTS = "nvml_events"
"""name of the sense that hears Xids: it may be blind while values are seen"""
OVERRIDES = "overrides"
"""what a site says of Xids, as a sense: blind where its file cannot be read"""
NO_ANSWER = "no_answer"
_CLASSES: dict[Any, Any] = {cls.__name__: cls for cls in (GpuEvent, GpuFailed, GpuLooked)}


@dataclass(frozen=True, slots=True, kw_only=True)
class GpusConfig:
    """How often, and how long to wait."""

    poll_s: float = 1.0
    """a lost GPU has to be an incident within 2 s"""
    deadline_s: float = 5.0
    """for all calls about one GPU: they take milliseconds, and up to a second while a GPU wakes up without
    persistence mode"""
    events_deadline_s: float = 2.0
    """the listener says that it is there every half second"""
    again_s: float = 30.0
    """until a GPU that did not answer is asked again; twice as long each time"""
    again_most_s: float = 600.0


@dataclass(slots=True, kw_only=True)
class _LeftOut:
    """A GPU whose calls did not return."""

    asker: Asker
    pid: int | None
    """of the process that is, or was, stuck in the call"""
    again_at: float
    again_s: float
    is_tried: bool = False


class Gpus:
    """The sense: GpuLooked and GpuFailed about once a second for each GPU, GpuEvent when the driver tells of one."""

    every_s = 0.4
    """how often `look` should be called: it reads what the processes said"""

    def __init__(
        self,
        *,
        node: int,
        env: Mapping[str, str] | None = None,
        overrides: Path | None = None,
        config: GpusConfig | None = None,
    ) -> None:
        """`env` is added to the environment of the processes that load the driver's library; `overrides` is what a
        site changed (`site.catalogue`)."""
        self.config = config or GpusConfig()
        self._node = node
        self._overrides = overrides
        self._catalogue: Catalogue | None = None
        """read at the first Xid, and as long as it cannot be read, at each"""
        self._env = env
        self._known: dict[int, tuple[str, str | None]] = {}
        self._why: dict[str, str] = {}
        self._out: dict[int, _LeftOut] = {}
        self._unheard: set[int] = set()
        """that the listener was started without"""
        self._crashed: set[int] = set()
        """at which the driver's library crashed once: at the second time they are left out"""
        rest_s = self.config.poll_s + self.config.deadline_s
        self._polls = self._asker(lambda: ("polls", *self._without(self._out)), rest_s)
        self._events = self._asker(self._heard, self.config.events_deadline_s)

    @property
    def pids(self) -> tuple[int, ...]:
        """Of the processes that run now."""
        askers = (self._polls, self._events, *(out.asker for out in self._out.values()))
        return tuple(asker.pid for asker in askers if asker.pid is not None)

    def look(self, now: float) -> list[Signal]:
        """What was said since the last look. Never waits for the driver."""
        signals = self._polls_said(self._polls.look(now), now)
        if self._known:
            signals += self._events_said(self._events.look(now), now)
        for index in tuple(self._out):
            signals += self._try_again(index, now)
        return signals

    def close(self) -> None:
        """End the processes."""
        for asker in (self._polls, self._events, *(out.asker for out in self._out.values())):
            asker.close()
        self._out.clear()

    def _asker(self, arguments: Any, rest_s: float) -> Asker:
        shared = ("--node", str(self._node), "--every", str(self.config.poll_s))
        return Asker(lambda: (*arguments(), *shared), env=self._env, deadline_s=self.config.deadline_s, rest_s=rest_s)

    def _heard(self) -> tuple[str, ...]:
        """A GPU whose calls do not return would hang the listener as well."""
        self._unheard |= set(self._out)
        return ("events", *self._without(self._unheard))

    def _without(self, indices: Any) -> tuple[str, ...]:
        return tuple(word for index in sorted(indices) for word in ("--without", str(index)))

    # ------------------------------------------------------------------------------------------- values

    def _polls_said(self, said: Said, now: float) -> list[Signal]:
        signals = [signal for line in said.lines for signal in self._polls_line(line, now)]
        if not said.overdue and not said.ended:
            return signals
        asked = said.asked
        if asked is None or asked == LIBRARY:
            return signals + self._blind("nvml", self._standstill(said), now)
        if said.overdue or asked in self._crashed:
            return signals + self._leave_out(asked, said.pid, now)
        self._crashed.add(asked)
        return signals + self._blind("nvml", f"the process that asks NVML {said.ended} at GPU {asked}", now)

    def _polls_line(self, line: dict[str, Any], now: float) -> list[Signal]:
        if "blind" in line:
            return self._blind("nvml", str(line["blind"]), now)
        if "gpus" in line:
            return self._opened(line["gpus"], now)
        signal = self._decoded(line)
        if signal is None:
            return []
        return [*self._sees("nvml", signal.at), signal]

    def _opened(self, found: list[tuple[int, str, str | None]], now: float) -> list[Signal]:
        """Those that were there before, and are not any more, were lost while nobody looked."""
        here = {uuid for _, uuid, _ in found}
        gone = [
            self._failed(index, "lost", now)
            for index, (uuid, _) in self._known.items()
            if uuid not in here and index not in self._out
        ]
        self._known.update({index: (uuid, pci) for index, uuid, pci in found})
        return [*self._sees("nvml", now), *gone]

    def _decoded(self, line: dict[str, Any]) -> GpuEvent | GpuFailed | GpuLooked | None:
        cls = _CLASSES.get(line.pop("is", None))
        if cls is None:
            return None
        # Not through `wire.decode`: the line comes from our own process, and checking it costs more than making it.
        if "throttled_s" in line:
            line["throttled_s"] = tuple((reason, s) for reason, s in line["throttled_s"])
        signal: GpuEvent | GpuFailed | GpuLooked = cls(**line)
        if isinstance(signal, GpuFailed) and signal.device is None and signal.index in self._known:
            uuid, pci = self._known[signal.index]
            return replace(signal, device=uuid, pci=pci)
        return signal

    def _standstill(self, said: Said) -> str:
        # Whoever said why it sees nothing ended for that reason.
        if said.ended:
            return self._why.get("nvml") or f"the process that asks NVML {said.ended}"
        if said.asked == LIBRARY:
            return "nvmlInit does not return: the driver hangs; `sudo dmesg | grep -i nvrm`"
        return "the process that asks NVML stands still"

    def _failed(self, index: int, error: str, now: float) -> GpuFailed:
        uuid, pci = self._known.get(index, (None, None))
        return GpuFailed(at=now, node=self._node, device=uuid, index=index, error=error, pci=pci)

    # ------------------------------------------------------------------------------------------- GPUs that hang

    def _leave_out(self, index: int, pid: int | None, now: float) -> list[Signal]:
        """Go on without it at once."""
        self._crashed.discard(index)
        again_s = self.config.again_s
        asker = self._asker(lambda: ("polls", "--only", str(index)), self.config.deadline_s)
        self._out[index] = _LeftOut(asker=asker, pid=pid, again_at=now + again_s, again_s=again_s)
        self._polls.restart()
        return [self._failed(index, NO_ANSWER, now)]

    def _try_again(self, index: int, now: float) -> list[Signal]:
        out = self._out[index]
        if not out.is_tried:
            # While its last call has not returned, another would not either.
            if now < out.again_at or out.pid in self._polls.stuck or out.asker.stuck:
                return []
            out.asker.restart()
            out.is_tried = True
        said = out.asker.look(now)
        answers = [signal for line in said.lines if (signal := self._decoded(line)) is not None]
        if answers:
            self._take_back(index)
            return [*answers]
        if not said.overdue and not said.ended:
            return []
        out.asker.stop()
        out.is_tried = False
        out.again_s = min(2 * out.again_s, self.config.again_most_s)
        out.again_at = now + out.again_s
        return [self._failed(index, NO_ANSWER, now)]

    def _take_back(self, index: int) -> None:
        self._out.pop(index).asker.close()
        self._polls.restart()
        if index in self._unheard:
            self._unheard.discard(index)
            self._events.restart()

    # ------------------------------------------------------------------------------------------- events

    def _events_said(self, said: Said, now: float) -> list[Signal]:
        signals = [signal for line in said.lines for signal in self._events_line(line, now)]
        if said.overdue and said.asked is not None and said.asked != LIBRARY:
            self._unheard.add(said.asked)  # whoever asks it for values will tell what is wrong with it
            self._events.restart()
            return signals
        if said.overdue:
            return signals + self._blind(EVENTS, "the driver's event queue does not answer", now)
        if said.ended:
            why = self._why.get(EVENTS) or f"the process that hears the driver's events {said.ended}"
            return signals + self._blind(EVENTS, why, now)
        return signals

    def _events_line(self, line: dict[str, Any], now: float) -> list[Signal]:
        if "blind" in line:
            return self._blind(EVENTS, str(line["blind"]), now)
        if "gpus" in line or "alive" in line:
            return self._sees(EVENTS, now)
        signal = self._decoded(line)
        if isinstance(signal, GpuEvent) and signal.event == "xid":
            return self._judged(signal)
        return [] if signal is None else [signal]

    def _judged(self, xid: GpuEvent) -> list[Signal]:
        """What the number means on this node. The site's file is here; whoever concludes may be elsewhere."""
        try:
            known = self._catalogue = self._catalogue or site.catalogue(self._overrides)
        except (OSError, ValueError) as error:
            # As though the site had changed nothing: a slip in its file must not hide a broken GPU.
            return [*self._blind(OVERRIDES, f"{self._overrides}: {error}", xid.at), xid]
        meant = known.xids.get(xid.data)
        judged = xid if meant is None else replace(xid, fault=meant.fault, action=known.action(meant))
        return [*self._sees(OVERRIDES, xid.at), judged]

    # ------------------------------------------------------------------------------------------- blindness

    def _blind(self, sense: str, why: str, at: float) -> list[Signal]:
        """Said when it is new."""
        if self._why.get(sense, "") == why:
            return []
        self._why[sense] = why
        return [Blind(at=at, node=self._node, sense=sense, why=why)]

    def _sees(self, sense: str, at: float) -> list[Signal]:
        return self._blind(sense, "", at)
