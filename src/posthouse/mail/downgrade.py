# SPDX-License-Identifier: Apache-2.0
"""Surrogates: the header of an international letter for programs that know ASCII alone (RFC 6858, RFC 6857).

What is ASCII stays as it is, octet for octet; a field that is not is written anew or left out. Invariant: the
result is ASCII, and no address in it can belong to somebody else.

RFC 6858 is followed, but for two things that RFC 6857 keeps at no cost: a domain has an ASCII form that names the
same host (§3.1.6), and RFC 2231 carries a file name in any language (§3.1.4).
"""

from __future__ import annotations

import re
from urllib.parse import quote

from posthouse.mail.address_list import Group, NamedAddress, parse_address_list
from posthouse.mail.compose import field, phrase, structured_field
from posthouse.mail.encoded_word import decode_header_text, decode_unlabelled
from posthouse.mail.header import MAX_HEADER, Field, split_fields, unfold

# Octets of fields that are written anew; further ones are left out, as RFC 6858 §2.4 allows. Up to here a header
# that was made to cost time costs some 0.1 s.
MAX_REWRITTEN = 32 * 1024

INVALID = "<invalid@internationalized-address.invalid>"  # RFC 6858 §2.1: ".invalid" is nobody's (RFC 2606)

_ADDRESSES = frozenset(
    (b"bcc", b"cc", b"from", b"reply-to", b"resent-bcc", b"resent-cc", b"resent-from", b"resent-reply-to",
     b"resent-sender", b"resent-to", b"return-path", b"sender", b"to")
)  # fmt: skip
_TEXTS = frozenset((b"subject", b"comments", b"keywords", b"content-description", b"thread-topic"))
_PARAMETERS = frozenset((b"content-type", b"content-disposition"))

_PARAMETER = re.compile(r';\s*([^\s=;"]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;"]*)')
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
_SECTION = 48  # octets of a parameter's value in one section: percent-encoded and with its name under 998 a line


def surrogate(header: bytes) -> bytes:
    """A header block, with its empty line, in ASCII. Never fails; of more than MAX_HEADER octets the rest is left out.

    What follows the empty line must not be part of `header`.
    """
    if header.isascii():
        return header
    end = b"\r\n" if header.endswith(b"\r\n\r\n") or header == b"\r\n" else b""
    block = header[:MAX_HEADER]
    kept: list[bytes] = []
    left = MAX_REWRITTEN
    for one in split_fields(block):
        octets = block[one.start : one.end]
        if not octets.endswith(b"\r\n") and len(header) > MAX_HEADER:
            break  # cut in the middle
        if octets.isascii():
            kept.append(octets)
            continue
        left -= len(octets)
        if left >= 0:
            kept.append(rewritten(one, block))
    return b"".join(kept) + end


def rewritten(one: Field, block: bytes) -> bytes:
    """A field in ASCII; b"" where it cannot be said in ASCII (RFC 6858 §2.4)."""
    key = one.name.lower()
    name = one.name.decode("ascii")
    value = block[one.value_start : one.end]
    if key in _TEXTS:
        return field(name, decode_header_text(value))  # RFC 6858 §2.3
    if key in _ADDRESSES:
        return _addresses(name, value)
    if key in _PARAMETERS:
        return _with_parameters(name, decode_unlabelled(unfold(value)))
    return b""


# --- addresses (RFC 6858 §2.1) --------------------------------------------------------------------


def _addresses(name: str, value: bytes) -> bytes:
    if name.lower() == "return-path":  # a path has no name to tell anything in
        members = list(parse_address_list(value).flat())
        path = _mailbox(members[0]).rpartition("<")[2] if members else INVALID[1:]
        return structured_field(name, f"<{path.removesuffix('>')}>")
    members_of_list = parse_address_list(value).members
    return structured_field(name, ", ".join(map(_member, members_of_list))) if members_of_list else b""


def _member(member: NamedAddress | Group) -> str:
    if isinstance(member, Group):
        return f"{' '.join(phrase(member.name))}: {', '.join(map(_mailbox, member.members))};"
    return _mailbox(member)


def _mailbox(member: NamedAddress) -> str:
    """The address with an ASCII domain; where that is not all, its text in place of the name."""
    shown, path = member.name, INVALID
    if member.address is not None and str(member.address).isascii():
        path = f"<{member.address}>"
    else:
        shown = f"{member.name} {member.text}".strip()
    return " ".join([*phrase(shown), path]) if shown else path


# --- parameters (RFC 6858 §2.2) -------------------------------------------------------------------


def _with_parameters(name: str, value: str) -> bytes:
    main, mark, _ = value.partition(";")
    if not main.isascii():
        return b""
    said = [(match[1], match[2].strip()) for match in _PARAMETER.finditer(value, len(main))] if mark else []
    # What is said in ASCII already, by RFC 2231, must not be said twice.
    encoded = {key.partition("*")[0].lower() for key, _ in said if "*" in key}
    pieces = [main.strip()]
    for key, text in said:
        if key.isascii() and text.isascii():
            pieces.append(f"{key}={text}")
        elif key.isascii() and "*" not in key and key.lower() not in encoded:
            pieces += _sections(key, _QUOTED_PAIR.sub(r"\1", text[1:-1]) if text.startswith('"') else text)
    return structured_field(name, "; ".join(pieces))


def _sections(key: str, text: str) -> list[str]:
    """`key*=utf-8''…`, in sections where it is long (RFC 2231 §3 and §4)."""
    octets = decode_header_text(text).encode("utf-8", "replace")
    if len(octets) <= _SECTION:
        return [f"{key}*=utf-8''{quote(octets, safe='')}"]
    sections = [quote(octets[start : start + _SECTION], safe="") for start in range(0, len(octets), _SECTION)]
    sections[0] = f"utf-8''{sections[0]}"
    return [f"{key}*{number}*={section}" for number, section in enumerate(sections)]
