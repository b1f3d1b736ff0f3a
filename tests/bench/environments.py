"""How does a peer get here? A virtual environment for each, under `.venv-peers`, made when it is missing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLACE = ROOT / ".venv-peers"
TORCH = "torch==2.13.0"
INSTALL_S = 900.0
SAID_CHARACTERS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What is installed beside torch."""

    name: str
    packages: tuple[tuple[str, ...], ...] = ()
    """words for pip, one call each; {site} is the folder of packages"""
    patch: tuple[str, str, str] | None = None
    """file in the folder of packages, what stands there, what must"""
    module: str = "torch"
    """can be imported when all is well"""

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return PLACE / self.name

    def program(self, name: str) -> str:
        """Path of one of its programs."""
        return str(self.folder / "bin" / name)


# Its wheels are tagged for Python 3.12 and a newer glibc, but hold nothing compiled that is used here.
_ANY_PYTHON = ("--only-binary=:all:", "--python-version", "3.12", "--platform", "manylinux_2_39_x86_64")
ENVIRONMENTS = {
    environment.name: environment
    for environment in (
        Environment(name="torchrun"),
        Environment(
            name="nvrx",
            packages=(
                (
                    *("defusedxml", "fastapi>=0.100", "grpcio>=1.76,<2", "grpcio-tools>=1.76,<2", "httpx>=0.24"),
                    *("nvidia-ml-py>=12.570.86", "packaging", "protobuf>=4.22", "psutil>=6", "pydantic>=2"),
                    *("pydantic-settings>=2", "pyyaml", "slowapi>=0.1.9", "uvicorn>=0.20"),
                ),
                ("--no-deps", *_ANY_PYTHON, "--target", "{site}", "nvidia-resiliency-ext==0.7.0"),
            ),
            module="nvidia_resiliency_ext.fault_tolerance",
        ),
        Environment(
            name="dlrover",
            # Its local master needs what belongs to Kubernetes, and two packages that nobody declares; torch 2.13 wants
            # one argument more.
            packages=(("dlrover[k8s]==0.6.1", "grpcio", "protobuf"),),
            patch=(
                "dlrover/trainer/torch/elastic_run.py",
                'SubprocessHandler(cmd, args, {}, "", "", 0)',
                'SubprocessHandler(cmd, args, {}, "", "", 0, None)',
            ),
            module="dlrover.python.master.local_master",
        ),
        Environment(name="torchft", packages=(("torchft-nightly==2026.10.26",),), module="torchft"),
    )
}


def prepare(environment: Environment) -> str:
    """Make it, unless it was made; a sentence saying why it cannot be used, empty when it can."""
    recipe = repr(environment)
    ready = environment.folder / "ready"
    if ready.exists() and ready.read_text() == recipe:
        return ""
    print(f"setting up {environment.folder.relative_to(ROOT)} (minutes, once)", flush=True)
    python = environment.program("python")
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "-q"]
    why = _failed([sys.executable, "-m", "venv", str(environment.folder)])
    why = why or _failed([*pip, TORCH, "numpy"])
    if why:
        return why
    site = _site(python)
    for words in environment.packages:
        why = why or _failed([*pip, *(word.format(site=site) for word in words)])
    why = why or _patched(site, environment.patch) or _failed([python, "-c", f"import {environment.module}"])
    if not why:
        ready.write_text(recipe)
    return why


def _site(python: str) -> str:
    said = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    return subprocess.run([python, "-c", said], capture_output=True, text=True, check=True).stdout.strip()


def _patched(site: str, patch: tuple[str, str, str] | None) -> str:
    if patch is None:
        return ""
    name, old, new = patch
    file = Path(site, name)
    text = file.read_text()
    if new not in text and old not in text:
        return f"{name} holds nothing like {old}"
    file.write_text(text if new in text else text.replace(old, new))
    return ""


def _failed(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)[-SAID_CHARACTERS:]
    return "" if done.returncode == 0 else " ".join(done.stderr.split())[-SAID_CHARACTERS:]
