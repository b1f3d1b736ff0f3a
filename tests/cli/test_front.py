"""The front door: how fast it opens, what it imports, how it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobs import load
from orchestrator.cli import COMMANDS, lastgood
from orchestrator.injection import inject
from orchestrator.journal import Journal
from tests.cli.conftest import HELD, Say
from tests.story.scripted import RUN, Script

SCRIPT = Path(sys.executable).parent / "lastgood"
HELP_S = 0.15
"""as promised; 0.06 s on the machine that it was written on"""
HEAVY = ("torch", "torchx", "pydantic", "rich", "sqlite3", "yaml", "asyncio", "numpy")


def run(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        capture_output=True,
        text=True,
        env={**os.environ, **env},
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.alone
def test_help_is_there_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    walls = []
    for _ in range(10):
        began = time.perf_counter()
        assert run(str(SCRIPT), "--help").returncode == 0
        walls.append(time.perf_counter() - began)
    with capsys.disabled():
        print(f"\nlastgood --help: best {min(walls) * 1000:.0f} ms")
    assert min(walls) <= HELP_S


def test_help_imports_nothing_heavy() -> None:
    done = run(sys.executable, "-X", "importtime", str(SCRIPT), "--help")
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time")}
    assert "click" in imported
    assert imported.isdisjoint(HEAVY)


@pytest.mark.parametrize("words", [["ls"], ["version"], ["status", "x"], ["serve", "--help"]], ids=" ".join)
def test_reading_needs_no_torch(words: list[str], tmp_path: Path) -> None:
    done = run(sys.executable, "-X", "importtime", str(SCRIPT), *words, LASTGOOD_HOME=str(tmp_path / "none"))
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time")}
    assert imported.isdisjoint({"torch", "torchx", "rich", "numpy", "wandb"})


def test_the_overview_says_what_each_command_says() -> None:
    context = lastgood.make_context("lastgood", ["--help"], resilient_parsing=True)
    for name, (_, summary) in COMMANDS.items():
        command = lastgood.get_command(context, name)
        assert command is not None
        assert command.name == name
        assert command.help
        assert summary.rstrip(".").split(":")[0].split(",")[0].split()[0] in command.help, name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_helps_and_speaks_json(name: str, say: Say) -> None:
    result = say(name, "--help")
    assert result.exit_code == 0
    below = {
        "incident": ["ls", "show", "ack", "resolve", "note", "judge"],
        "ckpt": ["ls", "verify", "pin", "unpin"],
        "nodes": ["ls", "history", "cordon", "uncordon"],
        "alerts": ["ls", "test"],
        "silence": ["add", "ls", "rm"],
    }.get(name)
    pages = [say(name, word, "--help").output for word in below] if below else [result.output]
    assert all("--json" in page for page in pages)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["statsu"], "no command 'statsu'; did you mean status?"),
        (["xyzzy"], "no command 'xyzzy'; there are: init, doctor, run"),
        (["status", "--jsn"], "--json"),
        (["run"], "needs a spec's file, or `-- COMMAND`: one of them"),
        (["submit", "a.yaml", "--", "b"], "needs a spec's file, or `-- COMMAND`: one of them"),
        (["submit", "nowhere.yaml"], "nowhere.yaml: no such file; `lastgood init` writes one"),
        (["drill", "-"], "needs RUN and DRILL; `lastgood drill --list` shows the drills"),
        (["drill", "-", "kil"], "no drill 'kil'; did you mean kill?"),
        (["drill", "-", "qqqq"], "no drill 'qqqq'; there are: kill, exception"),
        (["init", "plan"], "no template 'plan'; did you mean plain?"),
        (["init", "qqqq"], "no template 'qqqq'; there are: pretrain, plain"),
        (["demo", "--fault", "xid7"], "no fault 'xid7'; did you mean xid79?"),
        (["ls", "-s", "BOGUS"], "no state 'BOGUS'; there are: PENDING, STARTING, RUNNING"),
        (["ls", "-s", "runing"], "no state 'runing'; did you mean RUNNING?"),
        (["ls", "-s", ""], "no state ''; there are: PENDING"),
        (["submit", "-n", "Bad Name", "--", "true"], "-n 'Bad Name': name: "),
        (["submit", "-n", "", "--", "true"], "-n '': name: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_is_refused_with_what_can(words: list[str], why: str, say: Say) -> None:
    result = say(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert why in result.stderr


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["resume", HELD, "--from-step", "5"], f"{HELD} has no verified checkpoint of step 5 or older; there is: none"),
        (["drill", RUN, "kill", "--rank", "2"], f"{RUN} has no rank 2; there are 0 to 1"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_number_that_means_nothing_changes_nothing(words: list[str], why: str, say: Say, home: Path) -> None:
    before = say("events", words[1], "--json").stdout
    result = say(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert why in result.stderr
    assert say("events", words[1], "--json").stdout == before
    assert not (home / "supervisor.json").exists()


def test_a_drill_that_could_do_nothing_is_refused_with_the_reason(say: Say, home: Path) -> None:
    with Journal(home / "journal.db") as journal:
        Script(journal, run="new-aaaaa")
        Script(journal, run="begun-aaaaa").join()
    for run, drill, why in (
        ("new-aaaaa", "kill", "has no rank that could fail now (submitted); ask again once it is RUNNING"),
        ("begun-aaaaa", "exception", "is done by the SDK (`import lastgood`), in the rank, between two steps"),
    ):
        result = say("drill", run, drill)
        assert (result.exit_code, result.stdout) == (1, "")
        assert why in result.stderr
    assert not (home / "supervisor.json").exists()


@pytest.mark.parametrize("made", [False, True])
def test_an_agent_that_is_not_there_is_not_killed(made: bool, home: Path) -> None:
    agent = home / "runs" / RUN / "attempts" / "001" / "node0" / "agent.json"
    if made:
        agent.parent.mkdir(parents=True)
        agent.write_text(json.dumps({"pid": os.getpid(), "started_at": 1.0}))
    with pytest.raises(LookupError, match="is gone already" if made else "has no agent yet"):
        inject(home, RUN, "agent")


def test_a_pipe_whose_reader_leaves_is_no_error(home: Path) -> None:
    done = run("bash", "-c", f"{SCRIPT} events - --json | head -n 1; echo ${{PIPESTATUS[0]}}", LASTGOOD_HOME=str(home))
    assert (done.stdout, done.stderr) == ("{\n0\n", "")


def test_colour_is_for_terminals_that_want_it(home: Path) -> None:
    inside = f"script -qec '{SCRIPT} ls' /dev/null"
    assert "\x1b[" not in run(str(SCRIPT), "ls", LASTGOOD_HOME=str(home)).stdout
    if run("which", "script").returncode == 0:
        assert "\x1b[" in run("bash", "-c", inside, LASTGOOD_HOME=str(home)).stdout
        assert "\x1b[" not in run("bash", "-c", inside, LASTGOOD_HOME=str(home), NO_COLOR="1").stdout


@pytest.mark.parametrize("template", ["pretrain", "plain"])
def test_a_template_is_a_spec_and_is_never_written_over(template: str, say: Say, tmp_path: Path) -> None:
    assert say("init", template).stdout == f"{template}.yaml\n"
    path = tmp_path / f"{template}.yaml"
    assert path.read_text().startswith("# yaml-language-server: $schema=lastgood.schema.json\n")
    assert json.loads((tmp_path / "lastgood.schema.json").read_text()) == load.schema()
    load.load(path)
    path.write_text("mine")
    refused = say("init", template)
    assert (refused.exit_code, path.read_text()) == (2, "mine")
    assert say("init", template, "--force").exit_code == 0


def test_the_pretrain_template_can_be_submitted_as_it_is(say: Say) -> None:
    say("init", "pretrain")
    result = say("submit", "pretrain.yaml", "--dry-run", "--json", "--set", "ranks_per_node=4", "-n", "mine")
    resolved = json.loads(result.stdout)
    assert (resolved["name"], resolved["ranks_per_node"]) == ("mine", 4)


def test_the_schema_and_the_templates_can_be_listed(say: Say) -> None:
    assert json.loads(say("init", "--schema").stdout) == load.schema()
    assert set(json.loads(say("init", "--list", "--json").stdout)["templates"]) == {"pretrain", "plain"}


@pytest.mark.parametrize(
    ("words", "spec"),
    [
        (["train.py", "--lr", "3e-4"], {"name": "train", "command": ["train.py", "--lr", "3e-4"], "python": True}),
        (["python3", "train.py"], {"name": "train", "command": ["train.py"], "python": True}),
        (["-m", "pkg.train", "-h"], {"name": "pkg", "command": ["-m", "pkg.train", "-h"], "python": True}),
        (["python", "-u", "train.py"], {"name": "train", "command": ["python", "-u", "train.py"], "python": False}),
        (["./My Tool", "it's"], {"name": "my-tool", "command": ["./My Tool", "it's"], "python": False}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_bare_command_becomes_a_spec(words: list[str], spec: dict[str, object], say: Say, tmp_path: Path) -> None:
    (tmp_path / "train.py").touch()
    (tmp_path / "pkg").mkdir()
    for program in ("My Tool", "python"):
        (tmp_path / program).touch(mode=0o755)
    resolved = json.loads(say("submit", "--dry-run", "--json", "--env", "A=B", "--", *words, PATH=str(tmp_path)).stdout)
    assert {key: resolved[key] for key in spec} == spec
    assert (resolved["workdir"], resolved["env"]) == (str(tmp_path), {"A": "B"})


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["-m", "nosuch.module"], "command line: command: no module 'nosuch' is installed, or in "),
        (["nosuchprog", "x"], "command line: command: no program 'nosuchprog' in the folders of PATH"),
        (["./nosuchprog"], "command line: command: "),
        (["torchrun", "--nproc-per-node", "2", "t.py", "-x"], "write `t.py -x` and `ranks_per_node: 2`"),
        (["python", "-m", "torch.distributed.run", "t.py"], "write `t.py` and `ranks_per_node: N`"),
        (["python", "-u", "-m", "torch.distributed.launch", "--nproc_per_node=4", "t.py"], "`ranks_per_node: 4`"),
        (["accelerate", "launch", "--num_processes=8", "t.py"], "write `t.py` and `ranks_per_node: 8`"),
        (["/usr/bin/mpirun", "-np", "2", "./tool"], "mpirun would start ranks that nobody watches: write the script"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_bare_command_that_cannot_be_meant_is_refused(words: list[str], why: str, say: Say) -> None:
    result = say("submit", "--dry-run", "--", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert why in result.stderr


def test_a_launcher_is_started_where_a_person_insists(say: Say, tmp_path: Path) -> None:
    (tmp_path / "torchrun").touch(mode=0o755)
    insisting = ("submit", "--dry-run", "--set", "python=false", "--", "torchrun", "t.py")
    assert say(*insisting, PATH=str(tmp_path)).exit_code == 0
    assert say("submit", "--dry-run", "--", "./torchrun", "t.py").exit_code == 0, "a program of one's own"
    (tmp_path / "run.yaml").write_text("name: x\ncommand: torchrun --nproc_per_node 2 t.py\npython: false\n")
    assert say("submit", "--dry-run", "run.yaml", PATH=str(tmp_path)).exit_code == 0


def test_what_can_be_found_in_the_folders_of_the_run_is_let_pass(say: Say, tmp_path: Path) -> None:
    (tmp_path / "libs" / "mine").mkdir(parents=True)
    (tmp_path / "libs" / "tool").touch(mode=0o755)
    assert say("submit", "--dry-run", "--env", "PYTHONPATH=libs", "--", "-m", "mine.train").exit_code == 0
    assert say("submit", "--dry-run", "--env", f"PATH={tmp_path / 'libs'}", "--", "tool").exit_code == 0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("command: t.py\nrecovery: {runbooks: nowhere}", "run.yaml:3: recovery.runbooks: "),
        ("command: t.py\nrecovery:\n  runbooks: books", "hang.md"),
        ("command: -m nosuch.module", "run.yaml:2: command: no module 'nosuch'"),
        ("command: nosuchprog\npython: false", "run.yaml:2: command: no program 'nosuchprog'"),
        ("command: torchrun --nproc-per-node=2 t.py", "run.yaml:2: command: torchrun would start"),
    ],
)
def test_a_dry_run_says_what_would_fail_later_and_where(text: str, why: str, say: Say, tmp_path: Path) -> None:
    (tmp_path / "t.py").touch()
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "hang.md").write_text("no front matter")
    (tmp_path / "run.yaml").write_text(f"name: x\n{text}\n")
    result = say("submit", "--dry-run", "run.yaml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert why in result.stderr


def test_doctor_names_every_check_and_a_fix_for_what_is_wrong(say: Say) -> None:
    result = say("doctor", "--json")
    findings = json.loads(result.stdout)["findings"]
    assert {"python", "torch", "torchx", "GPUs", "state folder", "write speed", "clock", "supervisor"} <= {
        finding["check"] for finding in findings
    }
    assert all(finding["fix"] for finding in findings if finding["verdict"] != "PASS")
    worst = max(("PASS", "WARN", "FAIL").index(finding["verdict"]) for finding in findings)
    assert result.exit_code == worst


def test_doctor_fails_on_a_state_folder_that_cannot_be_used(say: Say, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = say("doctor", LASTGOOD_HOME=str(tmp_path / "file"))
    assert result.exit_code == 2
    assert "FAIL  state folder" in result.stdout
