"""Every mistake in a spec is a sentence with file, line, key, what is allowed and the nearest spelling."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs import load
from jobs.errors import SpecError
from jobs.spec import Spec
from lastgood import manifest

GOOD = "name: gpt\ncommand: train.py --lr 1e-4\n"
PAIRS = "must be pairs [first, end), for example [[400, 420]], not"


def problems_of(text: str | bytes, **over: list[str]) -> list[str]:
    body = text.encode() if isinstance(text, str) else text
    with pytest.raises(SpecError) as caught:
        load.parse("run.yaml", body, **over)
    return list(caught.value.problems)


WRONG = {
    "": "run.yaml: is empty; `lastgood init` writes a spec to start from",
    "# nothing": "run.yaml: is empty; `lastgood init` writes a spec to start from",
    "- a": "run.yaml: is a list, but a spec is a mapping of keys to values, such as `name: my-run`",
    "hello": "run.yaml: is the text 'hello', but a spec is a mapping of keys to values, such as `name: my-run`",
    "name: a\nname: b": "run.yaml:2: name: written twice; it is already there on line 1",
    "checkpoint:\n\tkeep: 1": "run.yaml:2: a tab cannot be used for indentation: use spaces",
    "name: [1": "run.yaml:1: not valid YAML: expected ',' or ']', but got '<stream end>': 'name: [1'",
    "name: x\n  y: 2": "run.yaml:2: not valid YAML: mapping values are not allowed here: 'y: 2'",
    "name: @x": "run.yaml:1: not valid YAML: found character '@' that cannot start any token: 'name: @x'",
    "a: &x [*x]": "run.yaml:1: is nested too deeply (at most 20 levels; an alias inside its own anchor?)",
    "? [a]\n: b": "run.yaml:1: a key must be a word, not a list or a mapping",
    "name: !!python/object:os.system x": (
        "run.yaml:1: name: the tag tag:yaml.org,2002:python/object:os.system is not supported: write the plain value"
    ),
    'name: "\\ud800"': "run.yaml:1: name: holds a NUL or half a character, which cannot be stored",
    'name: "\\0"': "run.yaml:1: name: holds a NUL or half a character, which cannot be stored",
    f"{GOOD}nodes: 1{'0' * 5000}": (f"run.yaml:3: nodes: '1{'0' * 36}...' is not a number that can be read"),
    f"{GOOD}nodes: true": "run.yaml:3: nodes: must be a whole number, not true",
    f"{GOOD}nodes: 1.5": "run.yaml:3: nodes: must be a whole number, not the number 1.5",
    f"{GOOD}nodes: '2'": "run.yaml:3: nodes: must be a whole number, not the text '2'",
    f"{GOOD}nodes: 0": "run.yaml:3: nodes: must be at least 1, not 0",
    f"{GOOD}nodes: 99999999999999999999": "run.yaml:3: nodes: must be at most 32768, not 99999999999999999999",
    f"{GOOD}ranks_per_node: 100000000": "run.yaml:3: ranks_per_node: must be at most 1024, not 100000000",
    f"{GOOD}nodes: 32768\nranks_per_node: 9": (
        "run.yaml:4: ranks_per_node: must be at most 262144 ranks in all, not 294912 (nodes times ranks_per_node)"
    ),
    f"{GOOD}python: 1": "run.yaml:3: python: must be true or false, not the number 1",
    f"{GOOD}env: {{A: null}}": "run.yaml:3: env.A: must be text, not empty",
    f"{GOOD}env: [A]": "run.yaml:3: env: must be a mapping, not a list",
    f"{GOOD}detect: 5": "run.yaml:3: detect: must be a mapping with any of hang, loss, unseen_s, not the number 5",
    f"{GOOD}detect: {{hang: {{floor_s: .inf}}}}": "run.yaml:3: detect.hang.floor_s: '.inf' is not a finite number",
    f"{GOOD}data: {{skip: [[1,2,3]]}}": f"run.yaml:3: data.skip[0]: {PAIRS} a list",
    f"{GOOD}data: {{skip: [[1]]}}": f"run.yaml:3: data.skip[0]: {PAIRS} a list",
    f"{GOOD}data: {{skip: [[5,2]]}}": (
        "run.yaml:3: data: skip: [5, 2] is not a range of data indices: needs 0 <= first < end"
    ),
    f"{GOOD}python: false\ncheckpoint: {{resume_from: a}}": (
        "run.yaml:1: checkpoint.resume_from needs a Python script that uses the SDK, not `python: false`"
    ),
    f"{GOOD}scheduler: slurm": "run.yaml:3: scheduler: must be 'local_cwd', not the text 'slurm'",
    f"{GOOD}progress: {{pattern: '('}}": (
        "run.yaml:3: progress.pattern: is not a regular expression: missing ), unterminated subpattern at position 0"
    ),
    f"{GOOD}\ncheckpoint:\n  keep: 2\n  evry_steps: 50": (
        'run.yaml:6: checkpoint.evry_steps: unknown key; did you mean "every_steps"? '
        "allowed: every_steps, folder, keep, memory_every_steps, probation_steps, resume_from"
    ),
    f"{GOOD}floor_s: 4": (
        'run.yaml:3: floor_s: unknown key; did you mean "detect.hang.floor_s"? allowed: '
        + ", ".join(sorted(Spec.model_fields))
    ),
    "command: a": "run.yaml:1: name: is missing; Name of the run; a submission adds a short suffix.",
    "name: x\ncommand: {a: b}": "run.yaml:2: command: must be text or a list of texts, not a mapping",
    "name: x\ncommand: []": "run.yaml:2: command: must not be empty",
    "name: -x\ncommand: a": (
        "run.yaml:1: name: must be 1 to 40 of a-z, 0-9 and '-', and neither begin nor end with '-'"
    ),
}


@pytest.mark.parametrize("text", WRONG, ids=lambda text: repr(text[-40:]))
def test_a_mistake_is_one_sentence_that_says_where_and_what(text: str) -> None:
    assert problems_of(text) == [WRONG[text]]


def test_every_mistake_is_told_in_the_order_of_the_file() -> None:
    found = problems_of(f"{GOOD}nodes: 0\ncheckpoint: {{keep: 0}}\nranks_per_node: x")
    assert [problem.split(":")[1] for problem in found] == ["3", "4", "5"]


def test_bytes_that_are_no_text_are_told_with_their_line() -> None:
    assert problems_of(b"name: x\n\xff\xfe") == ["run.yaml:2: is not UTF-8 text (byte 8): is it the right file?"]


def test_a_million_aliases_are_refused_quickly() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    found = problems_of("\n".join(lines))
    assert found == ["run.yaml:1: has more than 20000 values once its aliases are written out"]


def test_scalars_are_those_of_yaml_1_2() -> None:
    spec = load.parse("run.yaml", b"name: no\ncommand: [a, 12:30, 010]\ndetect: {hang: {floor_s: 1e0}}")
    assert (spec.name, spec.argv, spec.detect.hang.floor_s) == ("no", ("a", "12:30", "010"), 1.0)


def test_where_text_is_wanted_a_scalar_is_text_as_written() -> None:
    spec = load.parse("run.yaml", b"name: 2024\ncommand: [a, 0x10]\nenv: {A: 4, B: 1e3, C: true, D: yes}")
    assert (spec.name, spec.argv) == ("2024", ("a", "0x10"))
    assert spec.env == {"A": "4", "B": "1e3", "C": "true", "D": "yes"}


def test_an_interval_between_saves_is_a_number_or_left_to_the_run() -> None:
    specs = [load.parse("run.yaml", f"{GOOD}{text}".encode()) for text in ("", "checkpoint: {every_steps: null}")]
    assert [spec.checkpoint.every_steps for spec in specs] == [None, None]
    assert problems_of(f"{GOOD}checkpoint: {{every_steps: 0}}") == [
        "run.yaml:3: checkpoint.every_steps: must be at least 1, not 0"
    ]
    known = load.schema()["$defs"]["Checkpoints"]["properties"]["every_steps"]
    assert known["default"] is None
    assert known["anyOf"] == [{"minimum": 1, "type": "integer"}, {"type": "null"}]


def test_merge_keys_work_and_own_keys_win() -> None:
    spec = load.parse("run.yaml", f"{GOOD}env: &e {{A: a, B: b}}\n".encode())
    merged = load.parse("run.yaml", f"{GOOD}env: {{B: mine, <<: {{A: a, B: b}}}}".encode())
    assert (spec.env["B"], merged.env) == ("b", {"A": "a", "B": "mine"})


def test_the_command_line_wins_and_is_named_in_errors() -> None:
    sets = ["checkpoint.every_steps=7", "name=12", "data.skip=[[4, 8]]", "env.A=1"]
    spec = load.parse("run.yaml", f"{GOOD}env: {{A: 0, K: x}}".encode(), sets=sets, env=["K=v=w"])
    assert (spec.checkpoint.every_steps, spec.name, spec.data.skip) == (7, "12", ((4, 8),))
    assert spec.env == {"A": "1", "K": "v=w"}


@pytest.mark.parametrize(
    ("over", "problem"),
    [
        ({"sets": ["nodes"]}, "--set nodes: needs the form KEY=VALUE, for example checkpoint.every_steps=100"),
        ({"sets": ["a..b=1"]}, "--set a..b=1: needs the form KEY=VALUE, for example checkpoint.every_steps=100"),
        (
            {"sets": ["chekpoint.keep=3"]},
            '--set chekpoint.keep=3: chekpoint: unknown key; did you mean "checkpoint"? allowed: '
            + ", ".join(sorted(Spec.model_fields)),
        ),
        ({"sets": ["nodes=0"]}, "--set nodes=0: nodes: must be at least 1, not 0"),
        ({"sets": ["name.x=1"]}, "--set name.x=1: name is the text 'gpt', it has no key 'x' below it"),
        ({"sets": ["nodes=[1"]}, "--set nodes=[1: not valid YAML: expected ',' or ']', but got '<stream end>': '[1'"),
        ({"env": ["=1"]}, "--env =1: needs the form NAME=VALUE, for example OMP_NUM_THREADS=1"),
        ({"env": ["A"]}, "--env A: needs the form NAME=VALUE, for example OMP_NUM_THREADS=1"),
    ],
)
def test_mistakes_on_the_command_line(over: dict[str, list[str]], problem: str) -> None:
    assert problems_of(GOOD, **over) == [problem]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "gpt.yaml").write_text(GOOD)
    for path, words in ((tmp_path / "gtp.yaml", "did you mean gpt.yaml?"), (tmp_path, "is a folder")):
        with pytest.raises(SpecError, match=words):
            load.load(path)
    assert load.load(tmp_path / "gpt.yaml").name == "gpt"


def test_folders_become_absolute_from_the_file_of_the_spec(tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    (tmp_path / "books").mkdir()
    (tmp_path / "job" / "train.py").touch()
    body = f"{GOOD}workdir: job\ncheckpoint: {{folder: saves}}\nrecovery: {{runbooks: books}}"
    spec = load.resolve(load.parse("run.yaml", body.encode()), tmp_path / "run.yaml")
    assert spec.workdir == str(tmp_path / "job")
    assert (spec.checkpoint.folder, spec.recovery.runbooks) == (str(tmp_path / "saves"), str(tmp_path / "books"))
    assert load.from_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (GOOD, "train.py is not a file"),
        ("name: x\ncommand: python train.py", "begins with the interpreter"),
        ("name: x\ncommand: ' '", "command: is empty"),
        ("name: x\ncommand: a 'b", "cannot be split into words: No closing quotation"),
        ("name: x\ncommand: a\nworkdir: nowhere", "nowhere is not a folder"),
        ("name: x\ncommand: a\nenv: {A=B: c}", "'A=B' cannot be the name of an environment variable"),
    ],
)
def test_what_cannot_start_is_told_before_the_launch(body: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=words):
        load.resolve(load.parse("run.yaml", body.encode()), tmp_path / "run.yaml")


def saved(folder: Path, step: int, data_index: int) -> Path:
    """A checkpoint that says where it was saved, and has no other file."""
    path = folder / f"step-{step:08d}.a1w1"
    path.mkdir(parents=True)
    body = manifest.Manifest(
        run="gpt-abcde",
        attempt=1,
        world=1,
        step=step,
        world_size=2,
        data_index=data_index,
        saved_at=1.0,
        torch="2.13.0",
        files={},
    )
    (path / manifest.MANIFEST).write_bytes(manifest.encode(body))
    return path


@pytest.mark.parametrize(
    ("checkpoint", "words"),
    [
        ("{resume_from: saves/step-00000050.a1w1}", "is not a checkpoint; did you mean .*/saves/step-00000040.a1w1"),
        ("{resume_from: saves}", "is not a checkpoint but a folder of them: name one, such as .*step-00000040.a1w1"),
        ("{resume_from: nowhere}", "is not a checkpoint, such as .../checkpoints/step-00000040.a1w1"),
        ("{resume_from: saves/step-00000010.a1w1}", "was saved where data index 25 came next, .* would feed 10: give"),
        ("{resume_from: cut/step-00000003.a1w1}", "is damaged: manifest.json: is missing"),
        ("{folder: saves}", "holds the checkpoints of another run: .* say checkpoint.resume_from: .*00000040.a1w1"),
    ],
)
def test_what_a_run_cannot_begin_from_is_told_before_the_launch(checkpoint: str, words: str, tmp_path: Path) -> None:
    saved(tmp_path / "saves", step=10, data_index=25)
    saved(tmp_path / "saves", step=40, data_index=40)
    (tmp_path / "cut" / "step-00000003.a1w1").mkdir(parents=True)
    (tmp_path / "train.py").touch()
    body = f"{GOOD}checkpoint: {checkpoint}"
    with pytest.raises(SpecError, match=f"run.yaml: checkpoint.*: .*{words}"):
        load.resolve(load.parse("run.yaml", body.encode()), tmp_path / "run.yaml")


def test_a_run_begins_from_a_checkpoint_whose_skipped_data_it_skips(tmp_path: Path) -> None:
    first = saved(tmp_path / "saves", step=10, data_index=25)
    (tmp_path / "train.py").touch()
    body = f"{GOOD}checkpoint: {{resume_from: saves/{first.name}}}\ndata: {{skip: [[5, 20]]}}"
    spec = load.resolve(load.parse("run.yaml", body.encode()), tmp_path / "run.yaml")
    assert spec.checkpoint.resume_from == str(first)


def test_the_schema_is_draft_2020_12_and_every_setting_says_what_it_is() -> None:
    schema = load.schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert set(schema["required"]) == {"name", "command"}
    undocumented = [
        f"{part}.{name}"
        for part, body in {"Spec": schema, **schema["$defs"]}.items()
        for name, setting in body["properties"].items()
        if "description" not in setting and "$ref" not in setting
    ]
    # What their names say.
    assert undocumented == [
        "Spec.env",
        "Spec.nodes",
        "Spec.ranks_per_node",
        "Loss.enabled",
        "Recovery.launch_timeout_s",
    ]


def outcome(body: bytes) -> Spec | SpecError:
    try:
        return load.parse("run.yaml", body)
    except SpecError as error:
        return error


@settings(max_examples=120, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_give_a_spec_or_a_sentence(body: bytes) -> None:
    assert isinstance(outcome(body), Spec | SpecError)


KEYS = st.sampled_from(["name", "command", "checkpoint", "every_steps", "skip", "data", "env", "hang", "detect", "x"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates()
VALUES = st.recursive(SCALARS, lambda below: st.lists(below, max_size=3) | st.dictionaries(KEYS, below, max_size=4))


@settings(max_examples=120, deadline=None)
@given(st.dictionaries(KEYS, VALUES))
def test_any_yaml_gives_a_spec_or_a_sentence(data: dict[str, object]) -> None:
    assert isinstance(outcome(yaml.dump(data).encode()), Spec | SpecError)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(list("{}[]:,-&*!|>'\"%@`#?<= \n\tab01.~")), max_size=60).map("".join))
def test_any_punctuation_gives_a_spec_or_a_sentence(text: str) -> None:
    assert isinstance(outcome(text.encode()), Spec | SpecError)


def test_a_spec_survives_its_journey_through_json() -> None:
    spec = load.parse("run.yaml", f"{GOOD}data: {{skip: [[1, 2], [5, 9]]}}".encode())
    assert load.from_json(json.dumps(spec.model_dump(mode="json"))) == spec
