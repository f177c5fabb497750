# SPDX-License-Identifier: Apache-2.0
"""ENVELOPE, BODY and BODYSTRUCTURE as octets of a response (RFC 9051 §7.5.2).

Invariant: any summary and any structure that mail/ makes comes out as one value of the grammar.
"""

from __future__ import annotations

from functools import lru_cache

from posthouse.mail.header_summary import Addresses, HeaderSummary, SummaryAddress, summarise
from posthouse.mail.structure import Part
from posthouse.mail.structure_fields import Disposition, Parameters
from posthouse.protocol.imap.strings import nstring, string

_CACHED = 200  # octets of an address; longer ones seldom come twice, and the cache shall stay small
_CACHE = 2_000  # addresses that stand alone: the correspondents of a mailbox


def envelope(summary: HeaderSummary, *, is_utf8: bool = False) -> bytes:
    """envelope; `is_utf8`: UTF-8 may stand in quoted strings."""
    author = _addresses(summary.from_, is_utf8=is_utf8)
    # Sender and Reply-To are From's in most letters; then they are the same object.
    sender = author if summary.sender is summary.from_ else _addresses(summary.sender, is_utf8=is_utf8)
    reply_to = author if summary.reply_to is summary.from_ else _addresses(summary.reply_to, is_utf8=is_utf8)
    return b"(%b %b %b %b %b %b %b %b %b %b)" % (
        nstring(summary.date, is_utf8=is_utf8),
        nstring(summary.subject, is_utf8=is_utf8),
        author,
        sender,
        reply_to,
        _addresses(summary.to, is_utf8=is_utf8),
        _addresses(summary.cc, is_utf8=is_utf8),
        _addresses(summary.bcc, is_utf8=is_utf8),
        nstring(summary.in_reply_to, is_utf8=is_utf8),
        nstring(summary.message_id, is_utf8=is_utf8),
    )


def _addresses(addresses: Addresses | None, *, is_utf8: bool) -> bytes:
    if not addresses:
        return b"NIL"
    if len(addresses) == 1:
        name, route, mailbox, host = addresses[0]
        if route is None and len(name or b"") + len(mailbox or b"") + len(host or b"") <= _CACHED:
            return _one_again(addresses[0], is_utf8)
    return b"(" + b"".join([_address(address, is_utf8=is_utf8) for address in addresses]) + b")"


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
    words = [
        string(part.media),
        string(part.subtype),
        _parameters(part.parameters, is_utf8=is_utf8),
        nstring(part.id, is_utf8=is_utf8),
        nstring(part.description, is_utf8=is_utf8),
        string(part.encoding),
        b"%d" % part.octets,
    ]
    if part.summary is not None:
        words.append(envelope(summarise(part.summary), is_utf8=is_utf8))
        words.append(body_structure(part.children[0], is_extended=is_extended, is_utf8=is_utf8))
        words.append(b"%d" % part.lines)
    elif part.media == b"text":
        words.append(b"%d" % part.lines)
    if is_extended:
        words.append(nstring(part.md5, is_utf8=is_utf8))
        words += _rest(part, is_utf8=is_utf8)
    return b"(" + b" ".join(words) + b")"


def _multipart(part: Part, *, is_extended: bool, is_utf8: bool) -> bytes:
    children = b"".join(body_structure(child, is_extended=is_extended, is_utf8=is_utf8) for child in part.children)
    words = [children, string(part.subtype)]
    if is_extended:
        words.append(_parameters(part.parameters, is_utf8=is_utf8))
        words += _rest(part, is_utf8=is_utf8)
    return b"(" + b" ".join(words) + b")"


def _rest(part: Part, *, is_utf8: bool) -> tuple[bytes, bytes, bytes]:
    """body-fld-dsp, body-fld-lang, body-fld-loc"""
    return (
        _disposition(part.disposition, is_utf8=is_utf8),
        _languages(part.languages),
        nstring(part.location, is_utf8=is_utf8),
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
