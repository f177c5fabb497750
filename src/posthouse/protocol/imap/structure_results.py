# SPDX-License-Identifier: Apache-2.0
"""ENVELOPE, BODY and BODYSTRUCTURE as octets of a response (RFC 9051 §7.5.2).

Invariant: any summary and any structure that mail/ makes comes out as one value of the grammar.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from posthouse.mail.header_summary import Addresses, HeaderSummary, SummaryAddress, summarise
from posthouse.mail.structure import Part, Summary
from posthouse.mail.structure_fields import Disposition, Parameters
from posthouse.protocol.imap.strings import nstring, string

_CACHED = 200  # octets of an address; longer ones seldom come twice, and the cache shall stay small
_CACHE = 2_000  # addresses that stand alone: the correspondents of a mailbox
# Parts that are described alike: the programs that people write with make a handful of kinds. With the longest header
# of a part that is kept, in octets, no more than some megabytes.
_LEAVES = 2_000
_CACHED_HEADER = 2_048
_DESCRIBED = 10  # fields of a `Part` before where it lies


def envelope(summary: HeaderSummary, *, is_utf8: bool = False) -> bytes:
    """envelope; `is_utf8`: UTF-8 may stand in quoted strings."""
    author = addresses(summary.from_, is_utf8=is_utf8)
    # Sender and Reply-To are From's in most letters; then they are the same object.
    sender = author if summary.sender is summary.from_ else addresses(summary.sender, is_utf8=is_utf8)
    reply_to = author if summary.reply_to is summary.from_ else addresses(summary.reply_to, is_utf8=is_utf8)
    return b"(%b %b %b %b %b %b %b %b %b %b)" % (
        nstring(summary.date, is_utf8=is_utf8),
        nstring(summary.subject, is_utf8=is_utf8),
        author,
        sender,
        reply_to,
        addresses(summary.to, is_utf8=is_utf8),
        addresses(summary.cc, is_utf8=is_utf8),
        addresses(summary.bcc, is_utf8=is_utf8),
        nstring(summary.in_reply_to, is_utf8=is_utf8),
        nstring(summary.message_id, is_utf8=is_utf8),
    )


def addresses(found: Addresses | None, *, is_utf8: bool = False) -> bytes:
    """One of the lists of an ENVELOPE."""
    if not found:
        return b"NIL"
    if len(found) == 1:
        name, route, mailbox, host = found[0]
        if route is None and len(name or b"") + len(mailbox or b"") + len(host or b"") <= _CACHED:
            return _one_again(found[0], is_utf8)
    return b"(" + b"".join([_address(address, is_utf8=is_utf8) for address in found]) + b")"


def _address(address: SummaryAddress, *, is_utf8: bool) -> bytes:
    name, route, mailbox, host = address
    return b"(%b %b %b %b)" % (
        nstring(name, is_utf8=is_utf8),
        nstring(route, is_utf8=is_utf8),
        nstring(mailbox, is_utf8=is_utf8),
        nstring(host, is_utf8=is_utf8),
    )


@lru_cache(maxsize=_CACHE)
def _one_again(address: SummaryAddress, is_utf8: bool) -> bytes:
    return b"(" + _address(address, is_utf8=is_utf8) + b")"


def body_structure(part: Part, *, is_extended: bool = True, is_utf8: bool = False) -> bytes:
    """BODYSTRUCTURE, or BODY without its extension data. Depth is bounded where structures are read."""
    if part.is_multipart:
        return _multipart(part, is_extended=is_extended, is_utf8=is_utf8)
    if part.summary is not None:
        return _letter(part, part.summary, is_extended=is_extended, is_utf8=is_utf8)
    form = (_leaf_again if part.body.start - part.header.start <= _CACHED_HEADER else _leaf)(
        part[:_DESCRIBED], is_extended, is_utf8
    )
    return form % ((part.octets, part.lines) if part.media == b"text" else (part.octets,))


def _leaf(described: tuple[Any, ...], is_extended: bool, is_utf8: bool) -> bytes:
    """A part with nothing in it but octets: all but their number, and that of the lines of text."""
    media, subtype, parameters, identity, description, encoding, md5, disposition, languages, location = described
    words = [*_basic(media, subtype, parameters, identity, description, encoding, is_utf8=is_utf8)]
    words.append(b"\0 \0" if media == b"text" else b"\0")
    if is_extended:
        words.append(nstring(md5, is_utf8=is_utf8))
        words += _rest(disposition, languages, location, is_utf8=is_utf8)
    return (b"(" + b" ".join(words) + b")").replace(b"%", b"%%").replace(b"\0", b"%d")  # no string has NUL in it


_leaf_again = lru_cache(maxsize=_LEAVES)(_leaf)


def _letter(part: Part, summary: Summary, *, is_extended: bool, is_utf8: bool) -> bytes:
    words = [
        *_basic(part.media, part.subtype, part.parameters, part.id, part.description, part.encoding, is_utf8=is_utf8),
        b"%d" % part.octets,
        envelope(summarise(summary), is_utf8=is_utf8),
        body_structure(part.children[0], is_extended=is_extended, is_utf8=is_utf8),
        b"%d" % part.lines,
    ]
    if is_extended:
        words.append(nstring(part.md5, is_utf8=is_utf8))
        words += _rest(part.disposition, part.languages, part.location, is_utf8=is_utf8)
    return b"(" + b" ".join(words) + b")"


def _basic(
    media: bytes,
    subtype: bytes,
    parameters: Parameters,
    identity: bytes | None,
    description: bytes | None,
    encoding: bytes,
    *,
    is_utf8: bool,
) -> tuple[bytes, ...]:
    """body-fields without their last, the number of octets."""
    return (
        string(media),
        string(subtype),
        _parameters(parameters, is_utf8=is_utf8),
        nstring(identity, is_utf8=is_utf8),
        nstring(description, is_utf8=is_utf8),
        string(encoding),
    )


def _multipart(part: Part, *, is_extended: bool, is_utf8: bool) -> bytes:
    children = b"".join(body_structure(child, is_extended=is_extended, is_utf8=is_utf8) for child in part.children)
    words = [children, string(part.subtype)]
    if is_extended:
        words.append(_parameters(part.parameters, is_utf8=is_utf8))
        words += _rest(part.disposition, part.languages, part.location, is_utf8=is_utf8)
    return b"(" + b" ".join(words) + b")"


def _rest(
    disposition: Disposition | None, languages: tuple[bytes, ...], location: bytes | None, *, is_utf8: bool
) -> tuple[bytes, bytes, bytes]:
    """body-fld-dsp, body-fld-lang, body-fld-loc"""
    return (
        _disposition(disposition, is_utf8=is_utf8),
        _languages(languages),
        nstring(location, is_utf8=is_utf8),
    )


def _parameters(parameters: Parameters, *, is_utf8: bool) -> bytes:
    if not parameters:
        return b"NIL"
    words = [string(name) + b" " + string(value, is_utf8=is_utf8) for name, value in parameters]
    return b"(" + b" ".join(words) + b")"


def _disposition(disposition: Disposition | None, *, is_utf8: bool) -> bytes:
    if disposition is None:
        return b"NIL"
    return b"(" + string(disposition.kind) + b" " + _parameters(disposition.parameters, is_utf8=is_utf8) + b")"


def _languages(tags: tuple[bytes, ...]) -> bytes:
    if not tags:
        return b"NIL"
    return string(tags[0]) if len(tags) == 1 else b"(" + b" ".join(map(string, tags)) + b")"
