"""Does the journal keep what it is given, and say what is wrong when it cannot?"""

from __future__ import annotations

import json
import math
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from monitors.incidents import Incident, Kind
from monitors.signals import StepReported
from orchestrator.core import actions as a
from orchestrator.core import events as e
from orchestrator.core.policy import Rung
from orchestrator.core.state import Checkpoint, Decision, Opened, Phase, Recovery, Strike, Taint
from orchestrator.journal import Entry, Journal, JournalNewer, JournalUnavailable, Submission
from tests.story.scripted import POLICY, RUN, T0, Script, blank


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def journal(path: Path):
    with Journal(path) as journal:
        journal.submit(RUN, "gpt", {"name": "gpt", "nodes": 2}, "name: gpt  # mine\n", T0)
        yield journal


INCIDENT = Incident(kind=Kind.LOSS_SPIKE, at=T0 + 2, onset=T0 + 1, world=1, evidence=("up", "and stays"))
OPENED = Opened(id="i1", incident=INCIDENT, rung=Rung.REWIND_SKIP, until_step=9)
FULL = blank(
    checkpoints=(Checkpoint(name="c", step=4, world=1, saved_at=T0, bytes=1, path="/c"),),
    taints=(Taint(world=1, onset=T0, step=None),),
    skips=((3, 5),),
    open=(OPENED,),
    strikes=(Strike(at=T0, kind=Kind.HANG, step=3, fingerprint="f", best_step=4),),
    recovery=Recovery(rung=Rung.REWIND, below_step=3),
    hold_kind=Kind.CRASH_LOOP,
    deadline=T0 + 9.5,
)
DECISION = Decision(
    state=FULL,
    actions=(a.StopWorld(attempt=1, world=1), a.StartWorld(attempt=1, world=2, candidates=("c",), skips=((3, 5),))),
    reason="because",
    opened=(OPENED,),
    closed=("i0",),
)
EVENT = e.IncidentDetected(at=T0 + 2, incident=INCIDENT)


def test_event_decision_actions_and_state_come_back_as_they_were(journal: Journal) -> None:
    entry = journal.record(RUN, EVENT, DECISION)
    assert journal.entries(RUN) == [
        Entry(
            id=entry,
            event=EVENT,
            phase=Phase.TRAINING,
            reason="because",
            actions=DECISION.actions,
            opened=(OPENED,),
            closed=("i0",),
        )
    ]
    assert journal.load(RUN) == (FULL, [])
    assert journal.events(RUN) == [(entry, EVENT)]


def test_every_kind_of_event_and_action_of_a_real_run_comes_back(path: Path) -> None:
    with Journal(path) as journal:
        script = Script(journal).join().begin(0).train(10).save().train(10).fail(Kind.WORKER_KILLED).stop()
        script.begin(10).train(20).finish()
        assert journal.entries(RUN) == script.entries
        assert journal.load(RUN) == (script.state, [])


def test_a_run_without_events_has_nothing_to_load(journal: Journal) -> None:
    assert journal.load(RUN) == (None, [])


def test_actions_stay_unmarked_until_performed(journal: Journal) -> None:
    first = journal.record(RUN, EVENT, DECISION)
    second = journal.record(RUN, EVENT, DECISION)
    journal.mark(first, 0, T0)
    journal.mark(first, 0, T0 + 1)
    stop, start = DECISION.actions
    assert journal.unmarked(RUN) == [(first, 1, start), (second, 0, stop), (second, 1, start)]


def test_events_since_and_of_one_kind(journal: Journal) -> None:
    ids = [journal.record(RUN, e.TimePassed(at=T0 + n), Decision(state=blank())) for n in range(3)]
    last = journal.record(RUN, EVENT, DECISION)
    assert [id_ for id_, _ in journal.events(RUN, ids[1])] == [ids[2], last]
    assert journal.events(RUN, kind=e.IncidentDetected) == [(last, EVENT)]
    assert [entry.id for entry in journal.entries(RUN, ids[2])] == [last]


def test_the_newest_of_a_kind(journal: Journal) -> None:
    assert journal.newest(RUN, e.TimePassed) is None
    for n in range(3):
        journal.record(RUN, e.TimePassed(at=T0 + n), Decision(state=blank()))
    journal.record(RUN, EVENT, DECISION)
    assert journal.newest(RUN, e.TimePassed) == e.TimePassed(at=T0 + 2)
    assert journal.newest("other-abcde", e.TimePassed) is None


def test_runs_are_apart(journal: Journal) -> None:
    journal.submit("other-abcde", "other", {}, "", T0 - 1)
    journal.record("other-abcde", EVENT, DECISION)
    assert journal.entries(RUN) == []
    assert journal.unmarked(RUN) == []
    assert [submission.run for submission in journal.runs()] == ["other-abcde", RUN]
    assert journal.runs()[1].spec == {"name": "gpt", "nodes": 2}
    assert journal.runs()[1].spec_yaml == "name: gpt  # mine\n"


def test_a_run_is_taken_in_with_its_first_decision_or_not_at_all(journal: Journal) -> None:
    given = Submission(run="other-abcde", name="other", submitted_at=T0, spec={}, spec_yaml="")
    cut = replace(DECISION, actions=(*DECISION.actions, object()))  # type: ignore[arg-type]
    with pytest.raises(Exception, match="object"):
        journal.record(given.run, EVENT, cut, submission=given)
    assert [submission.run for submission in journal.runs()] == [RUN]
    journal.record(given.run, EVENT, DECISION, submission=given)
    assert given in journal.runs()
    assert journal.phase(given.run) == DECISION.state.phase


def test_an_event_of_an_unknown_run_is_our_own_mistake(journal: Journal) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        journal.record("nobody", EVENT, DECISION)
    assert journal.unmarked("nobody") == []


def test_only_the_newest_state_and_the_kept_ones_are_stored(journal: Journal, path: Path) -> None:
    for step in range(10):
        event = e.Progressed(at=T0 + step, world=1, step=step)
        journal.record(RUN, event, Decision(state=blank(step=step)), snapshot=step in (0, 5))
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT entry, kept, policy_version FROM snapshots ORDER BY entry").fetchall() == [
            (1, 1, "scripted"),
            (6, 1, "scripted"),
            (10, 0, "scripted"),
        ]


def test_a_state_that_cannot_be_read_is_decided_again_from_the_kept_one_before(journal: Journal, path: Path) -> None:
    events = [e.Progressed(at=T0 + step, world=1, step=step) for step in range(4)]
    for event in events:
        journal.record(RUN, event, Decision(state=blank(step=event.step)), snapshot=event.step == 1)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("""UPDATE snapshots SET state = '{"is":"StateOfOld"}' WHERE entry = 4""")
    assert journal.load(RUN) == (blank(step=1), events[2:])
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("""UPDATE snapshots SET state = '{"is":"State","run":7}'""")
    assert journal.load(RUN) == (None, events)


def test_rows_keep_nan_apart_from_what_was_not_reported(journal: Journal) -> None:
    rows = [
        StepReported(at=T0, node=0, world=1, rank=0, step=1, loss=math.nan, grad_norm=math.inf, lr=-math.inf),
        StepReported(at=T0, node=0, world=1, rank=0, step=2, loss=0.1 + 0.2, tokens=4096, data_index=7, step_s=0.25),
    ]
    journal.add_rows(RUN, rows)
    first, second = journal.rows(RUN)
    assert first.loss is not None
    assert math.isnan(first.loss)
    assert (first.grad_norm, first.lr, first.tokens) == (math.inf, -math.inf, None)
    assert second == rows[1]


def test_rows_of_rolled_back_steps_stay_under_their_world(journal: Journal) -> None:
    row = StepReported(at=T0, node=0, world=1, rank=0, step=1, loss=1.0)
    journal.add_rows(RUN, [replace(row, step=step) for step in (1, 2, 3)])
    journal.add_rows(RUN, [replace(row, world=2, step=step, loss=2.0) for step in (2, 3)])
    assert [(r.world, r.step) for r in journal.rows(RUN)] == [(1, 1), (1, 2), (1, 3), (2, 2), (2, 3)]
    assert [(r.world, r.step) for r in journal.rows(RUN, limit=3)] == [(1, 3), (2, 2), (2, 3)]
    assert [r.step for r in journal.rows(RUN, world=1, since_step=1)] == [2, 3]


def test_a_step_has_the_row_of_the_lowest_rank_in_any_order(journal: Journal) -> None:
    rows = [StepReported(at=T0, node=0, world=1, rank=rank, step=1, loss=float(rank)) for rank in (1, 0, 2)]
    journal.add_rows(RUN, rows)
    journal.add_rows(RUN, rows)
    assert journal.rows(RUN) == [rows[1]]


def test_who_left_is_known_until_somebody_lives_again(journal: Journal) -> None:
    assert not journal.has_left()
    journal.heartbeat(T0)
    assert not journal.has_left()
    journal.leave(T0 + 0.5)
    assert journal.has_left()
    journal.heartbeat(T0 + 9)
    assert not journal.has_left()


def test_a_decision_keeps_the_steps_heard_before_it_and_says_who_lives(journal: Journal) -> None:
    rows = [StepReported(at=T0, node=0, world=1, rank=0, step=step) for step in (1, 2)]
    journal.record(RUN, EVENT, DECISION, rows=rows, alive_at=T0 + 3)
    assert journal.rows(RUN) == rows
    assert journal.last_heartbeat() == T0 + 3


def test_a_decision_that_is_not_kept_keeps_no_step_and_no_sign_of_life(journal: Journal, path: Path) -> None:
    rows = [StepReported(at=T0, node=0, world=1, rank=0, step=1)]
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TRIGGER full BEFORE INSERT ON alive BEGIN SELECT RAISE(ABORT, 'no'); END")
    with pytest.raises(sqlite3.IntegrityError):
        journal.record(RUN, EVENT, DECISION, rows=rows, alive_at=T0 + 3)
    assert (list(journal.entries(RUN)), journal.rows(RUN), journal.last_heartbeat()) == ([], [], None)
    assert journal.beat_at < T0


def test_the_heartbeat_is_the_newest(journal: Journal) -> None:
    assert journal.last_heartbeat() is None
    journal.heartbeat(T0)
    journal.heartbeat(T0 + 1)
    assert journal.last_heartbeat() == T0 + 1


def test_fields_and_kinds_of_other_versions_do_not_stop_a_reader(journal: Journal, path: Path) -> None:
    journal.record(RUN, e.TimePassed(at=T0), Decision(state=blank()))
    newer = journal.record(RUN, EVENT, DECISION)
    body = json.dumps({"is": "TimePassed", "at": T0, "added_later": {"x": [1]}})
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE entries SET event = ? WHERE id = 1", (body,))
        db.execute("""UPDATE entries SET kind = 'Teleported', event = '{"is":"Teleported"}' WHERE id = 2""")
        db.execute("""UPDATE actions SET body = '{"is":"Teleport"}' WHERE entry = 2""")
    assert journal.events(RUN) == [(1, e.TimePassed(at=T0))]
    assert [entry.id for entry in journal.entries(RUN)] == [1]
    assert journal.load(RUN) == (FULL, [])
    third = journal.record(RUN, EVENT, DECISION)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE entries SET opened = replace(opened, 'loss_spike', 'bit_rot') WHERE id = ?", (third,))
    assert [entry.id for entry in journal.entries(RUN)] == [1]
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM snapshots WHERE entry >= ?", (newer,))
    with pytest.raises(JournalNewer, match=r"does not know the event Teleported: upgrade"):
        journal.load(RUN)


def test_a_reader_sees_the_writer_and_does_not_block_it(journal: Journal, path: Path) -> None:
    with Journal(path, read_only=True) as reader:
        reader._file._db.execute("BEGIN")  # a reader in the middle of a long look
        assert reader.entries(RUN) == []
        journal.record(RUN, EVENT, DECISION)
        assert reader.entries(RUN) == []
        reader._file._db.execute("COMMIT")
        assert len(reader.entries(RUN)) == 1
        with pytest.raises(JournalUnavailable):
            reader.heartbeat(T0)


def test_a_reader_never_meets_a_journal_that_is_being_made(tmp_path: Path) -> None:
    """Looked at as fast as can be while twenty are made: each is not there, or whole."""
    script = "import sys; from orchestrator.journal import Journal\nfor path in sys.argv[1:]: Journal(path).close()"
    paths = [tmp_path / f"{n}.db" for n in range(20)]
    with subprocess.Popen([sys.executable, "-P", "-c", script, *map(str, paths)]) as maker:
        for path in paths:
            while not path.exists():
                assert maker.poll() in (None, 0)
            with Journal(path, read_only=True) as journal:
                assert journal.runs() == []
    assert list(tmp_path.glob("*.db.*")) == [], "a draft was left"


def test_a_reader_reads_on_when_the_writer_is_gone(path: Path) -> None:
    with Journal(path) as journal:
        script = Script(journal).join()
    with Journal(path, read_only=True) as reader:
        assert reader.entries(RUN) == script.entries


def test_settings_that_durability_stands_on(journal: Journal) -> None:
    def pragma(name: str) -> object:
        return journal._file.select(f"PRAGMA {name}")[0][0]

    assert (pragma("journal_mode"), pragma("synchronous"), pragma("foreign_keys")) == ("wal", 2, 1)


def test_a_journal_of_a_newer_version_says_so(journal: Journal, path: Path) -> None:
    journal.close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    for read_only in (False, True):
        with pytest.raises(JournalNewer, match=r"version 99.*newer lastgood.*upgrade"):
            Journal(path, read_only=read_only)


def test_an_older_journal_is_brought_up_by_a_writer_only(path: Path) -> None:
    sqlite3.connect(path).close()
    path.touch()
    with pytest.raises(JournalUnavailable, match="lastgood serve"):
        Journal(path, read_only=True)
    Journal(path).close()
    Journal(path, read_only=True).close()


def test_a_file_that_is_no_journal_says_so(path: Path) -> None:
    path.write_text("this is not a database, and long enough to have a header of 100 bytes " * 3)
    with pytest.raises(JournalUnavailable, match=r"is not a journal.*move .*journal.db away"):
        Journal(path)


def test_a_damaged_journal_says_how_to_rescue_it(journal: Journal, path: Path) -> None:
    for step in range(200):
        journal.record(RUN, e.Progressed(at=T0, world=1, step=step), Decision(state=blank()))
    journal.close()
    body = bytearray(path.read_bytes())
    body[8192 : len(body)] = b"\xff" * (len(body) - 8192)
    path.write_bytes(bytes(body))
    with Journal(path, read_only=True) as reader, pytest.raises(JournalUnavailable, match=r"damaged.*\.recover"):
        reader.entries(RUN)


def test_a_folder_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(JournalUnavailable, match=r"check that .*missing exists"):
        Journal(tmp_path / "missing" / "journal.db")


FILL = """
import resource, signal, sys
from orchestrator.core import events as e
from orchestrator.core.state import Decision
from orchestrator.journal import Journal, JournalUnavailable
from tests.story.scripted import RUN, T0, blank

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a file that may not grow is then an error like that of a full disk
journal = Journal(sys.argv[1])
journal.submit(RUN, "gpt", {}, "", T0)
decision = Decision(state=blank(reason="x" * 2000))
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
written = 0
try:
    while written < 10_000:
        journal.record(RUN, e.TimePassed(at=T0), decision, snapshot=True)
        written += 1
except JournalUnavailable as error:
    print(written, error)
assert len(journal.entries(RUN)) == written, "half a record"
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
journal.record(RUN, e.TimePassed(at=T0), decision)
assert len(journal.entries(RUN)) == written + 1, "does not go on once there is space"
"""


def test_a_disk_that_takes_no_more_loses_nothing_written_and_recovers(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FILL, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    written, said = done.stdout.split(maxsplit=1)
    assert 0 < int(written) < 10_000
    assert "check the disk" in said or "free space" in said
    with Journal(path, read_only=True) as reader:
        assert len(reader.entries(RUN)) == int(written) + 1


def test_the_policy_that_a_run_was_decided_with_is_in_its_journal(path: Path) -> None:
    with Journal(path) as journal:
        Script(journal)
        _, submitted = journal.events(RUN, kind=e.RunSubmitted)[0]
    assert isinstance(submitted, e.RunSubmitted)
    assert submitted.policy == POLICY
