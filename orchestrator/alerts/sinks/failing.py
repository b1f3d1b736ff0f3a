"""Why did a message not arrive, and is it worth another try?"""

from __future__ import annotations


class SendFailed(Exception):
    """It did not arrive, as far as is known; it is tried again."""

    def __init__(self, why: str, *, after_s: float | None = None) -> None:
        super().__init__(why)
        self.after_s = after_s
        """the service said not to come earlier"""


class Refused(SendFailed):
    """The service says that there is something wrong with the message itself: the same again would be refused again."""
