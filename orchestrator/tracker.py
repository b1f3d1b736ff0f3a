"""How do lines reach W&B, and what does it ask of us? The only door of wandb.

One process for each run, which the tracker starts (`orchestrator/tracker_desk.py`): the client can hang, wait for ever
or keep a run's id for itself, and is then ended with its process. Nothing is lost by that: a session begins with the
first line that the server does not have, and a run is done when a session finds that there is none.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from jobs import load
from jobs.spec_tracker import Tracker, WandB
from monitors.clock import SystemClock
from orchestrator import client, tracker_branch, tracker_key, tracker_segments
from orchestrator.home import Home, HomeError
from orchestrator.tracker_branch import Course
from orchestrator.tracker_desk import AGAIN, companion, course_of, folder_of, keep_course, pause
from orchestrator.tracker_lines import AXIS, Line
from orchestrator.tracker_outbox import Reader

__all__ = ["companion"]

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
INIT_S, FINISH_S, STREAM_S = 20.0, 30.0, 30.0
"""how long the client waits: for a run, for its last rows, for an answer to some (its own choice: 90, ever, 180)"""
WHO = "the Stop button of W&B"
STALE_STOP_S = 60.0
"""a Stop button that is heard so soon in a session was pressed before it"""


class Refused(Exception):
    """The server would not do it; the text says why."""


class Session:
    """One connection to a run of W&B, from `wandb.init` to its end."""

    def __init__(self, wanted: WandB, mode: str, run: str, folder: Path, *, last: bool, **which: Any) -> None:
        """`which` run, and from where on; `last`: its end is the run's. Raises Refused."""
        import wandb

        self.stop_asked = False
        self._alerts = wanted.alerts
        os.environ.pop("WANDB_DIR", None)
        settings = wandb.Settings(
            mode=mode,  # type: ignore[arg-type]
            base_url=tracker_key.server(wanted.base_url, os.environ),
            root_dir=str(folder),
            init_timeout=INIT_S,
            finish_timeout=FINISH_S,
            console="off",
            silent=True,
            disable_git=True,
            disable_code=True,
            x_disable_meta=True,
            x_disable_stats=True,  # of this process: no news of the run
            x_file_stream_transmit_interval=1.0,
            x_file_stream_timeout_seconds=STREAM_S,
            x_transaction_log_flush_interval=1.0,
            x_update_finish_state=last,
            stop_fn=self._stop,
        )
        try:
            self.run = wandb.init(
                project=wanted.project,
                entity=wanted.entity,
                group=wanted.group,
                name=run,
                tags=wanted.tags or None,
                settings=settings,
                **which,
            )
        except (wandb.errors.Error, RuntimeError, OSError, ValueError) as error:
            raise Refused(f"{type(error).__name__}: {error}") from None
        self.run.define_metric(AXIS)
        self.run.define_metric("*", step_metric=AXIS)

    def _stop(self) -> None:
        """On the client's own thread, which must go on."""
        self.stop_asked = True

    def tell(self, line: Line, step: int) -> None:
        """Hand a line to the client; its alert first, so that a line that arrived has its alert sent."""
        if line.alert is not None and self._alerts:
            title, text, level = line.alert
            self.run.alert(title=title, text=text, level=level)
        self.run.log({**line.values, "_timestamp": line.at}, step=step, commit=True)

    def end(self, code: int | None = None) -> None:
        """Wait for what is on its way; it may not all have arrived."""
        self.run.finish(exit_code=code)


class Sender:
    """Delivers the lines of one run."""

    def __init__(self, home: Home, run: str, tracker: Tracker, wanted: WandB, mode: str) -> None:
        self._home, self._run, self._tracker, self._wanted, self._mode = home, run, tracker, wanted, mode
        self._folder = folder_of(home, run)
        self._clock = SystemClock()
        self._parent = os.getppid()
        self.course: Course = course_of(self._folder, run)
        self._newest = ""
        """kind of the newest line"""
        self._why = ""
        """rolled-back steps stay where they are"""

    def deliver(self) -> int:
        """Until everything is there, or something stands in the way: then the next process goes on."""
        self._newest = self._end_of_outbox()[1]
        session = self._resumed(last=self._newest == "end")
        self._keep(replace(self.course, url=session.run.url or "", finished=False))
        first = self._next(session)
        self._keep(replace(self.course, delivered=max(self.course.delivered, first)))
        reader = Reader(self._folder, first)
        told = first
        for number, line in self._lines(reader, session):
            how = tracker_branch.way(self.course, number, line, self._ways)
            if how and not self._branch(session, number, line, how):
                return AGAIN
            if self.course.tells(line):
                session.tell(self._noted(line), self.course.step(number))
            told = number + 1
        return self._ended(session, reader, first, told)

    @property
    def _ways(self) -> str:
        return self._wanted.after_rewind if self._mode == "online" else "append"

    def _keep(self, course: Course) -> Course:
        self.course = course
        keep_course(self._folder, course)
        return course

    def _resumed(self, *, last: bool = False) -> Session:
        which = {"id": self.course.id, "resume": "allow", "config": self._config()}
        return Session(self._wanted, self._mode, self._run, self._folder, last=last, **which)

    def _config(self) -> dict[str, Any]:
        about = {"run": self._run, "host": os.uname().nodename}
        return {"lastgood": about | ({"dashboard": link} if (link := self._link()) else {})}

    def _link(self) -> str:
        """The page of the run; empty: nobody said where the dashboard is, and none listens."""
        address = self._home.root / "dashboard.address"
        with suppress(OSError, ValueError, KeyError, TypeError):
            base = self._tracker.dashboard or json.loads(address.read_text())["url"]
            return f"{str(base).rstrip('/')}/runs/{self._run}"
        return ""

    def _next(self, session: Session) -> int:
        """The first line that W&B does not have."""
        step = session.run.starting_step if self._mode == "online" else self._written() + 1
        self._keep(tracker_branch.skipped(self.course, self._end_of_outbox()[0], step))
        return self.course.number(step)

    def _end_of_outbox(self) -> tuple[int, str]:
        """How many lines there are, and the kind of the last one."""
        reader, kind = Reader(self._folder), ""
        while lines := reader.more():
            kind = lines[-1][1].kind
        return reader.count, kind

    def _written(self) -> int:
        """The last `_step` in the files of sessions that went before; -1 before the first."""
        from wandb.proto import wandb_internal_pb2

        newest = -1
        for path in tracker_segments.files(self._folder, self.course.id):
            for raw in tracker_segments.records(path.read_bytes()):
                record = wandb_internal_pb2.Record.FromString(raw)  # type: ignore[attr-defined]
                if record.HasField("history"):
                    newest = max(newest, record.history.step.num)
        return newest

    def _lines(self, reader: Reader, session: Session) -> Iterator[tuple[int, Line]]:
        """Those that are there, and those that come, until the run is over or this process has to end."""
        began = self._clock.now()
        while os.getppid() == self._parent:
            while lines := reader.more():
                self._newest = lines[-1][1].kind
                yield from lines
            if self._newest == "end":
                return
            if session.stop_asked:
                session.stop_asked = not self._stop(self._clock.now() - began)
            pause(LOOK_EVERY_S)

    def _noted(self, line: Line) -> Line:
        """A rewind that was not done says why."""
        if line.kind != "rewind" or not self._why:
            return line
        why, self._why = self._why, ""
        return replace(line, values={**line.values, "lastgood/kept_because": why})

    def _branch(self, session: Session, number: int, line: Line, how: str) -> bool:
        """Deal with steps that were rolled back; False when another process has to go on."""
        if how == "append" or line.keep is None:
            tried = "; ".join(f"{name}: {why}" for name, why in self.course.refused)
            if tried:
                log.warning("rolled-back steps stay beside the new ones: %s", tried)
            self._why = tried
            self._keep(tracker_branch.branched(self.course, number, None, "append"))
            return True
        session.end()
        begun = self._resumed()
        behind = begun.run.starting_step <= self.course.step(line.keep)
        begun.end()
        if behind:  # what is to be kept must be there first
            return False
        self._try(how, number, line.keep)
        return False  # the next process finds the run as it is now

    def _try(self, how: str, number: int, keep: int) -> None:
        moment = f"{self.course.id}?_step={self.course.step(keep)}"
        which: dict[str, Any] = {"resume_from": moment}
        new_id = self.course.id
        if how == "fork":
            self._keep(replace(self.course, forks=self.course.forks + 1))
            new_id = f"{self._run}-f{self.course.forks}"
            which = {"id": new_id, "fork_from": moment}
        try:
            Session(self._wanted, self._mode, self._run, self._folder, last=False, **which).end()
        except Refused as error:
            log.warning("W&B does not %s: %s", how, error)
            self._keep(replace(self.course, refused=(*self.course.refused, (how, str(error)))))
        else:
            self._keep(tracker_branch.branched(self.course, number, keep, how, new_id))

    def _ended(self, session: Session, reader: Reader, first: int, told: int) -> int:
        """Whether all is there shows to the next session, when this one told anything."""
        complete = told == reader.count
        if told > first or not complete or os.getppid() != self._parent:
            session.end()
            return AGAIN
        session.end(self._exit_code(told))
        self._keep(replace(self.course, delivered=told, finished=True))
        return 0

    def _exit_code(self, told: int) -> int:
        last = Reader(self._folder, told - 1).more()
        return int(last[-1][1].values.get("lastgood/exit", 0)) if last else 0

    def _stop(self, since_s: float) -> bool:
        """Somebody pressed the Stop button: save and end, as `lastgood stop` does. False while nobody can be asked."""
        if self.course.stop_obeyed and since_s < STALE_STOP_S:
            log.warning("the Stop button of W&B is still pressed from before: not obeyed again")
            return True
        try:
            answer = client.ask(self._home.root, {"ask": "stop", "run": self._run, "by": WHO}, start=False)
        except (client.NoSupervisor, HomeError) as error:
            log.warning("the Stop button of W&B: %s", error)
            pause(LOOK_EVERY_S * 10)
            return False
        log.info("the Stop button of W&B was pressed: %s", answer)
        self._keep(replace(self.course, stop_obeyed=True))
        return True


def main(argv: list[str] | None = None) -> int:
    """Deliver the lines of one run to W&B; the status says whether to go on later."""
    parser = argparse.ArgumentParser(prog="python -m orchestrator.tracker")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--run", required=True)
    asked = parser.parse_args(argv)
    home = Home(asked.home)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    fd = os.open(folder_of(home, asked.run) / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)  # until one that outlived its parent has ended
    tracker = load.from_json((home.run(asked.run) / "spec.json").read_text()).tracker
    wanted = tracker.wandb
    assert wanted is not None, f"{asked.run} has no W&B"
    mode = tracker_key.mode(wanted.mode, tracker_key.server(wanted.base_url, os.environ), os.environ)
    try:
        status = Sender(home, asked.run, tracker, wanted, mode).deliver() if mode != "disabled" else 0
    except Refused as error:
        log.warning("W&B: %s; tried again later", error)
        status = AGAIN
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)  # a client that waits for its service must not hold us


if __name__ == "__main__":
    sys.exit(main())
