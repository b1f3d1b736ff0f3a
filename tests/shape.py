"""What is the shape that the code has to keep (ARCHITECTURE.md)? Each rule is a function of one module.

A rule yields (line, what is wrong); its docstring says what to do about it. Numbers and allow-lists here move in one
direction: downwards. `test_shape.py` holds every module to every rule.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
SDK = "jobs/sdk/lastgood/"
ORDER = ("lastgood", "monitors", "jobs", "orchestrator")
"""who may import whom: only packages to the left"""

PURE = (
    "monitors/signals.py",
    "monitors/values.py",
    "monitors/attribution.py",
    "monitors/hardware.py",
    "monitors/incidents.py",
    "monitors/placement.py",
    "monitors/watch*",
    "monitors/detect/*",
    "monitors/catalogue/*",
    "orchestrator/alerts/course.py",
    "orchestrator/alerts/desk.py",
    "orchestrator/alerts/message.py",
    "orchestrator/alerts/rules.py",
    "orchestrator/alerts/surroundings.py",
    "orchestrator/alerts/threads.py",
    "orchestrator/alerts/wording.py",
    "orchestrator/comeback.py",
    "orchestrator/core/*",
    "jobs/spec*.py",
    f"{SDK}skips.py",
)
VALUES = frozenset(
    "__future__ abc bisect collections dataclasses enum errno fractions functools hashlib heapq itertools json math"  # noqa: SIM905
    " operator re shlex signal.Signals statistics string textwrap types typing".split()
)
"""standard library that neither asks the world nor changes it"""
IMPURE_CALLS = {
    "open": "reads the world",
    "print": "writes to the world: put the sentence into the reason",
    "input": "reads the world",
    "exec": "runs anything",
    "eval": "runs anything",
    "breakpoint": "is for your own terminal",
    "hash": "differs from process to process for text: compare values, or use hashlib",
    "id": "differs from process to process: number things in order",
}

DOORS = {
    "apprise": ("orchestrator/alerts*",),
    "click": ("orchestrator/cli/*",),
    "prometheus_client": ("orchestrator/metrics*",),
    "psutil": ("monitors/sense/*", "jobs/agent/*", "jobs/registry.py"),
    "pydantic": (
        "jobs/spec*.py",
        "jobs/checked.py",
        "monitors/wire.py",
        "orchestrator/alerts/config.py",
        "orchestrator/alerts/reading.py",
    ),
    "pydantic_core": ("jobs/checked.py", "monitors/wire.py"),
    "pynvml": ("monitors/sense/nvml.py",),
    "rich": ("orchestrator/cli/*",),
    "sqlite3": ("orchestrator/journal*", "orchestrator/alerts/outbox.py"),
    "starlette": ("orchestrator/api*",),
    "torch": (f"{SDK}*", "jobs/checkpoint/*", "jobs/recipes/*", "jobs/preflight*"),
    "torchx": ("jobs/app.py", "jobs/launch.py"),
    "uvicorn": ("orchestrator/api*",),
    "wandb": ("orchestrator/tracker.py",),
    "xxhash": (f"{SDK}*", "jobs/checkpoint/*", "jobs/keeper/*"),
    "yaml": ("jobs/document.py",),
}
"""where each package comes in, for everybody else to ask there; sqlite3, of the standard library, has one door too"""

CLOCKS = ("monitors/clock.py", f"{SDK}*", "jobs/recipes/*")
CLOCK_READS = {
    "time": "time time_ns monotonic monotonic_ns perf_counter perf_counter_ns process_time thread_time".split(),  # noqa: SIM905
    "datetime": ["now", "utcnow", "today"],
    "date": ["today"],
}
LINES_OF_FUNCTION, LINES_OF_FILE, NESTING, MEDIAN_OF_FUNCTIONS = 50, 400, 3, 6
VAGUE = frozenset("base common constants helper helpers manager misc tools types util utils".split())  # noqa: SIM905
BROAD = {
    f"{SDK}failure.py": 1,
    f"{SDK}imports.py": 1,
    f"{SDK}peers.py": 1,
    f"{SDK}saving.py": 1,
    f"{SDK}shardings.py": 1,
    f"{SDK}survivor.py": 1,
    f"{SDK}worker.py": 1,
    "jobs/launch.py": 1,
    "monitors/sense/station.py": 2,
    "orchestrator/alerts/aside.py": 1,
    "orchestrator/bulkhead.py": 1,
    "orchestrator/cli/__init__.py": 1,
    "orchestrator/door.py": 1,
    "orchestrator/serve.py": 1,
}
"""places where anything may have been raised, and the world's fault or a user's becomes a value"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One source file."""

    path: str
    """from the root, with `/`"""
    source: str
    tree: ast.Module

    @property
    def package(self) -> str:
        """The import package it belongs to; `tests` for a test."""
        return "lastgood" if self.path.startswith(SDK) else self.path.partition("/")[0]

    def lies_in(self, *patterns: str) -> bool:
        """Whether one of the patterns matches the path."""
        return any(fnmatch(self.path, pattern) for pattern in patterns)


Breaches = Iterator[tuple[int, str]]
Rule = Callable[[Module], Breaches]


def module_of(path: str, source: str) -> Module:
    """The module of a source text."""
    return Module(path=path, source=source, tree=ast.parse(source, filename=path))


@cache
def modules() -> tuple[Module, ...]:
    """Every Python file of ours."""
    found = (p for top in (*ORDER[1:], "tests") for p in sorted((ROOT / top).rglob("*.py")))
    return tuple(module_of(path.relative_to(ROOT).as_posix(), path.read_text()) for path in found)


@cache
def nodes(tree: ast.AST) -> tuple[ast.AST, ...]:
    """All that stands below it, found once for all rules."""
    return tuple(ast.walk(tree))


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every import, wherever it stands; `from a import b` is `a.b`."""
    for node in nodes(tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, name.name) for name in names)
            case ast.ImportFrom(module=str(source), names=names, level=0):
                yield from ((node.lineno, f"{source}.{name.name}") for name in names)
            case _:
                pass


def top(name: str) -> str:
    """The package of a dotted name."""
    return name.partition(".")[0]


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method, nested ones included."""
    for node in nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def imports_point_left(module: Module) -> Breaches:
    """Move the code to the right package, or hand the value in: lastgood ← monitors ← jobs ← orchestrator."""
    if module.package not in ORDER:
        return
    for line, name in imported(module.tree):
        if top(name) in ORDER and ORDER.index(top(name)) > ORDER.index(module.package):
            yield line, f"{module.package} imports {name}"


def the_sdk_stands_alone(module: Module) -> Breaches:
    """Whatever lives in a training process is standard library, torch and xxhash: anything else can clash there."""
    for line, name in imported(module.tree) if module.package == "lastgood" else ():
        if top(name) not in {*sys.stdlib_module_names, "torch", "xxhash", "lastgood"}:
            yield line, f"imports {name}"


def the_core_is_pure(module: Module) -> Breaches:
    """Let somebody outside ask the world, and hand the answer in as a value (an event, a signal, an argument)."""
    if not module.lies_in(*PURE):
        return
    allowed = VALUES | ({"pydantic"} if module.lies_in("jobs/spec*.py") else set())
    for line, name in imported(module.tree):
        path = f"{'jobs/sdk/' if top(name) == 'lastgood' else ''}{name.replace('.', '/')}"
        ours = any(path.startswith(pure.removesuffix(".py").rstrip("*/")) for pure in PURE)
        if not ours and not allowed.intersection((top(name), name)):
            yield line, f"imports {name}, which is not pure"
    for node in nodes(module.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS:
            yield node.lineno, f"{node.func.id}() {IMPURE_CALLS[node.func.id]}"


def every_package_has_one_door(module: Module) -> Breaches:
    """Ask the module that is the package's door. A new package needs a row in DOORS, and one in pyproject.toml."""
    if module.package == "tests":
        return
    for line, name in imported(module.tree):
        doors = DOORS.get(top(name))
        if doors is not None and not module.lies_in(*doors):
            yield line, f"imports {name}; its door is {', '.join(doors)}"
        if doors is None and top(name) not in {*sys.stdlib_module_names, *ORDER}:
            yield line, f"imports {name}, which has no door"


def one_module_reads_the_clock(module: Module) -> Breaches:
    """Take a monitors.clock.Clock, or the time as an argument (the SDK and the recipes have nobody to be told by)."""
    if module.package == "tests" or module.lies_in(*CLOCKS):
        return
    bare = {name for line, name in imported(module.tree) if top(name) in CLOCK_READS}
    for node in nodes(module.tree):
        match node:
            case (
                ast.Attribute(value=ast.Name(id=owner), attr=read)
                | ast.Attribute(value=ast.Attribute(attr=owner), attr=read)
            ) if read in CLOCK_READS.get(owner, ()):
                yield node.lineno, f"{owner}.{read} reads the clock"
            case ast.Call(func=ast.Name(id=read)) if f"time.{read}" in bare and read in CLOCK_READS["time"]:
                yield node.lineno, f"{read} reads the clock"
            case _:
                pass


def sleeps_only_poll(module: Module) -> Breaches:
    """Move a clock of your own, or poll for what you wait for until a deadline: a sleep is too short or too long."""
    if not module.lies_in("tests/*test_*.py", "tests/*conftest.py"):
        return
    loops = [n for n in nodes(module.tree) if isinstance(n, ast.While | ast.For | ast.AsyncFor)]
    polled = {id(below) for loop in loops for below in ast.walk(loop)}
    for node in nodes(module.tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "sleep") and id(node) not in polled:
            yield node.lineno, "sleeps outside a loop"


def functions_are_short(module: Module) -> Breaches:
    """Name a part of it: a function that has to be scrolled is two functions."""
    for node in functions(module.tree):
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        if lines > LINES_OF_FUNCTION:
            yield node.lineno, f"{node.name} has {lines} lines, at most {LINES_OF_FUNCTION}"


def files_are_short(module: Module) -> Breaches:
    """Find the second question that this file answers, and give it a file."""
    lines = module.source.count("\n")
    if lines > LINES_OF_FILE:
        yield lines, f"{lines} lines, at most {LINES_OF_FILE}"


BLOCKS = ast.If | ast.For | ast.AsyncFor | ast.While | ast.With | ast.AsyncWith | ast.Try | ast.TryStar | ast.Match


def _depths(node: ast.AST, depth: int) -> Iterator[tuple[int, int]]:
    """Line and depth of every block below a node; `elif` is as deep as its `if`, a function begins anew."""
    for child in ast.iter_child_nodes(node):
        is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and node.orelse == [child]
        fresh = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        deeper = 0 if fresh else depth + (isinstance(child, BLOCKS) and not is_elif)
        if deeper > depth:
            yield child.lineno, deeper  # type: ignore[attr-defined]
        yield from _depths(child, deeper)


def nesting_is_flat(module: Module) -> Breaches:
    """Return early, or name the inner block as a function."""
    for line, depth in _depths(module.tree, 0):
        if depth > NESTING:
            yield line, f"{depth} blocks deep, at most {NESTING}"


def nothing_is_mocked(module: Module) -> Breaches:
    """Hand in a fake with state of its own, through the constructor; what needs a patch needs a port."""
    for line, name in imported(module.tree):
        if name.startswith((".".join(("unittest", "mock")), "mock", "pytest_mock")):
            yield line, f"imports {name}"
    for node in nodes(module.tree):
        match node:
            case ast.Attribute(value=ast.Name(id="monkeypatch"), attr="setattr" | "delattr" | "setitem" as how):
                yield node.lineno, f"monkeypatch.{how}"
            case ast.arg(arg="mocker"):
                yield node.lineno, "takes mocker"
            case _:
                pass


def names_say_what_is_inside(module: Module) -> Breaches:
    """Call the module after the one thing it knows; if there is none, its parts belong elsewhere."""
    if vague := VAGUE.intersection(*[re.split(r"[_/.]", module.path.lower())]):
        yield 1, f"{', '.join(vague)} says nothing"


def _swallows(node: ast.ExceptHandler) -> bool:
    """It catches everything, and may not raise it again."""
    broad = node.type is None or re.search(r"\b(Exception|BaseException)\b", ast.unparse(node.type))
    last = node.body[-1]
    return bool(broad) and not (isinstance(last, ast.Raise) and last.exc is None)


def errors_are_named(module: Module) -> Breaches:
    """Catch what you expect by name. Only a boundary may catch everything: then count it in BROAD."""
    if module.package == "tests":
        return
    caught = [n.lineno for n in nodes(module.tree) if isinstance(n, ast.ExceptHandler) and _swallows(n)]
    calls = [n for n in nodes(module.tree) if isinstance(n, ast.Call)]
    caught += [n.lineno for n in calls if re.search(r"suppress\((Base)?Exception\)", ast.unparse(n))]
    allowed = BROAD.get(module.path, 0)
    if len(caught) > allowed:
        yield sorted(caught)[-1], f"catches everything {len(caught)} times, allowed {allowed}"
    if len(caught) < allowed:
        yield 1, f"catches everything {len(caught)} times: lower BROAD from {allowed}"


INHERITED = frozenset("forward format_commands get_command list_commands parse_args".split())  # noqa: SIM905
"""methods of torch's and click's interfaces, which stand explained there"""


def public_things_say_what_they_are(module: Module) -> Breaches:
    """Write the sentence that a reader needs before the code: what it answers, units, what it raises."""
    if not ast.get_docstring(module.tree):
        yield 1, "the module does not say which question it answers"
    if module.package == "tests":
        return
    public = [c for c in module.tree.body if isinstance(c, ast.ClassDef) and not c.name.startswith("_")]
    for node in [below for owner in (module.tree, *public) for below in owner.body]:
        named = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        if named and not ast.get_docstring(node) and not node.name.startswith("_") and node.name not in INHERITED:
            yield node.lineno, f"{node.name} has no docstring"


RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        imports_point_left,
        the_sdk_stands_alone,
        the_core_is_pure,
        every_package_has_one_door,
        one_module_reads_the_clock,
        sleeps_only_poll,
        functions_are_short,
        files_are_short,
        nesting_is_flat,
        nothing_is_mocked,
        names_say_what_is_inside,
        errors_are_named,
        public_things_say_what_they_are,
    )
}
