# SPDX-License-Identifier: Apache-2.0
"""The mail programs of Alice and Bob: Python's own SMTP and POP3 clients, which know nothing of posthouse.

All functions block; the story runs them in threads.
"""

from __future__ import annotations

import poplib
import smtplib
import ssl
from email import message_from_bytes, policy
from email.message import EmailMessage

TIME_LIMIT = 20.0  # seconds for each answer of a server


class LoginRefused(Exception):  # noqa: N818 - an answer
    """The server did not take name and password; the text is what it said."""


def write_letter(sender: str, recipient: str, subject: str, text: str, number: str) -> EmailMessage:
    letter = EmailMessage()
    letter["From"], letter["To"], letter["Subject"] = sender, recipient, subject
    letter["Message-ID"] = f"<{number}@{sender.partition('@')[2]}>"
    letter.set_content(text)
    return letter


def submit(port: int, password: str, letter: EmailMessage) -> str:
    """Over STARTTLS and with the password, as the sender. Returns the server's answer to the letter."""
    with smtplib.SMTP("127.0.0.1", port, timeout=TIME_LIMIT) as server:
        server.starttls(context=_context())
        server.login(letter["From"], password)
        server.mail(letter["From"])
        server.rcpt(letter["To"])
        code, said = server.data(letter.as_bytes(policy=policy.SMTP))
        answer = f"{code} {said.decode()}"
        if code != 250:
            raise smtplib.SMTPDataError(code, said)
        return answer


def read_mailbox(port: int, user: str, password: str) -> list[EmailMessage]:
    """Every letter, over TLS; nothing is removed. Raises LoginRefused."""
    box = poplib.POP3_SSL("127.0.0.1", port, timeout=TIME_LIMIT, context=_context())
    try:
        try:
            box.user(user)
            box.pass_(password)
        except poplib.error_proto as error:
            raise LoginRefused(error.args[0].decode()) from None
        count, _ = box.stat()
        return [_parsed(b"\r\n".join(box.retr(number)[1])) for number in range(1, count + 1)]
    finally:
        box.quit()


def first_text(letter: EmailMessage) -> str:
    """What a person reads of it; of a report its first part."""
    part = letter.get_body(("plain",)) or next(
        (each for each in letter.walk() if each.get_content_type() == "text/plain"), None
    )
    return str(part.get_content()).replace("\r\n", "\n").strip() if isinstance(part, EmailMessage) else ""


def _parsed(octets: bytes) -> EmailMessage:
    letter = message_from_bytes(octets, policy=policy.default)
    assert isinstance(letter, EmailMessage)
    return letter


def _context() -> ssl.SSLContext:
    """Takes the self-signed certificates that the servers made for themselves at their first start."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
