# SPDX-License-Identifier: Apache-2.0
"""MAIL and RCPT as the client writes them, with the parameters that the server offers.

Invariant: no octet from an address or parameter can end a command line: what is not allowed raw is encoded.
"""

from __future__ import annotations

import re

from posthouse.mail.address import Address
from posthouse.mail.envelope import BodyType, ForwardPath, Notify, ReversePath, TlsWish
from posthouse.protocol.engine import LocalProtocolError
from posthouse.protocol.smtp.client_offer import Offer

# RFC 3461 §4: xchar is any printable ASCII but "+" and "="; the rest is "+" and two hexadecimal digits.
_NOT_XCHAR = re.compile(rb"[^!-*,-<>-~]")
# RFC 6533 §3: QCHAR of utf-8-addr-xtext; the rest is \x{…}, legal with and without SMTPUTF8.
_NOT_QCHAR = re.compile(r"[^!-*,-<>-\[\]-~]")
_ADDRESS_TYPE = re.compile(r"[A-Za-z0-9\-]+")
# RFC 3461 §4.2 and §4.4: what the server must take for ORCPT and ENVID; longer values are left out.
MAX_ORCPT = 500
MAX_ENVID = 100
_LINE_END = re.compile(r"[\r\n\x00]")

# In the order of RFC 3461 §4.1; a Flag's own order is not promised.
_NOTIFY_NAMES = ((Notify.SUCCESS, "SUCCESS"), (Notify.FAILURE, "FAILURE"), (Notify.DELAY, "DELAY"))


def mail_command(path: ReversePath, offer: Offer, *, size: int, body: BodyType, smtputf8: bool) -> bytes:
    """`size` in octets as sent, without dot-stuffing (RFC 1870 §6)."""
    parts = [f"MAIL FROM:<{_path(path.address)}>"]
    if "SIZE" in offer:
        parts.append(f"SIZE={size}")
    if body is not BodyType.SEVEN_BIT:
        parts.append(f"BODY={body.value}")
    if smtputf8:
        parts.append("SMTPUTF8")
    if "DSN" in offer:
        if path.dsn_return is not None:
            parts.append(f"RET={path.dsn_return.value}")
        envelope_id = "" if path.envelope_id is None else xtext(path.envelope_id)
        if 0 < len(envelope_id) <= MAX_ENVID:
            parts.append(f"ENVID={envelope_id}")
    if path.wish is TlsWish.REQUIRED and "REQUIRETLS" in offer:
        parts.append("REQUIRETLS")  # RFC 8689 §2; whoever asks for it has looked at the session
    return _line(parts)


def rcpt_command(path: ForwardPath, offer: Offer) -> bytes:
    parts = [f"RCPT TO:<{_path(path.address)}>"]
    if "DSN" in offer:
        if path.notify:
            parts.append(f"NOTIFY={_notify(path.notify)}")
        original = None if path.original_recipient is None else _original(path.original_recipient)
        if original is not None:
            parts.append(f"ORCPT={original}")
    return _line(parts)


def xtext(text: str) -> str:
    """RFC 3461 §4 `xtext`; non-ASCII text as the octets of its UTF-8."""
    return _NOT_XCHAR.sub(lambda match: b"+%02X" % match[0][0], text.encode("utf-8", "replace")).decode("ascii")


def utf8_xtext(text: str) -> str:
    """RFC 6533 §3 `utf-8-addr-xtext`."""
    return _NOT_QCHAR.sub(lambda match: f"\\x{{{ord(match[0]):X}}}", text)


def _path(address: Address | None) -> str:
    return "" if address is None else str(address)


def _notify(notify: Notify) -> str:
    # RFC 3461 §4.1: NEVER stands alone.
    if Notify.NEVER in notify:
        return "NEVER"
    return ",".join(name for flag, name in _NOTIFY_NAMES if flag in notify)


def _original(original: str) -> str | None:
    """`addr-type;address` encoded; None when it is not of that form or too long to be taken."""
    kind, separator, address = original.partition(";")
    if not separator or not _ADDRESS_TYPE.fullmatch(kind) or not address:
        return None
    if kind.lower() == "utf-8" or not address.isascii():
        encoded = f"utf-8;{utf8_xtext(address)}"
    else:
        encoded = f"{kind};{xtext(address)}"
    return encoded if len(encoded) <= MAX_ORCPT else None


def _line(parts: list[str]) -> bytes:
    line = " ".join(parts)
    if _LINE_END.search(line):
        raise LocalProtocolError("an address or a parameter contains CR, LF or NUL")
    return line.encode() + b"\r\n"
