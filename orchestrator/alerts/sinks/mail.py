"""How does it read as mail? Plain text; one thread by References, and a Message-ID that is the same when sent again."""

from __future__ import annotations

import hashlib
import smtplib
import ssl
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from zoneinfo import ZoneInfo

from orchestrator.alerts.config import Smtp
from orchestrator.alerts.message import RANK, Message
from orchestrator.alerts.sinks import plain
from orchestrator.alerts.sinks.failing import Refused, SendFailed
from orchestrator.alerts.wording import inert
from orchestrator.core.policy import Severity

TIMEOUT_S = 15.0
SUBJECT_MOST = 180


class MailSink:
    """One relay, one sender, some who are told."""

    refreshes_s = None

    def __init__(self, spec: Smtp, zone: ZoneInfo) -> None:
        self._spec = spec
        self._zone = zone

    def send(self, message: Message, ref: str) -> str:
        """One mail. `ref` is the Message-ID of the thread's first."""
        mail = self._mail(message, ref)
        try:
            with self._connected() as server:
                lost = server.send_message(mail)
        except smtplib.SMTPRecipientsRefused as error:
            raise _failure(*next(iter(error.recipients.values()))) from None
        except smtplib.SMTPResponseException as error:
            raise _failure(error.smtp_code, error.smtp_error) from None
        except smtplib.SMTPNotSupportedError as error:
            raise SendFailed(f"{self._spec.host}: {error}") from None
        except (OSError, smtplib.SMTPException) as error:
            raise SendFailed(f"{self._spec.host}: {type(error).__name__}: {error}") from None
        if lost:  # the others have it: sending it again would only repeat it to them
            raise Refused(f"not taken for {', '.join(lost)}")
        return ref or str(mail["Message-ID"])

    def _mail(self, message: Message, ref: str) -> EmailMessage:
        mail = EmailMessage()
        mail["Subject"] = inert(plain.headline(message).replace("\n", " "), SUBJECT_MOST)
        mail["From"] = self._spec.sender
        mail["To"] = ", ".join(self._spec.to)
        mail["Date"] = format_datetime(datetime.fromtimestamp(message.at, UTC))
        mail["Message-ID"] = f"<{hashlib.sha256(message.key.encode()).hexdigest()[:32]}@lastgood.invalid>"
        mail["Auto-Submitted"] = "auto-generated"
        if RANK[message.severity] >= RANK[Severity.CRITICAL]:
            mail["Importance"] = "high"
        if ref:
            mail["In-Reply-To"] = mail["References"] = ref
        mail.set_content(plain.text(message, self._zone))
        return mail

    def _connected(self) -> smtplib.SMTP:
        spec = self._spec
        context = ssl.create_default_context(cafile=spec.ca)
        server: smtplib.SMTP
        if spec.tls == "tls":
            server = smtplib.SMTP_SSL(spec.host, spec.port, timeout=TIMEOUT_S, context=context)
        else:
            server = smtplib.SMTP(spec.host, spec.port, timeout=TIMEOUT_S)
        try:
            if spec.tls == "starttls":
                server.starttls(context=context)
            if spec.user is not None and spec.password is not None:
                server.login(spec.user, spec.password.get_secret_value())
        except BaseException:
            server.close()
            raise
        return server


def _failure(code: int, said: bytes | str) -> SendFailed:
    """Codes from 500 on are final, but for those about who we are: 530, 534, 535, 538."""
    words = said.decode(errors="replace") if isinstance(said, bytes) else said
    final = 500 <= code < 600 and code not in (530, 534, 535, 538)
    return (Refused if final else SendFailed)(f"it answered {code}: {words}")
