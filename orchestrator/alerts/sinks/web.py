"""What does a service answer to a POST? Bounded in time and size, without following it elsewhere."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from monitors.clock import SystemClock
from orchestrator.alerts.sinks.failing import Refused, SendFailed

TIMEOUT_S = 10.0
"""between any two bytes; the delivery has a deadline of its own for the whole"""
ANSWER_MOST = 65536
NOT_ITS_FAULT = frozenset({401, 403, 404, 407, 408, 425, 429})
"""what may be right again tomorrow with the same message: a key that is replaced, a service that is set up"""


class _Stays(urllib.request.HTTPRedirectHandler):
    """A redirection would carry a key elsewhere, and turn POST into GET."""

    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Of a service that took the message."""

    status: int
    body: bytes

    def json(self) -> Any:
        """The body, or nothing of use when it is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


def post(url: str, body: Any, headers: Mapping[str, str] | None = None) -> Answer:
    """POST JSON (or bytes that are). Raises SendFailed unless the answer is 2xx; its text never has the address."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {"Content-Type": "application/json", "User-Agent": "lastgood", **(headers or {})}
    return _ask(urllib.request.Request(url, data=data, headers=named, method="POST"))


def get(url: str) -> Answer:
    """GET. Raises as `post` does."""
    return _ask(urllib.request.Request(url, headers={"User-Agent": "lastgood"}))


def _ask(request: urllib.request.Request) -> Answer:
    opener = urllib.request.build_opener(_Stays)
    try:
        with opener.open(request, timeout=TIMEOUT_S) as answer:
            return Answer(status=answer.status, body=answer.read(ANSWER_MOST))
    except urllib.error.HTTPError as error:
        with error:
            raise _refusal(error) from None
    except urllib.error.URLError as error:
        raise SendFailed(f"cannot be reached: {error.reason}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise SendFailed(f"cannot be reached: {type(error).__name__}: {error}") from None


def _refusal(error: urllib.error.HTTPError) -> SendFailed:
    try:
        said = error.read(500).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        said = ""
    why = f"it answered {error.code}{f': {said}' if said.strip() else ''}"
    if 400 <= error.code < 500 and error.code not in NOT_ITS_FAULT:
        return Refused(why)
    return SendFailed(why, after_s=_after_s(error.headers.get("Retry-After")))


def _after_s(text: str | None) -> float | None:
    """Of a Retry-After: seconds, or a date."""
    if text is None:
        return None
    if text.strip().isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - SystemClock().now())
    except ValueError:
        return None
