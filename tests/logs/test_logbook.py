"""Is what our processes log text by default, and with LASTGOOD_LOG=json what OpenTelemetry calls a log record?"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from monitors.logbook import VARIABLE, Lines

PROGRAM = """
import logging, warnings
from pathlib import Path
from monitors import logbook

logbook.begin("lastgood-agent", file=Path({file!r}), run="gpt-abcde", attempt=2, node=0)
logging.getLogger("jobs.agent").info("world %d is there", 3, extra={{"world": 3, "rank": 1}})
warnings.warn("soon\\nno more")
raise ValueError("a line\\nbreak")
"""


def logged(tmp_path: Path, said: str | None) -> list[str]:
    """What a process of ours writes that ends of an exception."""
    file = tmp_path / "agent.log"
    env = {name: value for name, value in os.environ.items() if name != VARIABLE}
    env |= {VARIABLE: said} if said is not None else {}
    subprocess.run([sys.executable, "-c", PROGRAM.format(file=str(file))], env=env, capture_output=True, check=False)
    return file.read_text().splitlines()


def test_in_json_every_line_is_a_record(tmp_path: Path) -> None:
    there, soon, end = map(json.loads, logged(tmp_path, "json"))
    assert (there["severity_text"], there["severity_number"], there["body"]) == ("INFO", 9, "world 3 is there")
    assert there["attributes"] == {"run": "gpt-abcde", "attempt": 2, "node": 0, "world": 3, "rank": 1}
    assert there["instrumentation_scope"] == {"name": "jobs.agent"}
    assert there["timestamp"].endswith("+00:00")
    assert set(there["resource"]) == {"service.name", "service.version", "host.name", "process.pid"}
    assert there["resource"]["service.name"] == "lastgood-agent"
    assert (soon["severity_text"], soon["severity_number"]) == ("WARN", 13)
    assert "soon\nno more" in soon["body"]
    assert (end["severity_text"], end["severity_number"]) == ("FATAL", 21)
    assert end["attributes"]["exception.type"] == "ValueError"
    assert end["attributes"]["exception.message"] == "a line\nbreak"
    assert end["attributes"]["exception.stacktrace"].startswith("Traceback")
    assert end["attributes"]["run"] == "gpt-abcde"


@pytest.mark.parametrize("said", [None, "", "text"])
def test_text_is_the_default(tmp_path: Path, said: str | None) -> None:
    (line,) = logged(tmp_path, said)
    assert line.endswith(" INFO jobs.agent: world 3 is there")


def test_another_word_is_told_and_is_text(tmp_path: Path) -> None:
    warning, line = logged(tmp_path, "xml")
    assert "LASTGOOD_LOG=xml is neither text nor json" in warning
    assert line.endswith("world 3 is there")


@pytest.mark.parametrize("extra", [{"run": object()}, {"run": "\udcff"}, {"world": float("nan")}])
def test_whatever_is_said_is_one_line(extra: dict[str, Any]) -> None:
    record = logging.makeLogRecord({"levelno": logging.INFO + 3, "levelname": "LOUD", "msg": "a\nb", **extra})
    line = Lines("x", {}).format(record)
    assert "\n" not in line
    assert json.loads(line)["severity_text"] == "LOUD"
