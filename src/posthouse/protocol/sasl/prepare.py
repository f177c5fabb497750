# SPDX-License-Identifier: Apache-2.0
"""Names and passwords in their comparable form: UTF-8 (RFC 3629) and SASLprep (RFC 4013)."""

from __future__ import annotations

from scramp import ScramException
from scramp.utils import saslprep

from posthouse.protocol.sasl.exchange import SaslError

# RFC 4616 §2 wants at least 255 octets for each; an address has at most 254 (RFC 5321 §4.5.3.1.3).
MAX_NAME = 320  # octets
# Long enough for every pass phrase, short enough that hashing it costs nothing beside the hash itself.
MAX_PASSWORD = 1024  # octets


def prepare(text: str) -> str:
    """SASLprep as for stored strings. Raises SaslError for what it prohibits and for text that comes out empty.

    Characters younger than Unicode 3.2 (most emoji) are among the prohibited ones.
    """
    if text.isascii() and text.isprintable() and text:
        return text  # SASLprep leaves printable ASCII as it is
    try:
        prepared: str = saslprep(text)
    except ScramException as error:
        raise SaslError(f"not allowed by SASLprep: {error.args[0]}") from None
    if not prepared:
        raise SaslError("empty")
    return prepared


def decode(octets: bytes, limit: int) -> str:
    """UTF-8 text without NUL and at most `limit` octets long. Raises SaslError."""
    if len(octets) > limit:
        raise SaslError(f"longer than {limit} octets")
    if b"\0" in octets:
        raise SaslError("NUL is not allowed")
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise SaslError("not UTF-8") from None
