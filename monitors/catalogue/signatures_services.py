"""What do the services that a program fetches from print: hubs of models, object stores, trackers?

They are far away and busy with others, so most of their failures pass; what they refuse to this user does not.
"""

from __future__ import annotations

from monitors.catalogue.signature import Next, innocent, root

SERVICES = (
    *innocent(
        "Retrying (Retry(total=",
        "Retrying in … [Retry",
        "will be retried",
        "entering retry loop",
    ),
    *root(
        "permission",
        Next.CONFIG,
        "NoCredentialsError",
        "Unable to locate credentials",
        "PartialCredentialsError",
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "ExpiredToken",
        "DefaultCredentialsError",
    ),
    *root(
        "net_connect",
        Next.SAME,
        "ConnectionPool(host= … timed out",
        "ConnectionPool(host= … Max retries exceeded",
        "Read timed out. (read timeout=",
        "Read timeout on endpoint URL",
        "Connect timeout on endpoint URL",
        "Could not connect to the endpoint URL",
        "We couldn't connect to",
        "LocalEntryNotFoundError",
        "Cannot connect to host",
        "('Connection aborted.'",
        "Remote end closed connection without response",
        "Server disconnected without sending a response",
        "peer closed connection without sending complete message body",
        "ConnectionBroken",
        "IncompleteRead(",
        "500 Server Error",
        "502 Server Error",
        "503 Server Error",
        "504 Server Error",
        "429 Client Error",
        "Too Many Requests",
        "reduce your request rate",
        "(SlowDown)",
        "(reached max retries",
        "(InternalError) when calling the",
        "(ServiceUnavailable) when calling the",
        "exceptions.ConnectTimeout",
        "exceptions.ReadTimeout",
        "httpx.ConnectTimeout",
        "httpx.ReadTimeout",
        "ConnectTimeoutError",
        "ReadTimeoutError",
        "SSLEOFError",
        "wandb.errors … timed out",
        "CommError",
    ),
)
