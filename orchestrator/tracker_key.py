"""Is there a key for W&B, and where? It is only looked for here, never handed on: the client reads it by itself."""

from __future__ import annotations

import netrc
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

CLOUD = "https://api.wandb.ai"
KEPT = frozenset(
    "WANDB_API_KEY WANDB_IDENTITY_TOKEN_FILE WANDB_BASE_URL WANDB_MODE WANDB_ENTITY WANDB_CONFIG_DIR WANDB_CACHE_DIR"  # noqa: SIM905
    " WANDB_INSECURE_DISABLE_SSL WANDB__EXTRA_HTTP_HEADERS".split()
)
"""of W&B's own variables those that say how to reach it; others say which run, and are the user's own"""


def server(base_url: str | None, environ: Mapping[str, str]) -> str:
    """The address of the server."""
    return (base_url or environ.get("WANDB_BASE_URL") or CLOUD).rstrip("/")


def found_in(url: str, environ: Mapping[str, str]) -> str:
    """Where the key for a server stands; empty: nowhere."""
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"):
        if environ.get(name):
            return name
    path = Path(environ.get("NETRC") or Path(environ.get("HOME") or Path.home()) / ".netrc")
    try:
        known = netrc.netrc(str(path)).authenticators(urlsplit(url).hostname or "")
    except (OSError, netrc.NetrcParseError):
        return ""
    return str(path) if known and known[2] else ""


def mode(asked: str, url: str, environ: Mapping[str, str]) -> str:
    """`online`, `offline` or `disabled`, as the spec says, or the environment, or else as there is a key or none."""
    if asked != "auto":
        return asked
    said = environ.get("WANDB_MODE", "")
    if said in ("online", "offline", "disabled"):
        return said
    return "online" if found_in(url, environ) else "offline"


def unreachable(url: str, within_s: float = 3.0) -> str:
    """Why a server does not answer; empty when it does, whatever it says. No key is shown to it."""
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=within_s):
            return ""
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code}" if error.code >= 500 else ""
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", "") or error)


def cleaned(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a client of ours: no run, name or service of somebody else's in it."""
    return {name: value for name, value in environ.items() if not name.startswith("WANDB_") or name in KEPT}
