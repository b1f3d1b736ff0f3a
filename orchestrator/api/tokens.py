"""Who may look, and who may act? Tokens with a role, and the cookies of those who logged in with one.

A token is shown once, when it is made; the file has a digest of it (scrypt) and is its owner's alone. A cookie names
the token it was given for and is signed with a key of the same file: it outlives a restart of the server, and dies with
its token.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

FILE_NAME = "dashboard-tokens.json"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,39}")
COST = {"n": 2**14, "r": 8, "p": 1}
"""16 MiB and some 50 ms for a guess; a token has 256 bits, so nobody guesses one"""
SESSION_S = 7 * 86400.0
TOKEN_BYTES_MAX = 256


class Role(StrEnum):
    """What a token's holder may do."""

    VIEWER = "viewer"
    OPERATOR = "operator"


class TokenError(Exception):
    """The file of tokens, or a name in it, is not as it must be; the text says what and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One token, without its secret."""

    id: str
    name: str
    role: Role
    salt: str
    digest: str
    made_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Who:
    """Somebody who may look."""

    name: str
    role: Role
    csrf: str
    """what a page of ours sends with an action, and a page of somebody else's cannot know"""


class Tokens:
    """The tokens of one state folder; read again when the file has changed."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME
        self._seen: tuple[int, int, int] | None = None
        self._key = b""
        self._known: dict[str, Token] = {}

    def all(self) -> list[Token]:
        """Every token, oldest first. Raises TokenError."""
        self._read()
        return list(self._known.values())

    def add(self, name: str, role: Role, now: float) -> str:
        """Make a token; returns what its holder has to keep, which nobody can be told again. Raises TokenError."""
        if not NAME.fullmatch(name):
            raise TokenError(f"{name!r} is no name: 1 to 40 letters, digits and . _ @ -, a letter or digit first")
        with self._changed() as known:
            if any(token.name == name for token in known.values()):
                raise TokenError(f"there is a token {name!r}: `lastgood dashboard token rm {name}` takes it away")
            number, secret, salt = secrets.token_hex(4), secrets.token_urlsafe(32), secrets.token_hex(16)
            known[number] = Token(id=number, name=name, role=role, salt=salt, digest=_digest(secret, salt), made_at=now)
        return f"lg_{number}_{secret}"

    def remove(self, name: str) -> None:
        """Take a token away, and end every session that was begun with it. Raises TokenError."""
        with self._changed() as known:
            gone = [number for number, token in known.items() if token.name == name]
            if not gone:
                there = ", ".join(token.name for token in known.values()) or "none"
                raise TokenError(f"no token {name!r}; there is: {there}")
            del known[gone[0]]

    def login(self, said: str, now: float) -> tuple[str, Who] | None:
        """A cookie, and whose, for the right token. Takes as long for a wrong one, whatever is wrong with it."""
        self._read()
        parts = said.split("_", 2) if len(said) <= TOKEN_BYTES_MAX else []
        token = self._known.get(parts[1]) if len(parts) == 3 and parts[0] == "lg" else None
        secret, salt = (parts[2], token.salt) if token else ("", "00" * 16)
        fits = hmac.compare_digest(_digest(secret, salt), token.digest if token else _NOBODY)
        if token is None or not fits:
            return None
        payload = f"{token.id}.{int(now)}.{secrets.token_hex(8)}"
        cookie = f"{payload}.{self._sign('session', payload)}"
        return cookie, self._who(token, cookie)

    def session(self, cookie: str, now: float) -> Who | None:
        """Who holds this cookie; None when it is none of ours, too old, or of a token that is gone."""
        self._read()
        payload, _, signature = cookie[:TOKEN_BYTES_MAX].rpartition(".")
        if not self._key or not _same(signature, self._sign("session", payload)):
            return None
        number, began_at, _ = payload.split(".")
        token = self._known.get(number)
        if token is None or not 0 <= now - int(began_at) + 60 <= SESSION_S:
            return None
        return self._who(token, cookie)

    def _who(self, token: Token, cookie: str) -> Who:
        return Who(name=token.name, role=token.role, csrf=self._sign("csrf", cookie))

    def _sign(self, what: str, text: str) -> str:
        said = hmac.digest(self._key, f"{what}:{text}".encode(errors="replace"), "sha256")
        return base64.urlsafe_b64encode(said).decode().rstrip("=")

    def _read(self) -> None:
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            self._key, self._known, self._seen = b"", {}, None
            return
        mark = (found.st_mtime_ns, found.st_size, found.st_ino)
        if mark == self._seen:
            return
        if found.st_mode & 0o077:
            raise TokenError(f"{self._path}: others may read it: chmod 600 {self._path}")
        try:
            body = json.loads(self._path.read_text())
            self._key = bytes.fromhex(body["key"])
            self._known = {row["id"]: _token(row) for row in body["tokens"]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TokenError(f"{self._path}: is no file of tokens ({error}): move it away, and make new ones") from None
        self._seen = mark

    @contextmanager
    def _changed(self) -> Iterator[dict[str, Token]]:
        """The tokens, to be changed; written when nothing was raised."""
        self._read()
        known = dict(self._known)
        yield known
        body = {"key": (self._key or secrets.token_bytes(32)).hex(), "tokens": [asdict(t) for t in known.values()]}
        draft = self._path.with_name(f".{FILE_NAME}.{os.getpid()}.{secrets.token_hex(4)}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(body, file, indent=2)
        os.replace(draft, self._path)


def _token(row: dict[str, Any]) -> Token:
    return Token(**{**row, "role": Role(row["role"])})


def _digest(secret: str, salt: str) -> str:
    return hashlib.scrypt(secret.encode(errors="replace"), salt=bytes.fromhex(salt), **COST, dklen=32).hex()


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(errors="replace"), other.encode())


_NOBODY = "0" * 64
