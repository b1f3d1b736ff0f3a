"""What is there to come back to? Checkpoints with their states, and reading them back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from orchestrator.cli.outcome import Exit, Refusal
from orchestrator.cli.runs import find, json_option, print_answer, run_argument
from orchestrator.cli.steering import ordered, refused_beforehand


@click.group()
def ckpt() -> None:
    """List checkpoints, read them back, or keep one for good."""


@ckpt.command("ls")
@run_argument
@json_option
def ckpt_ls(run: str, as_json: bool) -> None:
    """List the checkpoints of a run, oldest first."""
    from orchestrator import contract
    from orchestrator.cli.text import day, print_json, print_table, size

    root, found = find(run)
    answer = contract.checkpoints(root, found)
    if as_json:
        return print_json(answer)
    if not answer["checkpoints"]:
        return click.echo(f"{found} has no checkpoint yet", err=True)
    return print_table(
        ("NAME", "STEP", "STATE", "PINNED", "SIZE", "TIER", "SAVED", "PATH"),
        [
            (
                one["name"],
                one["step"],
                one["state"],
                "pinned" if one["pinned"] else "",
                size(one["bytes"]),
                one["tier"],
                day(one["saved_at"]),
                one["path"],
            )
            for one in answer["checkpoints"]
        ],
    )


@ckpt.command("verify")
@run_argument
@click.argument("names", metavar="[CHECKPOINT...]", nargs=-1)
@json_option
def ckpt_verify(run: str, names: tuple[str, ...], as_json: bool) -> int:
    """Read checkpoints back and compare every byte with the manifest; all of them when none is named.

    Ends with 1 when one does not match or cannot be read; one that the run deleted meanwhile is no damage. It only
    reads: what the supervisor knows does not change.
    """
    from orchestrator import contract
    from orchestrator.cli.text import print_json, print_table

    root, found = find(run)
    known = contract.checkpoints(root, found)["checkpoints"]
    unknown = set(names) - {one["name"] for one in known}
    if unknown:
        there = ", ".join(one["name"] for one in known) or "none"
        raise Refusal(f"{found} has no checkpoint {', '.join(sorted(unknown))}; there is: {there}", Exit.NOT_FOUND)
    rows = [
        _read_back(one, partial(_deleted, root, found, one["name"]))
        for one in known
        if not names or one["name"] in names
    ]
    if as_json:
        print_json({"schema": contract.SCHEMA, "run": found, "checkpoints": rows})
    else:
        print_table(
            ("NAME", "STEP", "READ BACK", "WHY"), [(r["name"], r["step"], r["verdict"], r["why"]) for r in rows]
        )
    return Exit.SUCCEEDED if all(row["why"] is None for row in rows) else Exit.TOOL


def _read_back(one: dict[str, Any], deleted: Callable[[], bool]) -> dict[str, Any]:
    """The verdict about one; `deleted` is asked after a mismatch: retention may have been faster than we read."""
    click.echo(f"reading {one['path']} ...", err=True)
    # The same program that the supervisor runs, and as it does: in a process of its own, of low priority.
    command = [sys.executable, "-P", "-m", "jobs.checkpoint.verify", one["path"], "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0 and deleted():
        return {"name": one["name"], "step": one["step"], "verdict": "deleted", "why": None}
    verdict, why = ("matches", None) if done.returncode == 0 else _finding(done)
    return {"name": one["name"], "step": one["step"], "verdict": verdict, "why": why}


def _deleted(root: Path, run: str, name: str) -> bool:
    """The run's journal gave it up since it was listed, or ordered that just now."""
    from orchestrator import contract

    events = contract.events(root, run)["events"]
    ordered = (action for event in events for action in event["actions"] if action["is"] == "DeleteCheckpoint")
    return any(action["checkpoint"] == name for action in ordered)


def _finding(done: subprocess.CompletedProcess[str]) -> tuple[str, str]:
    """Verdict and why; a verifier that came to none, whatever it died of, shows no damage."""
    from jobs.checkpoint.verify import DAMAGED, finding

    why = finding(done.stdout)
    if why is None:
        return "unreadable", done.stderr.strip()[-300:] or "the verifier failed without a word"
    return "damaged" if done.returncode == DAMAGED else "unreadable", why


@ckpt.command("pin")
@run_argument
@click.argument("name", metavar="CHECKPOINT")
@json_option
def ckpt_pin(run: str, name: str, as_json: bool) -> None:
    """Keep a checkpoint for good: retention does not delete it, whatever is saved after it."""
    _pin(run, name, True, as_json)


@ckpt.command("unpin")
@run_argument
@click.argument("name", metavar="CHECKPOINT")
@json_option
def ckpt_unpin(run: str, name: str, as_json: bool) -> None:
    """Keep a checkpoint as long as others, no longer."""
    _pin(run, name, False, as_json)


def _pin(run: str, name: str, pinned: bool, as_json: bool) -> None:
    from orchestrator import refusals

    root, found = find(run)
    refused_beforehand(root, found, lambda state: refusals.refuse_pin(state, name, pinned))
    ordered(root, {"ask": "pin", "run": found, "checkpoint": name, "pinned": pinned})
    if as_json:
        return print_answer(run=found, checkpoint=name, pinned=pinned)
    return click.echo(f"{found}: {name} is {'kept for good' if pinned else 'kept as long as others'}")
