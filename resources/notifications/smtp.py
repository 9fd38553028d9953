"""Messages by e-mail, through the mail server that ``TAILOR_SMTP_URL`` names."""

import os
import re
import smtplib
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from urllib.parse import parse_qs, unquote, urlsplit

from resources.notifications.delivery import NotDelivered, Undeliverable
from resources.notifications.plain_text import one_line
from tailor_assets.compute.errors import PermanentProblem

URL_VARIABLE = "TAILOR_SMTP_URL"
FROM_VARIABLE = "TAILOR_SMTP_FROM"

# Of each answer that is waited for.
_TIMEOUT_S = 10
_LONGEST_SUBJECT = 200
_LOCAL = ("127.0.0.1", "localhost", "::1")
# Enough for addresses as people have them, and nothing that means something in a header.
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,253}")


def check_address(address: str, where: str = "That") -> str:
    """The address. Raises PermanentProblem for what is none."""
    if not _ADDRESS.fullmatch(address) or ".." in address:
        raise PermanentProblem(
            f"{where} is not an e-mail address ({address!r}): give one like anna@lab.example."
        )
    return address


@dataclass(frozen=True)
class MailServer:
    """Where mail is handed in, and in whose name. ``security``: of the connection."""

    host: str
    port: int
    security: str
    user: str
    password: str
    sender: str

    def __repr__(self) -> str:
        return f"MailServer({self.host}:{self.port})"


def is_configured() -> bool:
    """Whether a mail server is named."""
    return bool(os.environ.get(URL_VARIABLE, "").strip())


def mail_server() -> MailServer:
    """The environment's. Raises PermanentProblem for what is none, without repeating a password."""
    wrong = (
        f"{URL_VARIABLE} names no mail server: write it as "
        "smtp://user:password@host:587?starttls=1 or smtps://user:password@host"
    )
    try:
        parts = urlsplit(os.environ.get(URL_VARIABLE, "").strip())
        port = parts.port
    except ValueError:
        raise PermanentProblem(f"{wrong}.") from None
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
        raise PermanentProblem(f"{wrong}.")
    starttls = parse_qs(parts.query).get("starttls", ["0"])[-1] == "1"
    security = "tls" if parts.scheme == "smtps" else "starttls" if starttls else "none"
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if not (user + password).isascii():
        # Python's smtplib signs in with nothing else.
        raise PermanentProblem(
            f"{URL_VARIABLE} has a user or password with letters beyond ASCII: give tailor one without."
        )
    if user and security == "none" and parts.hostname not in _LOCAL:
        raise PermanentProblem(
            f"{URL_VARIABLE} would send its password over the network for everybody to read: add "
            "?starttls=1, or write smtps://."
        )
    sender = os.environ.get(FROM_VARIABLE, "").strip() or (user if "@" in user else "")
    if not sender:
        raise PermanentProblem(
            f"{FROM_VARIABLE} is not set: give the address that tailor's mail is from."
        )
    return MailServer(
        host=parts.hostname,
        port=port or {"tls": 465, "starttls": 587, "none": 25}[security],
        security=security,
        user=user,
        password=password,
        sender=check_address(sender, FROM_VARIABLE),
    )


def compose(
    sender: str, recipients: Sequence[str], *, name: str, subject: str, body: str, date: datetime
) -> EmailMessage:
    """A message of plain text.

    ``name`` is what tells it from every other: its Message-ID is made of it, so that a mail program
    shows a message that was sent twice once.
    """
    message = EmailMessage(policy=SMTP)
    message["From"] = Address("tailor", addr_spec=sender)
    message["To"] = ", ".join(recipients)
    message["Subject"] = one_line(subject, _LONGEST_SUBJECT)
    message["Date"] = format_datetime(date)
    message["Message-ID"] = f"<{name}@{sender.partition('@')[2]}>"
    # No out-of-office replies, please (RFC 3834).
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(body)
    return message


def send_mail(server: MailServer, message: EmailMessage, recipients: Sequence[str]) -> str | None:
    """Hand one message in; returns whom the server did not take it for, where it took it for others.

    Raises NotDelivered where it may work later, Undeliverable where it will not.
    """
    try:
        return _send(server, message, recipients)
    except smtplib.SMTPRecipientsRefused as refused:
        answers = refused.recipients
        problem = f"The mail server refuses {_refusals(answers)}."
        if all(500 <= code < 600 for code, _ in answers.values()):
            raise Undeliverable(problem) from None
        raise NotDelivered(problem) from None
    except smtplib.SMTPDataError as error:
        problem = f"The mail server does not take the message ({_answer(error)})."
        if 500 <= error.smtp_code < 600:
            raise Undeliverable(problem) from None
        raise NotDelivered(problem) from None
    except smtplib.SMTPResponseException as error:
        # Greeting, sign-in or sender refused: not this message's fault.
        raise NotDelivered(
            f"The mail server {server.host} refuses ({_answer(error)}); check {URL_VARIABLE} and "
            f"{FROM_VARIABLE}.",
            server=True,
        ) from None
    except (OSError, smtplib.SMTPException, ValueError) as error:
        reason = one_line(str(error), 200) or type(error).__name__
        raise NotDelivered(
            f"The mail server {server.host}:{server.port} cannot be used ({reason}).", server=True
        ) from None


def _send(server: MailServer, message: EmailMessage, recipients: Sequence[str]) -> str | None:
    if server.security == "tls":
        link: smtplib.SMTP = smtplib.SMTP_SSL(
            server.host, server.port, timeout=_TIMEOUT_S, context=ssl.create_default_context()
        )
    else:
        link = smtplib.SMTP(server.host, server.port, timeout=_TIMEOUT_S)
    try:
        if server.security == "starttls":
            link.starttls(context=ssl.create_default_context())
        if server.user:
            link.login(server.user, server.password)
        refused = link.sendmail(server.sender, list(recipients), message.as_bytes())
    except BaseException:
        link.close()
        raise
    with suppress(OSError, smtplib.SMTPException):
        link.quit()  # it has the message already
    return f"Not for everybody: {_refusals(refused)}." if refused else None


def _refusals(answers: dict[str, tuple[int, bytes]]) -> str:
    return ", ".join(
        one_line(f"{address} ({code} {text.decode(errors='replace')})", 200)
        for address, (code, text) in answers.items()
    )


def _answer(error: smtplib.SMTPResponseException) -> str:
    text = error.smtp_error
    words = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
    return one_line(f"{error.smtp_code} {words}", 200)
