"""How does a person see what `lastgood` is for, before trusting it with anything? The demo, as a command."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option("--fault", help="One fault of a GPU that is made up, such as xid79; without it, the eight of the demo.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where everything goes; must not exist yet.")
def demo(fault: str | None, folder: Path | None) -> int:
    """Train a small GPT on two CPU ranks while faults are injected, in a state folder of its own."""
    from orchestrator.demo import gpu_faults, main

    if fault is not None and fault not in gpu_faults():
        raise click.UsageError(f"no fault '{fault}'; there are: {', '.join(gpu_faults())}")
    if folder is not None and folder.exists():
        raise click.UsageError(f"{folder} is there already: name a folder that is not")
    words = ["--fault", fault] if fault is not None else []
    return main([*words, *(["--folder", str(folder)] if folder is not None else [])])
