"""Does a shell that evaluates what `lastgood completion` prints complete commands, options and runs?"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import DONE, Say


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("lastgood", "sto"), {"story", "stop"}),
        (("lastgood", "submit", "--pro"), {"--probe", "--probe-timeout"}),
        (("lastgood", "status", "gpt-z"), {DONE}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes(words: tuple[str, ...], found: set[str], home: Path) -> None:
    script = f"""
source <(lastgood completion bash)
COMP_WORDS=({" ".join(words)}); COMP_CWORD={len(words) - 1}
_lastgood_completion lastgood
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env={**os.environ, "PATH": path, "LASTGOOD_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == found


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_is_told_to_ask_lastgood(shell: str, say: Say) -> None:
    result = say("completion", shell)
    assert result.exit_code == 0
    assert f"_LASTGOOD_COMPLETE={shell}_complete" in result.stdout
    refused = say("completion", shell[:-1])
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert f"did you mean {shell}?" in refused.stderr
