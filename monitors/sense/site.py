"""What does this site want lines of the kernel, and Xids, to mean? The catalogue, with the changes of its file."""

from __future__ import annotations

from pathlib import Path

from monitors.catalogue.kernel import Catalogue


def catalogue(overrides: Path | None) -> Catalogue:
    """The catalogue of this node; `overrides` is JSON (`Catalogue.with_overrides`), None where nothing is changed.

    Raises ValueError that names what is wrong in it, and OSError when it cannot be read.
    """
    known = Catalogue()
    return known if overrides is None else known.with_overrides(overrides.read_text())
