"""Where does lastgood keep its state? One folder, readable by its owner alone; the paths are in ARCHITECTURE.md."""

from __future__ import annotations

import json
import os
import secrets
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from jobs import registry

VARIABLE = "LASTGOOD_HOME"


class HomeError(Exception):
    """The state folder cannot be used. The text says why and what repairs it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the supervisor listens: the content of `supervisor.json`."""

    host: str
    port: int
    pid: int
    started_at: float
    version: str


@dataclass(frozen=True, slots=True)
class Home:
    """The state folder."""

    root: Path

    @property
    def journal(self) -> Path:
        """Everything decided, of every run."""
        return self.root / "journal.db"

    @property
    def log(self) -> Path:
        """What the supervisor says."""
        return self.root / "supervisor.log"

    @property
    def off(self) -> Path:
        """While this file is there no agent starts the supervisor anew: a person ended it."""
        return self.root / "supervisor.off"

    def run(self, run: str) -> Path:
        """The folder of a run."""
        return self.root / "runs" / run

    def attempt(self, run: str, attempt: int) -> Path:
        """The folder of one attempt."""
        return registry.attempt_folder(self.root, run, attempt)

    def create(self) -> None:
        """Make the folder and the token where they are missing. Raises HomeError when the folder is not private."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.check()
            (self.root / "runs").mkdir(exist_ok=True)
            self._create_token()
        except OSError as error:
            raise HomeError(
                f"{self.root}: cannot be used: {error.strerror}; set {VARIABLE} to another folder"
            ) from None

    def check(self) -> None:
        """Raises HomeError unless the folder is this user's own and closed to all others."""
        try:
            found = self.root.stat()
        except FileNotFoundError:
            raise HomeError(f"{self.root}: no such folder: nothing was submitted from it yet") from None
        except OSError as error:
            raise HomeError(f"{self.root}: cannot be read: {error.strerror}") from None
        if not stat.S_ISDIR(found.st_mode):
            raise HomeError(f"{self.root}: is not a folder; set {VARIABLE} to one")
        if found.st_uid != os.geteuid():
            raise HomeError(f"{self.root}: belongs to user {found.st_uid}, you are user {os.geteuid()}; set {VARIABLE}")
        if found.st_mode & 0o077:
            mode = stat.S_IMODE(found.st_mode)
            raise HomeError(
                f"{self.root}: others may enter it (mode {mode:04o}), and it holds a key: chmod 700 {self.root}"
            )

    def token(self) -> str:
        """What proves to the supervisor that one may read this folder. Raises HomeError."""
        try:
            return (self.root / "token").read_text().strip()
        except OSError as error:
            raise HomeError(f"{self.root / 'token'}: cannot be read: {error.strerror}") from None

    def address(self) -> Address | None:
        """Where the supervisor said that it listens; None when it never did. It may be gone since."""
        try:
            return Address(**json.loads((self.root / "supervisor.json").read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def _create_token(self) -> None:
        path = self.root / "token"
        if path.exists():
            return
        # Written aside and linked, so that two who begin at once agree on one, and nobody reads half of it.
        draft = self.root / f".token.{os.getpid()}.{secrets.token_hex(4)}"
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32) + "\n")
        with suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()


def default() -> Home:
    """The home of this user: $LASTGOOD_HOME, or ~/.lastgood."""
    named = os.environ.get(VARIABLE)
    return Home(Path(named).expanduser().absolute() if named else Path.home() / ".lastgood")
