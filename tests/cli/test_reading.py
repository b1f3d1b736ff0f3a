"""What the reading commands say of a journal, with no supervisor there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import Result

from monitors.incidents import Kind
from orchestrator import contract, runbooks
from orchestrator.core import events as e
from orchestrator.journal import Journal
from tests.cli.conftest import DONE, HELD, RUN, Say
from tests.story.scripted import T0, Script

READERS = {
    ("status", RUN): lambda home: contract.status(home, RUN),
    ("incident", "ls", RUN): lambda home: contract.incidents(home, RUN),
    ("incident", "show", RUN, "i1"): lambda home: contract.incident(home, RUN, "i1"),
    ("ckpt", "ls", RUN): lambda home: contract.checkpoints(home, RUN),
    ("events", RUN): lambda home: contract.events(home, RUN),
    ("story", RUN): lambda home: contract.story(home, RUN),
}


def ok(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("words", READERS, ids=" ".join)
def test_json_is_the_contract_and_nothing_else_is_on_stdout(words: tuple[str, ...], say: Say, home: Path) -> None:
    assert json.loads(ok(say(*words, "--json"))) == READERS[words](home)


def test_the_ledger_adds_up_in_both_forms(say: Say) -> None:
    books = json.loads(ok(say("ledger", DONE, "--json")))
    assert sum(books["buckets"].values()) == pytest.approx(books["wall_s"], abs=0.0005)
    assert f"wall clock  {books['wall_s']:.3f} s  100.0%" in ok(say("ledger", DONE))


def test_energy_is_one_line_and_only_where_a_gpu_was_read(say: Say, home: Path) -> None:
    assert "kWh" not in ok(say("ledger", DONE))
    read = e.EnergyRead(since=T0, until=T0 + 9, joules=9e6, gpu_s=9, step_j=5e5, steps=200, token_j=5e5, tokens=4e6)
    with Journal(home / "journal.db") as journal:
        script = Script(journal, run="gpt-eeeee").join(2.0).begin(0).train(10).save().train(10, energy=read)
        script.fail(Kind.WORKER_KILLED).stop().begin(10)
    line = ok(say("ledger", "gpt-eeeee")).splitlines()[-1]
    assert re.fullmatch(
        r"GPU energy 2\.5 kWh \(read for \d+\.\d% of the GPU time\), 2,500 J/step, 0\.125 J/token,"
        r" 0\.278 kWh on steps rolled back",
        line,
    ), line


def test_ls_shows_what_goes_on_or_needs_a_person(say: Say) -> None:
    lines = ok(say("ls")).splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["RUN", "STATE", "STEP"],
        [RUN, "RUNNING", "31"],
        [HELD, "HELD", "3"],
    ]
    assert DONE in ok(say("ls", "-a"))
    assert [run["run"] for run in json.loads(ok(say("ls", "-s", "succeeded", "--json")))["runs"]] == [DONE]


@pytest.mark.parametrize("alias", ["list", "ps", "queue"])
def test_aliases_work_and_are_not_advertised(alias: str, say: Say) -> None:
    assert ok(say(alias)) == ok(say("ls"))
    assert f"\n  {alias} " not in ok(say("--help"))


def test_status_is_a_sentence_and_numbers(say: Say) -> None:
    text = ok(say("status", RUN))
    assert text.startswith(f"{RUN}: RUNNING, ")
    for part in ("attempt 1, world 2, 2 ranks, step 31", "loss 2.25", "last good checkpoint: step 10", "restarts    1"):
        assert part in text
    assert "  saves       every 10 steps: the spec fixes it\n" in text
    assert "supervisor  not running" in text
    assert "saves  " not in ok(say("status", HELD)), "nobody said how often"


def test_status_without_a_run_shows_all_that_go_on(say: Say) -> None:
    text = ok(say("status"))
    assert RUN in text
    assert HELD in text
    assert DONE not in text


@pytest.mark.parametrize(("run", "code"), [(RUN, 101), (HELD, 100), (DONE, 0)])
def test_status_check_ends_with_how_the_run_is(run: str, code: int, say: Say) -> None:
    assert say("status", run, "--check").exit_code == code


def test_status_check_of_all_tells_cron_that_a_person_is_needed(say: Say) -> None:
    assert say("status", "--check").exit_code == 106


@pytest.mark.parametrize("text", ["gpt-x", HELD])
def test_the_beginning_of_an_id_is_enough(text: str, say: Say) -> None:
    assert ok(say("status", text)).startswith(HELD)


def test_a_dash_is_the_newest(say: Say) -> None:
    assert ok(say("status", "-")).startswith(DONE)


@pytest.mark.parametrize(
    ("text", "words"),
    [("gpt", "'gpt' may be gpt-abcde, gpt-xxxxx, gpt-zzzzz"), ("nope", "no run begins with 'nope'")],
)
def test_an_id_that_means_no_run_is_not_found(text: str, words: str, say: Say) -> None:
    result = say("ledger", text)
    assert (result.exit_code, result.stdout) == (102, "")
    assert words in result.stderr


def test_an_incident_shows_its_evidence_and_what_was_done(say: Say) -> None:
    text = ok(say("incident", "show", RUN, "i1"))
    for part in (
        "worker_killed",
        "rank 1",
        "drill: kill",
        "first evidence",
        "second evidence",
        "ended world 1",
        "from step 10",
    ):
        assert part in text
    missing = say("incident", "show", RUN, "i7")
    assert (missing.exit_code, missing.stderr) == (102, f"Error: {RUN} has no incident 'i7'; there is i1\n")


def test_the_story_is_the_contracts_sentences(say: Say, home: Path) -> None:
    text = ok(say("story", RUN))
    for sentence in contract.story(home, RUN)["sentences"]:
        assert sentence["text"] in text


def test_events_can_be_read_on_from_one(say: Say) -> None:
    every = json.loads(ok(say("events", RUN, "--json")))["events"]
    later = json.loads(ok(say("events", RUN, "--since", str(every[3]["id"]), "--json")))["events"]
    assert later == every[4:]


def test_events_show_what_was_decided_about_and_the_rest_when_asked(say: Say) -> None:
    every = json.loads(ok(say("events", RUN, "--json")))["events"]
    ids = re.compile(r"^ *(\d+)  \d\d:", re.MULTILINE)
    assert ids.findall(ok(say("events", RUN, "--all"))) == [str(event["id"]) for event in every]
    text = ok(say("events", RUN))
    decided = [event for event in every if event["reason"] or event["actions"]]
    assert ids.findall(text) == [str(event["id"]) for event in decided]
    assert 0 < len(decided) < len(every)
    assert "-> StartWorld attempt 1, world 2\n" in text
    assert max(map(len, text.splitlines())) < 400


def test_following_what_has_ended_ends(say: Say) -> None:
    assert len(ok(say("events", DONE, "-f", "--json")).splitlines()) == len(
        json.loads(ok(say("events", DONE, "--json")))["events"]
    )


def test_what_retention_deleted_meanwhile_is_no_damage(say: Say, home: Path) -> None:
    with Journal(home / "journal.db") as journal:
        script = Script(journal, run="old-aaaaa").join().begin(0)
        for _ in range(6):
            script.train(10).save()
    known = json.loads(ok(say("ckpt", "ls", "old-aaaaa", "--json")))["checkpoints"]
    read = say("ckpt", "verify", "old-aaaaa", "--json")
    verdicts = {one["name"]: one["verdict"] for one in json.loads(read.stdout)["checkpoints"]}
    assert (verdicts[known[0]["name"]], verdicts[known[-1]["name"]], read.exit_code) == ("deleted", "unreadable", 1)
    assert "cannot be read: No such file or directory" in read.stdout
    assert say("ckpt", "verify", "old-aaaaa", known[0]["name"]).exit_code == 0


def test_an_old_run_decides_again_as_it_did(say: Say) -> None:
    answer = json.loads(ok(say("replay", DONE, "--json")))
    assert answer["different"] == []
    assert "in the end it would be SUCCEEDED: complete at step 10" in ok(say("replay", DONE))
    for run in (RUN, HELD, DONE):
        end = json.loads(ok(say("replay", run, "--json")))["end"]
        assert end["state"] == json.loads(ok(say("status", run, "--json")))["state"]


def test_decisions_under_other_runbooks_are_told_where_they_have_a_reason(say: Say, tmp_path: Path) -> None:
    for page in (Path(runbooks.__file__).parents[1] / "runbooks").glob("*.md"):
        (tmp_path / page.name).write_text(page.read_text())
    killed = tmp_path / "worker_killed.md"
    killed.write_text(re.sub(r"(?m)^ladder: .*", "ladder: [hold]", killed.read_text()))
    text = ok(say("replay", RUN, "--runbooks", str(tmp_path)))
    assert "  would be  worker_killed rank 1 node 0 at step 20: first evidence; holding the run" in text
    assert "no forecast" in text
    assert not any(line.endswith(":") or line.split() in (["was"], ["would", "be"]) for line in text.splitlines())


def test_the_doctor_misses_a_supervisor_that_a_run_needs(say: Say) -> None:
    findings = {one["check"]: one for one in json.loads(say("doctor", "--json").stdout)["findings"]}
    assert findings["supervisor"] == {
        "check": "supervisor",
        "verdict": "WARN",
        "found": f"none runs, and nobody watches {RUN}",
        "fix": "lastgood serve -d",
    }


def test_a_state_folder_that_others_may_enter_is_refused(say: Say, home: Path) -> None:
    home.chmod(0o755)
    result = say("ls")
    assert (result.exit_code, result.stderr) == (
        1,
        f"Error: {home}: others may enter it (mode 0755), and it holds a key: chmod 700 {home}\n",
    )


def test_a_journal_that_is_none_is_a_sentence(say: Say, home: Path) -> None:
    (home / "journal.db").write_bytes(b"not a database, whatever its name says" * 100)
    result = say("ls")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert "Traceback" not in result.stderr


def test_nothing_was_ever_submitted(say: Say, tmp_path: Path) -> None:
    fresh = str(tmp_path / "fresh")
    listed, asked = say("ls", LASTGOOD_HOME=fresh), say("status", "x", LASTGOOD_HOME=fresh)
    assert (listed.exit_code, listed.stdout, listed.stderr) == (0, "", "no runs\n")
    assert (asked.exit_code, asked.stderr) == (102, f"Error: no run was ever submitted in {fresh}\n")


def test_the_story_says_on_which_day(say: Say) -> None:
    lines = ok(say("story", RUN)).splitlines()
    assert lines[0] == "1970-01-12"
    assert lines[1].startswith("13:46:40.000  Submitted")
    assert lines.count(lines[0]) == 1


def test_a_held_run_names_the_page_to_read_wherever_one_is(say: Say, home: Path, tmp_path: Path) -> None:
    page = runbooks.BUILT_IN / "crash_loop.md"
    assert page.is_file()
    assert f"next        read {page}; lastgood story {HELD}" in ok(say("status", HELD))
    assert f"runbook   {page}\n" in ok(say("incident", "show", HELD, "i1"))
    (home / "runs" / HELD / "spec.json").write_text(json.dumps({"recovery": {"runbooks": str(tmp_path)}}))
    assert str(page) in ok(say("status", HELD)), "the folder has no such page"
    (tmp_path / "crash_loop.md").touch()
    assert f"next        read {tmp_path}/crash_loop.md; lastgood story {HELD}" in ok(say("status", HELD))
    assert f"runbook   {tmp_path}/crash_loop.md\n" in ok(say("incident", "show", HELD, "i1"))


def test_a_run_that_nothing_is_decided_about_needs_a_person(say: Say, home: Path) -> None:
    assert say("status", RUN, "--check").exit_code == 101
    (home / "runs" / RUN / "unsupervised.json").write_text('{"why": "InvariantBroken: 1: two worlds"}')
    assert "unsupervised: InvariantBroken: 1: two worlds" in ok(say("ls"))
    text = ok(say("status", RUN))
    assert "InvariantBroken: 1: two worlds" in text
    assert f"lastgood resume {RUN}" in text
    assert say("status", RUN, "--check").exit_code == 106
    assert say("status", "--check").exit_code == 106


def test_a_run_is_followed_again_with_the_view_that_run_has(say: Say) -> None:
    followed = say("follow", DONE)
    assert followed.exit_code == 0
    assert followed.stdout.startswith(f"{DONE}: SUCCEEDED at step 10, 0 restarts")
    assert "Started world 1" in followed.stderr
