"""Which test plays the drill of a runbook? Every row is a test that `make test` runs."""

from __future__ import annotations

DRILLS = {
    "kill": "tests/e2e/test_faults.py::test_a_fault_costs_steps_and_changes_nothing",
    "exception": "tests/e2e/test_faults.py::test_a_fault_costs_steps_and_changes_nothing",
    "spin": "tests/e2e/test_faults.py::test_a_fault_costs_steps_and_changes_nothing",
    "nan": "tests/e2e/test_faults.py::test_a_fault_costs_steps_and_changes_nothing",
    "poison": "tests/e2e/test_numbers.py::test_a_poisoned_window_is_skipped_as_if_it_had_been_left_out_from_the_start",
    "flip": "tests/e2e/test_numbers.py::test_a_flipped_bit_is_named_and_the_older_checkpoint_taken",
    "crash_loop": "tests/e2e/test_numbers.py::test_the_same_exception_at_the_same_step_holds_the_run",
    "supervisor": "tests/e2e/test_survival.py::test_killing_the_supervisor_at_random_moments_loses_nothing",
    "agent": "tests/e2e/test_survival.py::test_a_killed_agent_takes_its_workers_along_and_a_new_attempt_finishes",
    "stop_at_start": "tests/e2e/test_drills.py::test_a_rank_that_is_stopped_before_its_first_step_is_started_anew",
    "refused_launch": "tests/e2e/test_drills.py::test_a_refused_launch_is_tried_again",
    "stop_agent": "tests/e2e/test_drills.py::test_a_stopped_agent_is_told_and_nothing_is_ended",
    "drift": "tests/e2e/test_drills.py::test_a_loss_that_drifts_up_again_after_a_rewind_holds_the_run",
    "glitch": "tests/e2e/test_drills.py::test_a_loss_that_jumps_and_recovers_is_only_noted",
    "full_disk": "tests/e2e/test_drills.py::test_a_full_disk_costs_no_step_and_ends_when_there_is_room",
}
