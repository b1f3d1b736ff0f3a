"""What does a rank find in its environment of what torch and NCCL read, and whose word counts?"""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.agent import environment
from jobs.agent.orders import StartWorld, Store
from jobs.agent.place import Place
from jobs.spec import Spec
from monitors.sense.flight_recorder import Where


def given(
    base: dict[str, str] | None = None,
    *,
    python: bool = True,
    env: dict[str, str] | None = None,
    every_steps: int | None = None,
    save_every: int = 0,
    one_run: bool = False,
    service: str = "",
) -> dict[str, str]:
    """Of rank 3, which is the second on node 1."""
    spec = Spec.model_validate(
        {
            "name": "x",
            "command": ["x"],
            "workdir": "/",
            "nodes": 2,
            "ranks_per_node": 2,
            "python": python,
            "env": env or {},
            "checkpoint": {"every_steps": every_steps},
            "tracker": {"script": {"one_run": one_run}},
        }
    )
    place = Place(home=Path("/home"), run="x-1", attempt=1, node=1)
    order = StartWorld(world=5, store=Store(host="node0", port=7), candidates=(), skips=(), save_every=save_every)
    progress = Path("/p")
    return environment.of_worker(base or {}, spec, place, order, local_rank=1, progress=progress, service=service)


def test_nccl_writes_where_the_agent_reads() -> None:
    env = given()
    where = Where(node=1, world=5, rank=3, folder=Path(env["LASTGOOD_RANK_DIR"]))
    assert env["TORCH_FR_DUMP_TEMP_FILE"] + env["RANK"] == str(where.nccl_dump)
    assert env["TORCH_NCCL_DEBUG_INFO_PIPE_FILE"] + env["RANK"] + ".pipe" == str(where.nccl_pipe)
    assert (env["TORCH_FR_BUFFER_SIZE"], env["TORCH_NCCL_DUMP_ON_TIMEOUT"], env["NCCL_DEBUG"]) == ("2000", "1", "WARN")


def test_old_names_are_for_programs_whose_torch_nobody_knows() -> None:
    old = {"TORCH_NCCL_TRACE_BUFFER_SIZE", "TORCH_NCCL_DEBUG_INFO_TEMP_FILE"}
    assert not old & given().keys(), "a new torch warns of them on every rank"
    program = given(python=False)
    assert program["TORCH_NCCL_TRACE_BUFFER_SIZE"] == program["TORCH_FR_BUFFER_SIZE"]
    assert program["TORCH_NCCL_DEBUG_INFO_TEMP_FILE"] == program["TORCH_FR_DUMP_TEMP_FILE"]


@pytest.mark.parametrize("name", ["TORCH_FR_BUFFER_SIZE", "TORCH_NCCL_TRACE_BUFFER_SIZE"])
@pytest.mark.parametrize("where", ["base", "env"])
@pytest.mark.parametrize("python", [True, False])
def test_the_users_choice_stands_under_either_name(name: str, where: str, python: bool) -> None:
    env = given(**{where: {name: "9"}}, python=python)  # type: ignore[arg-type]
    names = {"TORCH_FR_BUFFER_SIZE", "TORCH_NCCL_TRACE_BUFFER_SIZE"}
    assert {n: env[n] for n in names & env.keys()} == {name: "9"}


@pytest.mark.parametrize("name", ["NCCL_DEBUG", "TORCH_NCCL_DUMP_ON_TIMEOUT", "TORCH_NCCL_DEBUG_INFO_PIPE_FILE"])
@pytest.mark.parametrize("where", ["base", "env"])
def test_the_users_choice_stands(name: str, where: str) -> None:
    assert given(**{where: {name: "mine"}})[name] == "mine"  # type: ignore[arg-type]


@pytest.mark.parametrize(("fixed", "chosen", "told"), [(7, 0, "7"), (7, 30, "7"), (None, 30, "30"), (None, 0, None)])
def test_the_spec_fixes_the_interval_between_saves_or_the_run_chooses_it(
    fixed: int | None, chosen: int, told: str | None
) -> None:
    assert given(every_steps=fixed, save_every=chosen).get("LASTGOOD_SAVE_EVERY") == told


def wandb(env: dict[str, str]) -> dict[str, str]:
    return {name.removeprefix("WANDB_"): value for name, value in env.items() if name.startswith("WANDB_")}


def test_what_a_script_logs_to_wandb_is_written_down_within_a_second() -> None:
    intervals = {"X_FILE_STREAM_TRANSMIT_INTERVAL": "1", "X_TRANSACTION_LOG_FLUSH_INTERVAL": "1"}
    assert wandb(given()) == intervals
    for where in ("base", "env"):
        chosen = given(**{where: {"WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "30"}})  # type: ignore[arg-type]
        assert wandb(chosen) == intervals | {"X_FILE_STREAM_TRANSMIT_INTERVAL": "30"}, "the user's choice stands"


def test_the_worlds_of_a_rank_are_one_run_of_wandb_where_that_is_asked_for() -> None:
    asked = wandb(given(one_run=True, service="3-1-unix-/s"))
    assert (asked["RUN_ID"], asked["RESUME"], asked["RUN_GROUP"]) == ("x-1-script-rank3", "allow", "x-1")
    assert asked["SERVICE"] == "3-1-unix-/s"
    own = wandb(given(one_run=True, env={"WANDB_RUN_ID": "mine"}))
    assert (own["RUN_ID"], own.get("RESUME")) == ("mine", None), "who names a run says how it goes on, too"
