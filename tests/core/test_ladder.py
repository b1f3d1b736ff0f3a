"""What is done at the first strike, at the second, and when it is enough?"""

from __future__ import annotations

import pytest

from monitors.incidents import Kind
from orchestrator.core import actions as a
from orchestrator.core import events as e
from orchestrator.core.policy import Rung
from orchestrator.core.state import Phase
from tests.core.script import POLICY, Script, kinds, started, with_response

WORLD_KINDS = [
    kind
    for kind in Kind
    if POLICY.responses[kind].ladder[0] is not Rung.OBSERVE and kind not in (Kind.LAUNCH_FAILED, Kind.AGENT_LOST)
]


def rung_of(run: Script, kind: Kind, number: int) -> Rung:
    """Strike, and bring the run back without progress."""
    decision = run.incident(kind, onset_step=run.state.step, fingerprint=f"f{number}")
    rung = decision.opened[0].rung
    if rung is Rung.HOLD:
        return rung
    relaunches = run.state.phase is Phase.RELAUNCHING
    if relaunches:
        run.ended()
    else:
        run.stopped()
    run.back_off()
    if relaunches:
        run.join()
    if run.state.phase is Phase.STARTING:
        run.enter()
    return rung


@pytest.mark.parametrize("kind", WORLD_KINDS)
def test_strikes_without_progress_climb_the_ladder_of_the_runbook(kind: Kind) -> None:
    run = Script().train(30)
    ladder = POLICY.responses[kind].ladder
    assert [rung_of(run, kind, n) for n in range(len(ladder))] == list(ladder)


@pytest.mark.parametrize("kind", [Kind.LAUNCH_FAILED, Kind.AGENT_LOST])
def test_faults_of_the_attempt_are_answered_with_the_next_one(kind: Kind) -> None:
    run = Script()
    run.submit()
    decision = run.decisions[-1][1]
    for rung in POLICY.responses[kind].ladder:
        attempt = run.state.attempt
        if kind is Kind.LAUNCH_FAILED:
            decision = run.see(e.LaunchFailed(at=run.tick(), attempt=attempt, why="queue is closed"))
        else:
            decision = run.see(e.AgentGone(at=run.tick(), attempt=attempt, node=0, witnesses=("a", "b")))
        assert decision.opened[0].rung is rung
        if rung is Rung.HOLD:
            break
        run.ended()
        run.back_off()
        assert run.state.attempt == attempt + 1
    assert run.state.phase is Phase.HOLDING
    assert [x.page for x in decision.actions if isinstance(x, a.Alert)] == [True]


def test_progress_beyond_the_best_step_forgives() -> None:
    run = Script().train(10)
    for number in range(12):  # far more than the ladder has rungs
        decision = run.incident(Kind.WORKER_EXCEPTION, fingerprint=f"f{number}")
        assert decision.opened[0].rung is Rung.RESTART
        run.restart(step=0)
        run.progress(run.state.best_step + 1)


def test_steps_trained_again_are_no_progress() -> None:
    run = Script().train(10)
    rungs = []
    for number in range(4):
        rungs.append(run.incident(Kind.WORKER_EXCEPTION, fingerprint=f"f{number}").opened[0].rung)
        if run.state.phase is Phase.STOPPING_WORLD:
            run.restart(step=0)
            run.progress(10)
    assert rungs == [Rung.RESTART, Rung.RESTART, Rung.RESTART, Rung.HOLD]


def test_a_rewind_does_not_bring_forgiven_strikes_back() -> None:
    run = Script().train(10)
    for number in range(3):
        run.incident(Kind.WORKER_EXCEPTION, fingerprint=f"f{number}")
        run.restart(step=0)
        run.progress(run.state.best_step + 1)
    run.progress(60)
    run.incident(Kind.NONFINITE_LOSS, onset_step=5, step=60)  # back before all three of them
    run.restart(step=0)
    assert run.incident(Kind.WORKER_EXCEPTION, fingerprint="g").opened[0].rung is Rung.RESTART


def test_numbers_that_go_wrong_another_way_in_the_same_zone_climb_the_same_ladder() -> None:
    run = Script().train(60)
    kinds_and_rungs = [
        (Kind.LOSS_SPIKE, Rung.REWIND_SKIP),
        (Kind.NONFINITE_LOSS, Rung.REWIND_SKIP),
        (Kind.LOSS_SPIKE, Rung.HOLD),
    ]
    skipped = []
    for number, (kind, rung) in enumerate(kinds_and_rungs):
        assert rung_of(run, kind, number) is rung
        skipped.append(sum(end - first for first, end in run.state.skips))
    assert skipped[1] > 2 * skipped[0], "the second rewind skips no more than the first"


def test_the_budget_holds_the_run_however_much_progress_it_makes() -> None:
    run = Script(policy=with_response(Kind.WORKER_KILLED, strikes_max=3)).train(10)
    for _ in range(3):
        assert run.incident(Kind.WORKER_KILLED).opened[0].rung is Rung.RESTART
        run.restart(step=0)
        run.progress(run.state.best_step + 1)
    decision = run.incident(Kind.WORKER_KILLED)
    assert run.state.phase is Phase.HOLDING
    assert "budget spent: 3 in" in decision.reason
    assert run.state.hold_kind is None


def test_strikes_leave_the_budget_when_the_window_has_passed() -> None:
    run = Script(policy=with_response(Kind.WORKER_KILLED, strikes_max=2, window_s=100.0)).train(10)
    for _ in range(10):
        assert run.incident(Kind.WORKER_KILLED).opened[0].rung is Rung.RESTART
        run.restart(step=0)
        run.tick(60.0)
        run.progress(run.state.best_step + 1)


def test_kinds_have_budgets_of_their_own() -> None:
    run = Script(policy=with_response(Kind.WORKER_KILLED, strikes_max=1)).train(10)
    run.incident(Kind.HANG)
    run.restart(step=0)
    assert run.incident(Kind.WORKER_KILLED).opened[0].rung is Rung.RESTART


def test_the_same_failure_at_the_same_step_holds_the_run() -> None:
    run = Script().train(10)
    for _ in range(2):
        run.incident(Kind.WORKER_EXCEPTION, fingerprint="same", step=10)
        run.restart(step=0)
        run.progress(10)
    decision = run.incident(Kind.WORKER_EXCEPTION, fingerprint="same", step=10)
    assert decision.opened[0].incident.kind is Kind.CRASH_LOOP
    assert run.state.phase is Phase.HOLDING
    assert run.state.hold_kind is Kind.CRASH_LOOP


def test_what_only_a_person_can_change_holds_the_run_when_it_comes_back_once() -> None:
    run = Script().train(10)
    run.incident(Kind.WORKER_EXCEPTION, fingerprint="same", step=10, retryable=False)
    run.restart(step=0)
    run.progress(10)
    decision = run.incident(Kind.WORKER_EXCEPTION, fingerprint="same", step=10, retryable=False)
    assert decision.opened[0].incident.kind is Kind.CRASH_LOOP


def test_a_world_that_is_being_ended_proves_nothing_by_its_last_word() -> None:
    run = Script().train(10)
    incident = run.incident(Kind.WORKER_KILLED).opened[0]
    decision = run.see(e.Progressed(at=run.tick(), world=run.state.world, step=14))
    assert (decision.closed, run.state.best_step) == ((), 10)
    run.stopped()
    run.enter()
    closed = [id_ for step in range(11, 13) for id_ in run.progress(step).closed]
    assert closed == [incident.id]


def test_a_kind_that_is_never_retried_is_held_for_itself_and_not_for_its_budget() -> None:
    run = Script().train(10)
    decision = run.incident(Kind.CODE_DIVERGENCE)
    assert (run.state.hold_kind, "budget" in decision.reason) == (Kind.CODE_DIVERGENCE, False)


@pytest.mark.parametrize("by", ["stop", "resume", "policy"])
def test_what_a_person_does_to_a_held_run_breaks_no_budget(by: str) -> None:
    run = Script().train(10)
    run.incident(Kind.CRASH_LOOP)  # its budget is nothing at all
    run.ended()
    if by == "stop":
        run.see(e.StopRequested(at=run.tick(), by="p"))
        assert run.state.phase is Phase.STOPPED
    elif by == "resume":
        run.see(e.ResumeRequested(at=run.tick(), by="p"))
        assert run.state.strikes == ()
    else:
        run.see(e.PolicyChanged(at=run.tick(), policy=with_response(Kind.HANG, strikes_max=0)))
    run.see(e.SupervisorStarted(at=run.tick(), pid=1, last_alive=run.at))


def test_the_wait_grows_with_every_strike_without_progress() -> None:
    run = Script().train(10)
    waits = []
    for number in range(3):
        run.incident(Kind.WORKER_EXCEPTION, fingerprint=f"f{number}")
        run.stopped()
        backs_off = run.state.phase is Phase.BACKING_OFF
        waits.append(run.state.deadline - run.state.since if backs_off and run.state.deadline else 0.0)
        if backs_off:
            assert not run.see(e.TimePassed(at=run.tick(0.1))).actions
            started(run.wait())
        run.enter()
    assert waits == list(POLICY.responses[Kind.WORKER_EXCEPTION].backoff_s)


def test_a_world_that_does_not_end_is_ordered_again_and_then_its_attempt_is_ended() -> None:
    run = Script().train(10)
    run.incident(Kind.HANG)
    assert [kinds(run.wait()) for _ in range(3)] == [["StopWorld"], ["StopWorld"], ["EndAttempt"]]
    assert run.state.phase is Phase.RELAUNCHING
    assert kinds(run.ended()) == ["Launch"]
    assert started(run.join()).world == 2


def test_an_attempt_that_does_not_end_is_ended_again_and_again_and_a_person_is_told() -> None:
    run = Script().train(10)
    run.see(e.AgentGone(at=run.tick(), attempt=1, node=0, witnesses=("a", "b")))
    orders = [kinds(run.wait()) for _ in range(4)]
    assert orders == [["EndAttempt"], ["EndAttempt"], ["EndAttempt", "Alert"], ["EndAttempt"]]


def test_one_world_has_one_cause_and_the_rest_are_victims() -> None:
    run = Script().train(10)
    run.incident(Kind.WORKER_KILLED)
    before = run.state
    for kind in (Kind.WORKER_EXCEPTION, Kind.HANG, Kind.WORKER_KILLED, Kind.START_STALLED):
        decision = run.incident(kind)
        assert not decision.actions
        assert not decision.opened
        assert decision.reason == f"{kind} folded into the fault being answered"
    assert run.state.strikes == before.strikes
    run.restart(step=0)
    decision = run.incident(Kind.HANG, world=1)  # the old world, once the new one trains
    assert not decision.actions
    assert run.state.phase is Phase.TRAINING


def test_the_death_of_a_node_outranks_the_death_of_its_workers() -> None:
    run = Script().train(10)
    run.incident(Kind.WORKER_KILLED)
    decision = run.see(e.AgentGone(at=run.tick(), attempt=1, node=1, witnesses=("a", "b")))
    assert kinds(decision) == ["EndAttempt"]
    assert run.state.phase is Phase.RELAUNCHING


def test_a_deeper_cause_takes_the_place_of_the_failure_it_explains() -> None:
    run = Script().train(5)
    run.save(5)
    run.incident(Kind.WORKER_EXCEPTION, fingerprint="x")
    both = {"senses": ("kernel", "exit")}
    decision = run.incident(Kind.GPU_LOST, **both)
    assert (decision.closed, [(o.id, o.incident.kind) for o in decision.opened]) == ((), [("i1", Kind.GPU_LOST)])
    assert ([o.id for o in run.state.open], [s.kind for s in run.state.strikes]) == (["i1"], [Kind.GPU_LOST])
    assert run.state.phase is Phase.RELAUNCHING
    assert not run.incident(Kind.GPU_LOST, **both).opened, "told twice"


def test_one_sense_alone_explains_no_failure_of_a_rank() -> None:
    run = Script().train(5)
    run.save(5)
    run.incident(Kind.WORKER_EXCEPTION, fingerprint="x")
    assert not run.incident(Kind.NIC_FAULT, senses=("kernel",)).closed
    assert run.state.phase is Phase.STOPPING_WORLD
    assert [o.incident.kind for o in run.state.open] == [Kind.WORKER_EXCEPTION]


def test_a_fault_of_a_world_never_ordered_is_ignored() -> None:
    run = Script().train(10)
    decision = run.incident(Kind.NONFINITE_LOSS, world=7, onset_step=1)
    assert (decision.actions, run.state.taints) == ((), ())


@pytest.mark.parametrize("kind", [k for k in Kind if POLICY.responses[k].ladder == (Rung.OBSERVE,)])
def test_what_is_observed_changes_nothing(kind: Kind) -> None:
    run = Script().train(10)
    decision = run.incident(kind)
    assert all(isinstance(action, a.Alert) for action in decision.actions)
    assert run.state.phase is Phase.TRAINING
    assert run.state.strikes == ()
    assert [o.rung for o in decision.opened] == [Rung.OBSERVE]


def test_a_kind_that_needs_two_witnesses_is_observed_with_one() -> None:
    run = Script(policy=with_response(Kind.HANG, witnesses=2)).train(10)
    assert not run.incident(Kind.HANG, evidence=("silent",)).actions
    assert not run.incident(Kind.HANG, evidence=("silent", "silent")).actions
    assert kinds(run.incident(Kind.HANG, evidence=("silent", "in state T"))) == ["StopWorld"]


def test_a_failing_disk_pages_once_until_a_save_works() -> None:
    run = Script().train(10)
    pages = [kinds(run.incident(Kind.SAVE_FAILED)) for _ in range(3)]
    assert pages == [["Alert"], [], []]
    run.progress(200)
    assert [o.incident.kind for o in run.state.open] == [Kind.SAVE_FAILED]
    run.save(200)
    assert run.state.open == ()
    assert kinds(run.incident(Kind.SAVE_FAILED)) == ["Alert"]


def test_an_unseen_node_is_seen_again_when_it_dials_or_when_its_ranks_move() -> None:
    run = Script().train(10)
    run.incident(Kind.NODE_UNSEEN)
    run.progress(10)  # the other ranks' news
    assert len(run.state.open) == 1
    decision = run.see(e.AgentJoined(at=run.tick(), attempt=1, node=0, host="h"))
    assert decision.closed
    run.incident(Kind.NODE_UNSEEN)
    assert run.progress(11).closed


def test_silence_in_training_ends_nothing() -> None:
    run = Script().train(10)
    for _ in range(3):
        assert kinds(run.wait()) == ["Alert"]
        assert run.state.phase is Phase.TRAINING


def test_the_sentence_says_what_a_restart_goes_on_from() -> None:
    run = Script().train(10)
    assert run.incident(Kind.WORKER_KILLED).reason.endswith("; restarting from scratch, for no checkpoint is verified")
    run = Script().train(10)
    run.save(10)
    assert run.incident(Kind.WORKER_KILLED).reason.endswith("; restarting from the newest verified checkpoint")
    run = Script()
    run.submit()
    run.join()
    run.progress(10)  # a script without the SDK, whose checkpoints are its own business
    assert run.incident(Kind.WORKER_KILLED).reason.endswith("; restarting the command")


def test_a_deeper_cause_takes_over_the_strike_that_it_explains_and_no_other() -> None:
    run = Script().train(30)
    run.save(10)
    run.progress(40)
    run.incident(Kind.WORKER_EXCEPTION, fingerprint="x")
    run.incident(Kind.LOSS_SPIKE, onset_step=35)
    decision = run.incident(Kind.GPU_MEMORY, senses=("exit", "kernel"))
    assert [opened.id for opened in decision.opened] == ["i1"]
    assert [strike.kind for strike in run.state.strikes] == [Kind.LOSS_SPIKE, Kind.GPU_MEMORY]


def test_a_deeper_cause_that_is_only_observed_hides_no_strike() -> None:
    run = Script(policy=with_response(Kind.GPU_MEMORY, ladder=(Rung.OBSERVE,))).train(30)
    for number in range(10):
        run.incident(Kind.WORKER_EXCEPTION, fingerprint=f"{number}")
        if run.state.phase is Phase.HOLDING:
            break
        run.incident(Kind.GPU_MEMORY, senses=("exit", "kernel"))
        run.stopped()
        run.back_off()
        run.enter()
    assert run.state.phase is Phase.HOLDING, "it would restart for ever"


def test_two_senses_may_say_one_sentence() -> None:
    decision = Script().train(30).incident(Kind.HOST_FAULT, evidence=("a machine check",), senses=("exit", "kernel"))
    assert decision.opened[0].rung is not Rung.OBSERVE
