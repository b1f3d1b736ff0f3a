"""How is the dashboard served without a supervisor? `python -P -m orchestrator.api --home HOME`, until Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from pathlib import Path

from orchestrator.api.companion import Unwilling, serve
from orchestrator.api.tokens import TokenError
from orchestrator.api.wish import Wish
from orchestrator.home import Home, HomeError


def main(argv: list[str] | None = None) -> int:
    """Serve a state folder."""
    parser = argparse.ArgumentParser(prog="python -m orchestrator.api")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int)
    parser.add_argument("--name", dest="names", action="append", default=[], help="a host that browsers call it by")
    asked = parser.parse_args(argv)
    home = Home(asked.home.absolute())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        home.check()
        asyncio.run(serve(home, Wish(host=asked.host, port=asked.port, names=tuple(asked.names))))
    except (HomeError, Unwilling, TokenError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
