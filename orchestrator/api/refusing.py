"""How is a request refused? A status, a word for programs, a sentence for people."""

from __future__ import annotations

import json

from starlette.responses import Response

from orchestrator.contract import SCHEMA


class Refused(Exception):
    """What was asked is not answered; the text is for whoever asked."""

    def __init__(self, status: int, code: str, text: str, retry_s: float | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.code = code
        self.retry_s = retry_s


def refusal(error: Refused) -> Response:
    """The answer."""
    body = {"schema": SCHEMA, "error": str(error), "code": error.code}
    headers = {} if error.retry_s is None else {"retry-after": str(max(1, round(error.retry_s + 0.5)))}
    text = json.dumps(body).encode()
    return Response(text, error.status, headers=headers, media_type="application/json")
