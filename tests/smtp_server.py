"""A mail server on this machine, that speaks as much SMTP (RFC 5321) as a client that hands mail in.

It can be away, slow, refuse a recipient, ask for a password, and not know STARTTLS.
"""

import base64
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage


@dataclass
class Mail:
    """One that was taken: the envelope, and the bytes as they came."""

    sender: str
    recipients: list[str]
    data: bytes
    signed_in: str | None

    @property
    def message(self) -> EmailMessage:
        parsed = message_from_bytes(self.data, policy=policy.default)
        assert isinstance(parsed, EmailMessage)
        return parsed


@dataclass
class MailServer:
    """What it took and how it behaves."""

    port: int = 0
    mails: list[Mail] = field(default_factory=list)
    connections: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    """Recipient -> the answer it gets."""
    answer_to_data: str | None = None
    password: tuple[str, str] | None = None
    pause_s: float = 0.0
    """Before each answer."""

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"


class _Session(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        about: MailServer = self.server.about  # type: ignore[attr-defined]
        about.connections += 1
        sender, signed_in = "", None
        recipients: list[str] = []
        self._say(about, "220 mail.lab.example ESMTP")
        while line := self.rfile.readline():
            words = line.decode().strip()
            verb = words.split(" ")[0].upper()
            if verb in ("EHLO", "HELO"):
                self._say(about, "250-mail.lab.example\r\n250-AUTH PLAIN\r\n250 8BITMIME")
            elif verb == "AUTH":
                _, user, password = base64.b64decode(words.split(" ")[2]).decode().split("\0")
                if about.password is not None and (user, password) != about.password:
                    self._say(about, "535 5.7.8 wrong")
                    continue
                signed_in = user
                self._say(about, "235 2.7.0 welcome")
            elif verb == "MAIL":
                if about.password is not None and signed_in is None:
                    self._say(about, "530 5.7.0 who are you")
                    continue
                sender, recipients = words[words.index("<") + 1 : words.index(">")], []
                self._say(about, "250 OK")
            elif verb == "RCPT":
                recipient = words[words.index("<") + 1 : words.index(">")]
                if recipient in about.refused:
                    self._say(about, about.refused[recipient])
                    continue
                recipients.append(recipient)
                self._say(about, "250 OK")
            elif verb == "DATA":
                self._say(about, "354 go on")
                data = b""
                while (part := self.rfile.readline()) != b".\r\n":
                    data += part[1:] if part.startswith(b".") else part
                if about.answer_to_data is not None:
                    self._say(about, about.answer_to_data)
                    continue
                about.mails.append(Mail(sender, recipients, data, signed_in))
                self._say(about, "250 taken")
            elif verb == "RSET":
                self._say(about, "250 OK")
            elif verb == "QUIT":
                self._say(about, "221 bye")
                return
            else:
                self._say(about, "502 not here")

    def _say(self, about: MailServer, answer: str) -> None:
        time.sleep(about.pause_s)
        self.wfile.write(answer.encode() + b"\r\n")


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


@contextmanager
def mail_server(port: int = 0) -> Iterator[MailServer]:
    """One that runs until the block ends; at a port of its own unless one is given."""
    about = MailServer()
    with _Server(("127.0.0.1", port), _Session) as server:
        server.about = about  # type: ignore[attr-defined]
        about.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield about
        finally:
            server.shutdown()
            thread.join()
