"""Does the code keep its shape? Every rule of `shape.py` against every module, and against something bad.

A rule that was never seen to fail may have rotted into one that cannot.
"""

from __future__ import annotations

import ast
import statistics
import subprocess
import sys
from collections.abc import Callable
from graphlib import CycleError, TopologicalSorter

import pytest

from tests.shape import MEDIAN_OF_FUNCTIONS, ROOT, RULES, SDK, functions, imported, module_of, modules


@pytest.mark.parametrize("rule", RULES)
def test_the_code_keeps_the_rule(rule: str) -> None:
    found = [f"{m.path}:{line}: {what}" for m in modules() for line, what in RULES[rule](m)]
    assert not found, "\n".join([f"{len(found)} times: {RULES[rule].__doc__}", *found])


DEEP = """\
def f():
    for a in b:
        if a:
            try:
                with a:
                    c()
            finally:
                d()
"""
BAD = [
    ("imports_point_left", "monitors/detect/hang.py", "def f():\n    from jobs.spec import Spec\n", 2),
    ("imports_point_left", f"{SDK}run.py", "import monitors.signals", 1),
    ("the_sdk_stands_alone", f"{SDK}run.py", "import psutil", 1),
    ("the_core_is_pure", "orchestrator/core/decide.py", "import math\nimport time", 2),
    ("the_core_is_pure", "orchestrator/core/decide.py", "from orchestrator import journal", 1),
    ("the_core_is_pure", "monitors/detect/hang.py", "from monitors import wire", 1),
    ("the_core_is_pure", "monitors/watch.py", "from datetime import datetime", 1),
    ("the_core_is_pure", "monitors/signals.py", "x = 1\nprint(x)", 2),
    ("every_package_has_one_door", "orchestrator/story.py", "def f():\n    import torch.nn", 2),
    ("every_package_has_one_door", "orchestrator/story.py", "import numpy", 1),
    ("one_module_reads_the_clock", "orchestrator/story.py", "import time\nnow = time.monotonic()", 2),
    ("one_module_reads_the_clock", "jobs/launch.py", "from time import time\nnow = time()", 2),
    ("one_module_reads_the_clock", "jobs/launch.py", "import datetime\nd = datetime.datetime.now()", 2),
    ("one_module_reads_the_clock", "jobs/agent/main.py", "import time\nread = time.time", 2),
    ("sleeps_only_poll", "tests/test_x.py", "import time\ntime.sleep(1)", 2),
    ("functions_are_short", "jobs/launch.py", "def f():\n" + "    x = 1\n" * 50, 1),
    ("files_are_short", "jobs/launch.py", "x = 1\n" * 401, 401),
    ("nesting_is_flat", "jobs/launch.py", DEEP, 5),
    ("nothing_is_mocked", "tests/test_x.py", "from unittest import mock", 1),
    ("nothing_is_mocked", "tests/test_x.py", "def test(monkeypatch):\n    monkeypatch.setattr(a, 'b', 1)", 2),
    ("names_say_what_is_inside", "jobs/launch_utils.py", "", 1),
    ("names_say_what_is_inside", "jobs/base/launch.py", "", 1),
    ("errors_are_named", "jobs/app.py", "try:\n    f()\nexcept (KeyError, Exception):\n    pass", 3),
    ("errors_are_named", "jobs/app.py", "try:\n    f()\nexcept:\n    log()", 3),
    ("errors_are_named", "jobs/app.py", "with contextlib.suppress(Exception):\n    f()", 1),
    ("errors_are_named", "jobs/launch.py", "", 1),
    ("public_things_say_what_they_are", "jobs/app.py", "", 1),
    ("public_things_say_what_they_are", "jobs/app.py", '"""What?"""\nclass A:\n    """A."""\n    def f(self): ...', 4),
]
GOOD = [
    ("imports_point_left", "orchestrator/story.py", "import lastgood, monitors.clock, jobs.spec, json"),
    (
        "the_core_is_pure",
        "orchestrator/core/decide.py",
        "from orchestrator.core import events\nfrom monitors.detect.x import y",
    ),
    ("the_core_is_pure", "jobs/spec.py", "from pydantic import Field"),
    ("one_module_reads_the_clock", "monitors/clock.py", "import time\nnow = time.time()"),
    ("sleeps_only_poll", "tests/test_x.py", "import time\nwhile not f():\n    time.sleep(0.1)"),
    ("nesting_is_flat", "jobs/app.py", "if a:\n    b\nelif c:\n    d\nelif e:\n    f\nelif g:\n    h\nelif i:\n    j"),
    ("errors_are_named", "jobs/app.py", "try:\n    f()\nexcept BaseException:\n    undo()\n    raise"),
]


@pytest.mark.parametrize(("rule", "path", "source", "line"), BAD)
def test_the_rule_sees_what_breaks_it(rule: str, path: str, source: str, line: int) -> None:
    assert [line] == [line for line, _ in RULES[rule](module_of(path, source))]


@pytest.mark.parametrize(("rule", "path", "source"), GOOD)
def test_the_rule_lets_pass_what_keeps_it(rule: str, path: str, source: str) -> None:
    assert not list(RULES[rule](module_of(path, source)))


def test_every_rule_is_shown_something_bad() -> None:
    assert set(RULES) == {rule for rule, *_ in BAD}


def circle(sources: dict[str, str]) -> list[str]:
    """Modules that import each other in a loop, wherever the import stands; nothing when the house has floors."""
    names = {path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): path for path in sources}
    above: dict[str, set[str]] = {}
    for name, path in names.items():
        for _, found in imported(ast.parse(sources[path])):
            of = next((one for one in (found, found.rpartition(".")[0]) if one in names and one != name), None)
            above.setdefault(name, set()).update([of] if of else [])
    try:
        TopologicalSorter(above).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_nothing_is_imported_in_circles() -> None:
    """Move what both need into a module of its own."""
    assert circle({m.path: m.source for m in modules() if m.package != "tests"}) == []
    looped = {"a/b.py": "from a import c", "a/c.py": "def f():\n    from a.b import g"}
    assert set(circle(looped)) == {"a.b", "a.c"}


def test_functions_are_small_as_a_habit(record_property: Callable[[str, object], None]) -> None:
    lengths = []
    for module in modules():
        for node in functions(module.tree) if module.package != "tests" else ():
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lengths.append((body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0)
    median = statistics.median(lengths)
    record_property("median_lines_of_function", median)
    print(f"{len(lengths)} functions, median {median:g} lines")
    assert median <= MEDIAN_OF_FUNCTIONS


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("pass", {"torch", "torchx", "wandb", "pydantic", "yaml"}),
        ("[c.lastgood.get_command(None, name) for name in c.COMMANDS]", {"torch", "torchx", "wandb"}),
    ],
    ids=["--help", "every command"],
)
def test_the_command_line_starts_without_what_is_slow_to_import(code: str, heavy: set[str]) -> None:
    program = f"import sys, orchestrator.cli as c; {code}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-P", "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not heavy.intersection(loaded.stdout.split())
