"""What did a program write, in a line that somebody else has wrapped?

Shippers of logs put a line into JSON (Docker, journald, loggers), behind a timestamp and a stream (Kubernetes), or
behind the name of a pod, a host or an MPI rank; terminals get colours, and progress bars that overwrite themselves.
"""

from __future__ import annotations

import json
import re
from itertools import islice

_INVISIBLE = re.compile(r"\x1b\[[0-9;:?]{0,20}[A-Za-z]|\x1b\][^\x07\x1b]{0,200}(?:\x07|\x1b\\)|[\x00\x08]")
"""colours, cursor moves, titles of windows and hyperlinks; what C programs leave of their buffers"""
_SAYS = re.compile(
    r'"(?:log|MESSAGE|message|msg|text|error|exc_info|exception|stack|stacktrace|stack_trace|traceback|py_callstack)"'
    r'\s{0,2}:\s{0,2}(?:"((?:[^"\\]|\\.)*)|\[((?:\s?\d{1,3},?){2,}))'
)
"""the fields of a JSON line that hold what was said; the line may be cut. journald writes what is no text as bytes"""
_NESTED, _FIELDS = 3, 6
"""a logger's JSON in Docker's JSON in journald's; fields read of each"""

CLOCK = r"\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?"
STAMP = rf"\d{{4}}[-/]\d\d[-/]\d\d[T ]{CLOCK}"
"""ISO 8601, and what Python, Go and nginx make of it"""
SHIPPED = rf"{STAMP} (?:stdout|stderr) [FP] |\[{STAMP}\] ?|{STAMP} (?:- [\w.]{{1,60}} - [A-Z]{{4,8}} - )?"
"""CRI-O's and containerd's files, `kubectl logs --timestamps`, Python's usual formatter"""
PLACED = (
    r"\[pod/[\w./-]{1,200}\] |\[\d{1,6},\d{1,6}\]<std(?:out|err)>:(?: (?=(?:  ){0,40}\S))?|"
    r"\[[\w.-]{1,60}:\d{1,8}\] |\[default\d{1,5}\]:|[\w.-]{1,60} {1,20}\| |[a-z][\w-]{0,40}/\d{1,6} "
)
"""`kubectl logs --prefix`, mpirun (some versions put a blank behind the colon), torchrun's --tee, `docker compose`,
torchx"""
HOST = re.compile(r"(?=[\w.-]{0,60}\d)[A-Za-z][\w.-]{0,250}(?<!Error)(?<!Exception)(?<!Warning): ")
"""pdsh, clush and srun put the host before each line; it looks like a disk's, a card's or an exception's name"""


def visible(text: str) -> str:
    """The text as a terminal shows it, but what a carriage return would overwrite stands on lines of its own."""
    if "\x1b" in text or "\x00" in text or "\x08" in text:
        text = _INVISIBLE.sub("", text)
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def unwrapped(line: str) -> str:
    """What the fields of a JSON line say, one below the other; any other line as it is."""
    for _ in range(_NESTED):
        if not line.startswith(('{"', '{ "')):
            break
        said = [_decoded(one[1] or "", one[2] or "") for one in islice(_SAYS.finditer(line), _FIELDS)]
        if not any(said):
            break
        line = visible("\n".join(one.rstrip("\n") for one in said if one))
    return line


def _decoded(text: str, numbers: str) -> str:
    if numbers:
        return bytes(int(one) & 0xFF for one in numbers.replace(",", " ").split()).decode(errors="replace")
    try:
        return str(json.loads(f'"{text}"', strict=False))
    except ValueError:  # cut within an escape, or no JSON after all
        return text.replace("\\n", "\n").replace('\\"', '"')
