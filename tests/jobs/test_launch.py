"""Submissions through the real TorchX: what it starts outlives the submitter, once per attempt, and can be ended."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs import registry
from jobs.app import app
from jobs.load import parse
from jobs.spec import Spec

RUN = "gpt-test2"
STAND_IN = Path(__file__).parent / "stand_in_agent.py"


def spec_of(nodes: int) -> Spec:
    return parse("run.yaml", f"name: gpt\ncommand: t.py\nnodes: {nodes}\nranks_per_node: 2".encode())


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A state folder in which RUN was submitted; what its attempts started ends with the test."""
    folder = tmp_path / "home"
    (folder / "runs" / RUN).mkdir(parents=True)
    (folder / "runs" / RUN / "spec.json").write_text(spec_of(2).model_dump_json())
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(STAND_IN.read_text())
    yield folder
    for attempt in (folder / "runs" / RUN / "attempts").glob("*"):
        registry.end(folder, RUN, int(attempt.name))


def environment(home: Path, behaviour: str, **more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(home.parent / "site"), "STAND_IN": behaviour, **more}


def submit(home: Path, attempt: int, behaviour: str = "sleep", **more: str) -> dict[str, Any]:
    command = registry.request(home, RUN, attempt)
    done = subprocess.run(
        command, env=environment(home, behaviour, **more), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    answer: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if answer["ok"] else 1)
    return answer


def test_the_app_is_one_agent_per_node_and_nothing_else() -> None:
    (role,) = app(spec_of(2), run=RUN, attempt=3, home=Path("/var/$x/home")).roles
    assert role.entrypoint == sys.executable
    assert role.args == [
        *("-P", "-m", "jobs.agent", "--home", "/var/$$x/home", "--run", RUN, "--attempt", "3"),
        *("--node", "${replica_id}"),
    ]
    assert role.env == {
        "LASTGOOD_MARK": f"{RUN}:3",
        "LASTGOOD_HOME": "/var/$$x/home",
        "LASTGOOD_RUN": RUN,
        "LASTGOOD_ATTEMPT": "3",
    }
    assert (role.name, role.num_replicas, role.resource.gpu, role.max_retries) == ("agent", 2, 2, 0)


def test_agents_outlive_their_submission_in_sessions_of_their_own(home: Path) -> None:
    answer = submit(home, 1)
    record = registry.read(home, RUN, 1)
    assert record is not None
    assert answer == {"ok": True, **json.loads(json.dumps(registry.as_json(record)))}
    assert [agent.node for agent in record.agents] == [0, 1]
    for agent in record.agents:
        assert registry.alive(agent.pid, agent.started_at)
        assert os.getsid(agent.pid) == agent.pid
        log = next((home / "runs" / RUN / "attempts" / "001" / "torchx").glob(f"*/*/agent/{agent.node}/stdout.log"))
        assert os.readlink(f"/proc/{agent.pid}/fd/1") == str(log)


def test_agents_outlive_a_supervisor_that_ended_while_they_were_launched(home: Path) -> None:
    command = registry.request(home, RUN, 1)
    heard, unheard = os.pipe()
    launcher = subprocess.Popen(command, env=environment(home, "sleep"), stdout=unheard, stderr=unheard)
    os.close(unheard)
    os.close(heard)
    launcher.wait(timeout=60)
    record = registry.read(home, RUN, 1)
    assert record is not None
    assert [registry.why_dead(agent.pid, agent.started_at) for agent in record.agents] == [None, None]


def test_a_second_submission_starts_nothing_and_returns_the_first(home: Path) -> None:
    first = submit(home, 1)
    assert submit(home, 1) == first
    assert len(registry.marked(RUN, 1)) == 2


def test_submissions_at_the_same_moment_start_one_set_of_agents(home: Path) -> None:
    command = registry.request(home, RUN, 1)
    env = environment(home, "sleep")
    together = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE) for _ in range(3)]
    answers = [json.loads(child.communicate(timeout=60)[0]) for child in together]
    assert answers[0] == answers[1] == answers[2]
    assert len(registry.marked(RUN, 1)) == 2


def test_an_attempt_that_was_ended_is_not_started(home: Path) -> None:
    registry.end(home, RUN, 1)
    answer = submit(home, 1)
    assert answer["why"] == f"Refused: attempt 1 of {RUN} was ended: it is not started again"
    assert registry.marked(RUN, 1) == ()


def test_end_leaves_no_worker_behind_whatever_session_it_is_in(home: Path) -> None:
    submit(home, 1, "family")
    assert registry.end(home, RUN, 1) == ()
    assert registry.marked(RUN, 1) == ()
    assert all(len(registry.witnesses(home, RUN, 1, node)) == 2 for node in (0, 1))


def test_an_agent_that_ends_at_once_is_a_failed_launch_with_its_last_words(home: Path) -> None:
    answer = submit(home, 1, "crash")
    assert answer["ok"] is False
    assert answer["why"].startswith("RuntimeError: the agent of node ")
    assert answer["why"].endswith(" ended at once: ImportError: no module named nothing")
    assert registry.marked(RUN, 1) == ()


def test_a_spec_that_cannot_be_read_is_a_failed_launch(home: Path) -> None:
    (home / "runs" / RUN / "spec.json").unlink()
    assert submit(home, 1)["why"].startswith("FileNotFoundError: ")


def begun_by_hand(home: Path, nodes: int) -> list[subprocess.Popen[bytes]]:
    """Agents as a launcher leaves them that was killed before it wrote down what it had started."""
    (role,) = app(spec_of(2), run=RUN, attempt=1, home=home).roles
    env = {**environment(home, "sleep"), **role.env}
    found = []
    for node in range(nodes):
        words = [str(node) if word == "${replica_id}" else word for word in role.args]
        found.append(subprocess.Popen([role.entrypoint, *words], env=env, stdout=subprocess.PIPE))
        stdout = found[-1].stdout
        assert stdout is not None
        stdout.read(1)
        stdout.close()
    return found


def test_agents_that_were_started_and_not_written_down_are_adopted(home: Path) -> None:
    agents = begun_by_hand(home, 2)
    answer = submit(home, 1)
    assert answer["adopted"] is True
    assert [agent["pid"] for agent in answer["agents"]] == [agent.pid for agent in agents]
    registry.end(home, RUN, 1)
    assert [agent.wait() for agent in agents] == [-9, -9]


def test_half_a_set_of_agents_is_ended_and_a_whole_one_started(home: Path) -> None:
    (agent,) = begun_by_hand(home, 1)
    answer = submit(home, 1)
    assert agent.wait() == -9
    assert (answer["adopted"], len(answer["agents"])) == (False, 2)


HOLDER = "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print(flush=True); time.sleep(600)"


def test_ending_an_attempt_also_ends_a_submission_at_work(home: Path) -> None:
    command = registry.request(home, RUN, 1)
    path = str(registry.attempt_folder(home, RUN, 1) / "claim")
    with subprocess.Popen([sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        launcher = subprocess.Popen(command, env=environment(home, "sleep"), stdout=subprocess.DEVNULL)
        handle = os.pidfd_open(launcher.pid)
        while registry.marked(RUN, 1) != (launcher.pid,):
            assert not select.select([handle], [], [], 0.02)[0], "the submission ended by itself"
        assert registry.end(home, RUN, 1) == ()
        assert launcher.wait() == -9
        os.close(handle)
        holder.kill()


def test_nodes_on_one_host_share_out_its_gpus(home: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    smi = tmp_path / "bin" / "nvidia-smi"
    smi.write_text('#!/bin/sh\nfor n in 0 1 2 3; do echo "GPU $n: NVIDIA H100 (UUID: GPU-$n)"; done\n')
    smi.chmod(0o755)
    answer = submit(home, 1, PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    seen = [registry.environment(agent["pid"])["CUDA_VISIBLE_DEVICES"] for agent in answer["agents"]]
    assert seen == ["0,1", "2,3"]
