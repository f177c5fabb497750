# SPDX-License-Identifier: Apache-2.0
"""SCRAM-SHA-256 and SCRAM-SHA-1 (RFC 5802, RFC 7677) on scramp; nonces are passed in.

The server learns no password and stores none; the client learns whether the server knew the secrets.
Channel binding (-PLUS) is not offered: TLS 1.3 needs tls-exporter (RFC 9266), which no TLS library within
reach of Python gives out.
"""

from __future__ import annotations

import hashlib
import re
from enum import Enum, auto

from scramp import ScramClient as Client
from scramp import ScramException, ScramMechanism

from posthouse.protocol.sasl.exchange import (
    Challenge,
    Proven,
    SaslError,
    ScramSecrets,
    SecretsWanted,
    ServerStep,
)
from posthouse.protocol.sasl.prepare import MAX_NAME, decode, prepare

# RFC 7677 §4 wants at least 4096; this is what we store for new passwords, about 3 ms of a client's time.
ITERATIONS = 10_000
SALT_OCTETS = 16
NONCE_OCTETS = 18  # from Entropy; 24 characters in base64
MAX_MESSAGE = 2048  # octets: name, nonces and attributes, with room for extensions that we ignore
# A hostile server may ask for any number of rounds; a million are about a third of a second of our time.
MAX_CLIENT_ITERATIONS = 1_000_000

# A gs2-header with an authorization identity that is the name itself: it asks for nothing more (RFC 5802 §5.1).
_OWN_AUTHZID = re.compile(r"([^,]*),a=([^,]+),(?=n=\2,)")
_HASHES = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-1": "sha1"}


def derive(mechanism: str, password: str, salt: bytes, iterations: int = ITERATIONS) -> ScramSecrets:
    """What the server keeps (RFC 5802 §3). Slow on purpose: run it in the hash pool. Raises SaslError."""
    try:
        _, stored_key, server_key, _ = ScramMechanism(mechanism).make_auth_info(
            prepare(password), iteration_count=iterations, salt=salt
        )
    except ScramException as error:
        raise SaslError(str(error)) from None
    return ScramSecrets(salt, iterations, stored_key, server_key)


def digest_size(mechanism: str) -> int:
    """Octets of the keys of one mechanism: what a fake secret must look like."""
    return hashlib.new(_HASHES[mechanism]).digest_size


class _Stage(Enum):
    FIRST = auto()
    WANTS_SECRETS = auto()
    FINAL = auto()
    LAST = auto()
    OVER = auto()


class _SaidHeader:
    """A gs2-header as the client said it, for scramp, which knows none with an authorization identity."""

    def __init__(self, text: str) -> None:
        self._octets = text.encode()

    def make_cbind_input(self, _binding: None) -> bytes:
        """What the client's final message repeats (RFC 5802 §5.1, attribute c)."""
        return self._octets


class ScramServer:
    def __init__(self, mechanism: str, nonce: str) -> None:
        self.mechanism = mechanism
        self._nonce = nonce
        self._stage = _Stage.FIRST
        self._name = ""
        self._first = ""
        self._header = ""  # the gs2-header, where scramp must not see it
        self._server = ScramMechanism(mechanism).make_server(lambda _: None, s_nonce=nonce)

    def step(self, response: bytes | None) -> ServerStep:
        match self._stage:
            case _Stage.FIRST if response is None:
                return Challenge(b"")  # RFC 5802 §5: the client speaks first
            case _Stage.FIRST:
                return self._read_first(_text(response))
            case _Stage.FINAL:
                return self._read_final(_text(response))
            case _Stage.LAST:
                # RFC 4954 §4, RFC 5034 §4: success carries no data, so server-final went out as a challenge.
                if response:
                    raise SaslError("the client has more to say after the end")
                self._stage = _Stage.OVER
                return Proven(self._name)
            case _:
                raise SaslError("a message out of turn")

    def secrets(self, secrets: ScramSecrets) -> Challenge:
        if self._stage is not _Stage.WANTS_SECRETS:
            raise SaslError("secrets out of turn")
        found = (secrets.salt, secrets.stored_key, secrets.server_key, secrets.iterations)
        self._server = ScramMechanism(self.mechanism).make_server(lambda _: found, s_nonce=self._nonce)
        try:
            self._server.set_client_first(self._first)
            if self._header:
                self._server.gs2_header = _SaidHeader(self._header)
            challenge: str = self._server.get_server_first()
        except ScramException as error:
            raise SaslError(str(error)) from None
        self._stage = _Stage.FINAL
        return Challenge(challenge.encode())

    def _read_first(self, message: str) -> SecretsWanted:
        # scramp asks for the secrets in the middle of reading, and ours need a look into the database: so it reads
        # twice, first only to tell the name.
        if own := _OWN_AUTHZID.match(message):
            self._header, message = own[0], f"{own[1]},,{message[own.end() :]}"
        names: list[str] = []
        reader = ScramMechanism(self.mechanism).make_server(names.append, s_nonce=self._nonce)
        try:
            reader.set_client_first(message)
        except ScramException as error:
            if not names:
                raise SaslError(str(error)) from None
        self._name, self._first = names[0], message
        if len(self._name.encode()) > MAX_NAME:
            raise SaslError(f"the name is longer than {MAX_NAME} octets")
        self._stage = _Stage.WANTS_SECRETS
        return SecretsWanted(self._name)

    def _read_final(self, message: str) -> Challenge:
        self._stage = _Stage.OVER
        try:
            self._server.set_client_final(message)
            verdict: str = self._server.get_server_final()
        except ScramException as error:
            raise SaslError(str(error)) from None
        self._stage = _Stage.LAST
        return Challenge(verdict.encode())


class ScramClient:
    def __init__(self, mechanism: str, name: str, password: str, nonce: str) -> None:
        self.mechanism = mechanism
        try:
            self._client = Client([mechanism], name, password, c_nonce=nonce)
        except ScramException as error:
            raise SaslError(str(error)) from None
        self._stage = _Stage.FIRST

    @property
    def is_complete(self) -> bool:
        return self._stage is _Stage.OVER

    def initial(self) -> bytes | None:
        return self._say_first()

    def respond(self, challenge: bytes) -> bytes:
        message = _text(challenge)
        try:
            match self._stage:
                case _Stage.FIRST:
                    return self._say_first()
                case _Stage.FINAL:
                    return self._say_final(message)
                case _Stage.LAST:
                    self._client.set_server_final(message)
                    self._stage = _Stage.OVER
                    return b""
                case _:
                    raise SaslError("a challenge out of turn")
        except ScramException as error:
            raise SaslError(str(error)) from None

    def _say_first(self) -> bytes:
        self._stage = _Stage.FINAL
        first: str = self._client.get_client_first()
        return first.encode()

    def _say_final(self, message: str) -> bytes:
        self._client.set_server_first(message)
        if int(self._client.iterations) > MAX_CLIENT_ITERATIONS:
            raise SaslError(f"the server asks for more than {MAX_CLIENT_ITERATIONS} rounds")
        final: str = self._client.get_client_final()
        self._stage = _Stage.LAST
        return final.encode()


def _text(octets: bytes | None) -> str:
    return decode(octets or b"", MAX_MESSAGE)
