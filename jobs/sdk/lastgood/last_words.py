"""What does a rank leave behind when its world ended for it? Why, and what it waited for, in its folder."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

from lastgood import failure, recorder


def leave(error: BaseException, folder: str | None) -> None:
    """Write it down, and print it as Python does; with no folder it is printed only."""
    error.__traceback__ = failure.users_part(error.__traceback__)
    if folder is not None:
        with suppress(OSError):  # a full disk: that it failed is told all the same
            failure.write(failure.of(error), folder)
            recorder.leave(Path(folder), error)
    # The hook that is installed now: Python's own prints, a user's may do more.
    sys.excepthook(type(error), error, error.__traceback__)
