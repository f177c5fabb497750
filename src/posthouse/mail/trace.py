# SPDX-License-Identifier: Apache-2.0
"""Trace fields: Received, Return-Path, Delivered-To (RFC 5321 §4.4), and what they say about loops.

What a client claims (its HELO name) is written only in a form that cannot end the field or look like a
clause of ours; what we know of the connection stands in the TCP-info comment behind it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from posthouse.mail.address import Address, AddressError, Domain
from posthouse.mail.dates import format_date
from posthouse.mail.header import HeaderScan

LINE_WIDTH = 78  # columns, RFC 5322 §2.1.1
MAX_RECEIVED = 100  # RFC 5321 §6.3: "at least 100" before a letter counts as looping
MAX_HELO_SHOWN = 255  # characters; the longest domain

_FOLD = "\r\n\t"
_NOT_SHOWN = re.compile(r"[^A-Za-z0-9.\-_:\[\]]")


@dataclass(frozen=True, slots=True)
class Hop:
    """One hand-over to us. `helo` is the client's own word, `peer_name` its verified reverse name or "".

    `peer_address` is IP text, or "" for none (a local program). `protocol` comes from `with_protocol`.
    `tls_version` and `tls_cipher` are "" without TLS. `ident` is a queue or trace id, an atom.
    """

    helo: str
    peer_address: str
    by: str
    protocol: str
    ident: str
    when: float
    peer_name: str = ""
    zone_minutes: int = 0
    tls_version: str = ""
    tls_cipher: str = ""
    software: str = "posthouse"


def with_protocol(
    *,
    is_extended: bool = True,
    is_lmtp: bool = False,
    is_tls: bool = False,
    is_authenticated: bool = False,
    is_smtputf8: bool = False,
) -> str:
    """The WITH protocol type: RFC 3848, and RFC 6531 §4.3 for letters that used SMTPUTF8."""
    if not is_extended and not is_lmtp:
        return "SMTP"
    base = "LMTP" if is_lmtp else "ESMTP"
    if is_smtputf8:
        base = "UTF8LMTP" if is_lmtp else "UTF8SMTP"
    return f"{base}{'S' if is_tls else ''}{'A' if is_authenticated else ''}"


def received(hop: Hop, recipient: Address | None = None) -> bytes:
    """The Received field of this hop. `recipient` is named only for a letter with one recipient: naming one
    of several would tell who gets a blind copy (RFC 5321 §7.6)."""
    by = ["by", hop.by]
    if hop.software:
        by.append(f"({_shown(hop.software)})")
    by += ["with", hop.protocol]
    if hop.tls_version:
        by.append(f"({_shown(hop.tls_version)} {_shown(hop.tls_cipher)})")
    ident = ["id", _shown(hop.ident)]
    if recipient is not None:
        ident += ["for", f"<{recipient}>"]
    ident[-1] += ";"
    lines = (*_fold("Received:", _from_clause(hop)), *_fold("", by), *_fold("", ident))
    return f"{_FOLD.join(lines)}{_FOLD}{format_date(hop.when, hop.zone_minutes)}\r\n".encode()


def _from_clause(hop: Hop) -> list[str]:
    literal = address_literal(hop.peer_address)
    known = " ".join(part for part in (hop.peer_name and _shown(hop.peer_name), literal) if part)
    try:
        claimed = Domain.parse(hop.helo[:MAX_HELO_SHOWN]).name
    except AddressError:
        # Not a name that grammar allows (RFC 5321 §4.1.1.1 says to accept it all the same): shown as a comment.
        claimed = ""
    if claimed:
        return ["from", claimed, f"({known})"] if known else ["from", claimed]
    comment = f"({'helo=' + _shown(hop.helo) if hop.helo else 'no helo'})"
    return ["from", literal or "localhost", comment]


def address_literal(address: str) -> str:
    """`192.0.2.1` → `[192.0.2.1]`, `2001:db8::1` → `[IPv6:2001:db8::1]` (RFC 5321 §4.1.3); "" for no IP."""
    if not address or address == "unix":
        return ""
    if ":" in address:
        return f"[IPv6:{_shown(address)}]"
    return f"[{_shown(address)}]"


def _shown(text: str) -> str:
    """Text that a peer chose, safe inside a field: no blanks, brackets, quotes, controls or non-ASCII."""
    return _NOT_SHOWN.sub("?", text[:MAX_HELO_SHOWN])


def _fold(start: str, words: list[str]) -> list[str]:
    """One clause as lines of at most LINE_WIDTH columns (the tab of a continuation counts as one)."""
    lines: list[str] = []
    line = start
    for word in words:
        if not line:
            line = word
        elif len(line) + 2 + len(word) > LINE_WIDTH and line != start:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}"
    lines.append(line)
    return lines


def return_path(address: Address | None) -> bytes:
    """The Return-Path field of final delivery; None is the null reverse-path."""
    return f"Return-Path: <{'' if address is None else address}>\r\n".encode()


def delivered_to(address: Address) -> bytes:
    """The Delivered-To field: which address brought the letter here. It stops forwarding loops."""
    return f"Delivered-To: {address}\r\n".encode()


def is_looping(scan: HeaderScan, limit: int = MAX_RECEIVED) -> bool:
    """Whether the letter has passed more hosts than any real path has (RFC 5321 §6.3)."""
    return scan.count(b"received") > limit


def was_delivered_to(scan: HeaderScan, address: Address) -> bool:
    """Whether a Delivered-To of this address is in the header: it has been here and came back."""
    return any(_same(value, address) for value in scan.all(b"delivered-to"))


def delivered_before(scan: HeaderScan, addresses: Iterable[Address]) -> list[Address]:
    """Those of `addresses` that the letter was delivered to before."""
    seen = [value.lower() for value in scan.all(b"delivered-to")]
    if not seen:
        return []
    return [address for address in addresses if any(_same(value, address) for value in seen)]


def _same(value: bytes, address: Address) -> bool:
    said = value.strip(b"<>").decode("utf-8", "replace")
    return said.casefold() == str(address).casefold()
