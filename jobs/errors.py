"""Whose fault is it? The user's is a `SpecError`, the world's becomes an event, ours is an assertion."""

from __future__ import annotations


class SpecError(Exception):
    """The spec, or what was said on the command line about it, is wrong: exit status 2, no traceback.

    Each problem is one sentence that begins with where it is: `run.yaml:7: checkpoint.evry_steps: unknown key`.
    """

    def __init__(self, *problems: str) -> None:
        assert problems, "an error without a problem"
        super().__init__("\n".join(problems))
        self.problems = problems
