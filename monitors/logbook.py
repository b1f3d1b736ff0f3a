"""How do our own processes write down what they do? As text, or with LASTGOOD_LOG=json for machines.

Then each line is one JSON object with the names of OpenTelemetry's log data model, so that a collector takes it as it
is: timestamp, severity_text, severity_number, body, attributes, resource, instrumentation_scope.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any

VARIABLE = "LASTGOOD_LOG"
TEXT = "%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s"
SEVERITIES = {
    logging.DEBUG: ("DEBUG", 5),
    logging.INFO: ("INFO", 9),
    logging.WARNING: ("WARN", 13),
    logging.ERROR: ("ERROR", 17),
    logging.CRITICAL: ("FATAL", 21),
}
"""OpenTelemetry's names and numbers"""
PLACES = ("run", "attempt", "world", "node", "rank")
"""attributes: those of the process, and what a record says of itself in `extra`"""

log = logging.getLogger(__name__)


def begin(service: str, *, file: Path | None = None, **places: str | int) -> None:
    """Write logs from here on: into a file, or to stderr; `places` are true of the whole process.

    In JSON, what ends the process with an exception, and what Python warns of, is a line like all others.
    """
    handler = logging.FileHandler(file) if file is not None else logging.StreamHandler(sys.stderr)
    asked = os.environ.get(VARIABLE, "")
    if asked == "json":
        handler.setFormatter(Lines(service, places))
        logging.captureWarnings(True)
        sys.excepthook = _uncaught
    else:
        handler.setFormatter(logging.Formatter(TEXT, datefmt="%Y-%m-%dT%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    if asked not in ("", "text", "json"):
        log.warning("%s=%s is neither text nor json: this is text", VARIABLE, asked)


def _uncaught(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
    log.critical("the process ends: %s", error or kind.__name__, exc_info=(kind, error, at))


class Lines(logging.Formatter):
    """One record, one line, one object."""

    def __init__(self, service: str, places: Mapping[str, str | int]) -> None:
        super().__init__()
        self._places = dict(places)
        self._resource = {
            "service.name": service,
            "service.version": metadata.version("lastgood"),
            "host.name": socket.gethostname(),
            "process.pid": os.getpid(),
        }

    def format(self, record: logging.LogRecord) -> str:
        """The line. Total: what cannot be put into JSON is put into words."""
        text, number = SEVERITIES.get(record.levelno, (record.levelname, max(1, min(24, record.levelno // 10 * 4 + 1))))
        said = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "severity_text": text,
            "severity_number": number,
            "body": record.getMessage(),
            "attributes": self._places | self._of(record) | _exception(record),
            "resource": self._resource,
            "instrumentation_scope": {"name": record.name},
        }
        return json.dumps(said, default=str)

    @staticmethod
    def _of(record: logging.LogRecord) -> dict[str, Any]:
        return {name: value for name in PLACES if (value := getattr(record, name, None)) is not None}


def _exception(record: logging.LogRecord) -> dict[str, str]:
    """Under the names of OpenTelemetry's semantic conventions."""
    if not record.exc_info or record.exc_info[0] is None:
        return {}
    kind, error, _ = record.exc_info
    return {
        "exception.type": kind.__qualname__,
        "exception.message": str(error),
        "exception.stacktrace": "".join(traceback.format_exception(*record.exc_info)),
    }
