"""Which files are the pages? Those of `orchestrator/dashboard/`, read once: nothing else can be asked for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "dashboard"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
}
BYTES_MOST = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file as it is answered."""

    body: bytes
    media_type: str
    etag: str


class Files:
    """The pages and what they need, by the path below the folder."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder
        self._known: dict[str, tuple[tuple[int, int], File]] = {}

    def find(self, path: str) -> File | None:
        """The file of that path; None: there is none, or it is of a kind that is not shown."""
        found = self._names().get(path)
        if found is None:
            return None
        stat = found.stat()
        mark = (stat.st_mtime_ns, stat.st_size)
        known = self._known.get(path)
        if known is None or known[0] != mark:
            body = found.read_bytes()[:BYTES_MOST]
            etag = f'"{blake2b(body, digest_size=12).hexdigest()}"'
            known = (mark, File(body=body, media_type=TYPES[found.suffix], etag=etag))
            self._known[path] = known
        return known[1]

    def _names(self) -> dict[str, Path]:
        """What can be asked for is listed first: a path is looked up among these, and never joined to a folder."""
        found: dict[str, Path] = {}
        for folder, folders, names in os.walk(self._folder, followlinks=False):
            folders[:] = [name for name in folders if not name.startswith((".", "__"))]
            for name in names:
                path = Path(folder, name)
                if path.suffix in TYPES and not name.startswith(".") and path.is_file() and not path.is_symlink():
                    found[path.relative_to(self._folder).as_posix()] = path
        return found
