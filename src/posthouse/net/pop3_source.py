# SPDX-License-Identifier: Apache-2.0
"""Letters from a mailbox at another server, for an import. It blocks: run it in a thread of its own.

Invariant: nothing is removed there, and no password leaves before TLS unless that is asked for.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator

from posthouse.protocol.engine import LocalProtocolError, RemoteProtocolError, Signal
from posthouse.protocol.pop3.client import Answer, Challenge, Pop3Client

SECONDS = 60.0  # until the other server must have said something
READ = 256 * 1024  # octets at a time
MAX_DIGITS = 10  # of a letter's number: servers count in 32 bits


class SourceFault(Exception):  # noqa: N818 - as StoreFault
    """The other mailbox cannot be read; the text says why, in the other server's words where it spoke."""


class Pop3Source:
    """A mailbox at another server. `tls`: "implicit", "stls" or "none". Every method raises SourceFault."""

    def __init__(self, host: str, port: int, *, tls: str, context: ssl.SSLContext) -> None:
        self._host = host
        self._context = context
        self._engine = Pop3Client()
        try:
            self._socket: socket.socket = socket.create_connection((host, port), SECONDS)
        except OSError as error:
            raise SourceFault(f"{host}:{port}: {error.strerror or error}") from None
        except ValueError:  # Python's codec for names has its own errors
            raise SourceFault(f"{host!r} is no name of a host") from None
        try:
            if tls == "implicit":
                self._secure()
            self._hear("greeting")
            if tls == "stls":
                self._engine.start_tls()
                self._hear("STLS")
        except BaseException:
            self._socket.close()
            raise

    def letters(self, user: str, password: str) -> Iterator[bytes]:
        """Log in and read every letter, oldest first, lines ending in CRLF; then leave."""
        engine = self._engine
        try:
            with self._faults():
                engine.user(user)
                self._hear("USER")
                engine.password(password)
            self._hear("the login")
            engine.sizes()
            for line in (self._hear("LIST").body or b"").splitlines():
                number = line.split(b" ", 1)[0]
                if number.isdigit() and len(number) <= MAX_DIGITS:
                    engine.retrieve(int(number))
                    yield self._hear(f"RETR {int(number)}").body or b""
                else:
                    raise SourceFault(f"{self._host} lists letters in a way that nobody understands")
            engine.quit()
            self._hear("QUIT")
        finally:
            self._socket.close()

    def _hear(self, what: str) -> Answer:
        """The answer to the last command."""
        with self._faults():
            self._flush()
            while True:
                match self._engine.next_event():
                    case Answer() as answer if answer.is_ok:
                        return answer
                    case Answer() as answer:
                        raise SourceFault(
                            f"{self._host} refuses {what}: {_shown(answer.text) or 'it does not say why'}"
                        )
                    case Signal.START_TLS:
                        self._secure()
                        self._engine.tls_started()
                        return Answer(is_ok=True, code=None, text="")
                    case Signal.CLOSE:
                        raise SourceFault(f"{self._host} closed the connection")
                    case Challenge() | Signal():
                        self._engine.receive_data(self._socket.recv(READ))

    def _flush(self) -> None:
        for piece in self._engine.data_to_send():
            self._socket.sendall(piece)

    def _secure(self) -> None:
        with self._faults():
            self._socket = self._context.wrap_socket(self._socket, server_hostname=self._host)

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except ssl.SSLCertVerificationError as error:
            raise SourceFault(f"{self._host}: its certificate is not trusted: {error.verify_message}") from None
        except TimeoutError:
            raise SourceFault(f"{self._host} did not answer within {SECONDS:.0f} seconds") from None
        except (OSError, RemoteProtocolError, LocalProtocolError) as error:
            raise SourceFault(f"{self._host}: {error}") from None


def _shown(text: str) -> str:
    """Without what would drive the terminal that it is printed on."""
    return "".join(char if char.isprintable() else "?" for char in text)


def tls_context(*, is_verified: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not is_verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
