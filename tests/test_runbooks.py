"""Do the runbooks say what the core needs, and does the policy in them keep its promises?"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jobs.errors import SpecError
from monitors import wire
from monitors.incidents import Blame, Incident, Kind
from orchestrator import runbooks
from orchestrator.core import actions as a
from orchestrator.core import events as e
from orchestrator.core.decide import begin, decide
from orchestrator.core.policy import Paging, Policy, Rung, Severity
from orchestrator.core.state import Decision, Phase

PAGE = """\
---
kind: hang
title: A page of somebody's own
severity: error
blame: network
ladder: [relaunch, hold]
strikes_max: 3
window: 90s
backoff: [0s, 1.5m]
taints: false
witnesses: 2
page: always
drill:
  name: spin
  command: lastgood drill RUN spin --rank 1
---
# Ours
Call Ada.
"""
NUMERIC = frozenset({Kind.NONFINITE_LOSS, Kind.LOSS_SPIKE, Kind.LOSS_DIVERGENCE, Kind.RECOVERY_WRONG})
RESTORING = frozenset({Rung.RESTART, Rung.RELAUNCH})


@pytest.fixture(scope="module")
def policy() -> Policy:
    return runbooks.load()


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A user's folder with one page."""
    (tmp_path / "hang.md").write_text(PAGE)
    (tmp_path / "README.md").write_text("Why we changed them.\n")
    return tmp_path


def test_a_page_becomes_the_policy_of_its_kind(own: Path) -> None:
    response = runbooks.load(own).responses[Kind.HANG]
    assert (response.severity, response.blame, response.page) == (Severity.ERROR, Blame.NETWORK, Paging.ALWAYS)
    assert response.ladder == (Rung.RELAUNCH, Rung.HOLD)
    assert (response.strikes_max, response.window_s, response.backoff_s) == (3, 90.0, (0.0, 90.0))
    assert (response.taints, response.witnesses) == (False, 2)


def test_an_own_folder_replaces_only_its_own_kinds(own: Path, policy: Policy) -> None:
    theirs = runbooks.load(own)
    assert theirs.version != policy.version
    assert {kind for kind in Kind if theirs.responses[kind] != policy.responses[kind]} == {Kind.HANG}
    assert runbooks.page(Kind.HANG, own) == "# Ours\nCall Ada.\n"
    assert runbooks.page(Kind.LOSS_SPIKE, own) == runbooks.page(Kind.LOSS_SPIKE)
    assert runbooks.front(Kind.HANG, own).drill.name == "spin"


def test_the_version_changes_with_the_policy_and_with_nothing_else(own: Path) -> None:
    before = runbooks.load(own).version
    (own / "hang.md").write_text(PAGE.replace("[0s, 1.5m]", "[0s, 90s]  # the same") + "More text.\n")
    assert runbooks.load(own).version == before
    (own / "hang.md").write_text(PAGE.replace("strikes_max: 3", "strikes_max: 4"))
    assert runbooks.load(own).version != before


def test_fields_left_out_take_the_defaults_of_the_core(own: Path) -> None:
    short = re.sub(r"(backoff|taints|witnesses|page): .*\n", "", PAGE)
    (own / "hang.md").write_text(short)
    response = runbooks.load(own).responses[Kind.HANG]
    assert (response.backoff_s, response.taints, response.witnesses) == ((0.0,), False, 1)
    assert response.page is Paging.ON_HOLD


def test_the_journal_can_keep_the_policy(policy: Policy) -> None:
    assert wire.loads(wire.dumps(policy), wire.by_name(Policy)) == policy


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("kind: hang", "kind: loss_spike", 2, "kind: is 'loss_spike', but the file is hang.md"),
        ("severity: error", "severity: eror", 4, "severity: 'eror' is no severity; allowed: info, warning, error"),
        ("severity: error", "severity: eror", 4, "did you mean 'error'?"),
        ("blame: network", "blame: 7", 5, "blame: 7 is no blame"),
        ("ladder: [relaunch, hold]", "ladder: [relanch]", 6, "ladder: 'relanch' is no rung"),
        ("ladder: [relaunch, hold]", "ladder: []", 6, "ladder: [] is no list"),
        ("ladder: [relaunch, hold]", "ladder: hold", 6, "ladder: 'hold' is no list"),
        ("ladder: [relaunch, hold]", "ladder: [hold, relaunch]", 6, "ladder: hold is the last rung"),
        ("ladder: [relaunch, hold]", "ladder: [observe, hold]", 6, "ladder: observe stands alone"),
        ("strikes_max: 3", "strikes_max: -1", 7, "strikes_max: -1 is no whole number of at least 0"),
        ("strikes_max: 3", "strikes_max: true", 7, "strikes_max: True is no whole number"),
        ("strikes_max: 3", "strike_max: 3", 7, "did you mean 'strikes_max'?"),
        ("strikes_max: 3\n", "", 2, "lacks strikes_max"),
        ("window: 90s", "window: 90", 8, "window: 90 is no duration; write it with its unit"),
        ("window: 90s", "window: 0s", 8, "window: a window of no length"),
        ("backoff: [0s, 1.5m]", "backoff: [0s, -1s]", 9, "backoff: '-1s' is no duration"),
        ("taints: false", "taints: no", 10, "taints: 'no' is neither true nor false"),
        ("witnesses: 2", "witness: 2", 11, "witness: 'witness' is no key; allowed: kind, title"),
        ("witnesses: 2", "witness: 2", 11, "did you mean 'witnesses'?"),
        ("witnesses: 2", "taints: true", 11, "written twice"),
        ("page: always", "page: ''", 12, "page: '' is no paging; allowed: never, on_hold, always"),
        ("  name: spin", "  nam: spin", 14, "drill.nam: 'nam' is no key; allowed: name, command; did you mean"),
        ("  name: spin\n", "", 13, "drill: lacks name"),
        ("  name: spin", "  name: spin\n  nme: x", 15, "drill.nme: 'nme' is no key; allowed: name, command"),
        ("---\nkind", "kind", 1, "needs front matter"),
        ("\n---\n#", "\n#", 1, "needs front matter"),
        ("title: A", "title: [A", 4, "not valid YAML"),
    ],
)
def test_a_mistake_is_named_with_file_line_and_key(own: Path, old: str, new: str, line: int, said: str) -> None:
    file = own / "hang.md"
    file.write_text(PAGE.replace(old, new, 1))
    with pytest.raises(SpecError) as caught:
        runbooks.load(own)
    assert str(caught.value).startswith(f"{file}:{line}: ")
    assert said in str(caught.value)


def test_a_file_that_answers_no_kind_is_refused(own: Path) -> None:
    (own / "hangs.md").write_text(PAGE)
    with pytest.raises(SpecError, match=r"'hangs' is no kind; allowed: .* did you mean 'hang'\?"):
        runbooks.load(own)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="is not a folder"):
        runbooks.load(tmp_path / "no-such")


def test_an_empty_front_matter_is_refused(own: Path) -> None:
    (own / "hang.md").write_text("---\n\n---\ntext\n")
    with pytest.raises(SpecError, match=r"hang.md:1: must be a mapping of kind, title"):
        runbooks.load(own)


@pytest.mark.parametrize("kind", list(Kind))
def test_every_ladder_ends_with_a_person_or_changes_nothing(policy: Policy, kind: Kind) -> None:
    ladder = policy.responses[kind].ladder
    assert ladder == (Rung.OBSERVE,) or ladder[-1] is Rung.HOLD


@pytest.mark.parametrize("kind", list(Kind))
def test_doubts_about_the_numbers_go_back_before_the_onset_and_nothing_else_does(policy: Policy, kind: Kind) -> None:
    response = policy.responses[kind]
    rewinds = not RESTORING.intersection(response.ladder) and len(response.ladder) > 1
    assert (response.taints, rewinds) == (kind in NUMERIC, kind in NUMERIC)


@pytest.mark.parametrize("kind", list(Kind))
def test_the_first_answer_to_a_fault_of_a_running_world_is_not_delayed(policy: Policy, kind: Kind) -> None:
    assert policy.responses[kind].backoff_s[0] == (5.0 if kind is Kind.LAUNCH_FAILED else 0.0)


class Fleet:
    """Does what the core asks, at once; every world takes `steps` steps."""

    def __init__(self, policy: Policy, steps: int) -> None:
        self.at = 1000.0
        self.steps = steps
        plan = e.Plan(nodes=1, ranks_per_node=2, fresh_steps_max=10**9)
        first = begin(e.RunSubmitted(at=self.at, run="r-1", plan=plan, policy=policy))
        self.state = first.state
        self._perform(first)

    def strike(self, kind: Kind) -> None:
        """One fault; the clock moves on until the core has answered it."""
        state = self.state
        incident = Incident(
            kind=kind,
            at=self.at,
            onset=self.at,
            onset_step=state.step + 1,
            world=state.world,
            step=state.step,
            fingerprint=f"{state.incidents}",
            evidence=("one sense says so", "another one too"),
        )
        self._see(e.IncidentDetected(at=self.at, incident=incident))
        while self.state.phase in WAITING:
            assert self.state.deadline is not None
            self.at = max(self.at, self.state.deadline)
            self._see(e.TimePassed(at=self.at))

    def _see(self, event: e.Event) -> None:
        decision = decide(self.state, event)
        self.state = decision.state
        self._perform(decision)

    def _perform(self, decision: Decision) -> None:
        for action in decision.actions:
            for answer in self._answers(action):
                self._see(answer)

    def _answers(self, action: a.Action) -> list[e.Event]:
        at, best = self.at, self.state.best_step
        match action:
            case a.Launch(attempt=attempt):
                return [
                    e.Launched(at=at, attempt=attempt, handle="h"),
                    e.AgentJoined(at=at, attempt=attempt, node=0, host="h"),
                ]
            case a.StartWorld(world=world):
                return [
                    e.WorldEntered(at=at, world=world),
                    e.WorldRestored(at=at, world=world, checkpoint=None, step=0),
                    e.Progressed(at=at, world=world, step=best + self.steps),
                ]
            case a.StopWorld(world=world):
                return [e.NodeStopped(at=at, world=world, node=0)]
            case a.EndAttempt(attempt=attempt):
                return [e.AttemptEnded(at=at, attempt=attempt)]
            case _:
                return []


WAITING = frozenset({Phase.BACKING_OFF, Phase.LAUNCHING})
ONE_OFF = (Kind.WORKER_KILLED, Kind.WORKER_EXCEPTION, Kind.HANG, Kind.START_STALLED, Kind.AGENT_LOST)


@pytest.mark.parametrize("kinds", [(Kind.WORKER_KILLED,), (Kind.WORKER_EXCEPTION,), (Kind.HANG,), ONE_OFF])
def test_a_fault_every_10_s_for_30_minutes_does_not_hold_a_run_that_gets_on(
    policy: Policy, kinds: tuple[Kind, ...]
) -> None:
    fleet = Fleet(policy, steps=50)
    for number in range(180):
        fleet.strike(kinds[number % len(kinds)])
        assert fleet.state.phase is Phase.TRAINING, f"fault {number}: {fleet.state.reason}"
        fleet.at += 10.0
    assert fleet.state.best_step >= 180 * 50


@pytest.mark.parametrize("kind", [k for k in Kind if runbooks.front(k).response.ladder != (Rung.OBSERVE,)])
def test_a_run_that_does_not_get_on_is_held_by_the_end_of_the_ladder(policy: Policy, kind: Kind) -> None:
    fleet = Fleet(policy, steps=0)
    ladder = policy.responses[kind].ladder
    for number, rung in enumerate(ladder):
        assert fleet.state.phase is not Phase.HELD, f"held before rung {number} ({rung}): {fleet.state.reason}"
        fleet.strike(kind)
    assert fleet.state.phase is Phase.HELD
