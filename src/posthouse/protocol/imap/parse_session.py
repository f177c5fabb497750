# SPDX-License-Identifier: Apache-2.0
"""Commands about the session itself: arguments to events. The ABNF rule stands above each function."""

from __future__ import annotations

import base64
import binascii
import re

from posthouse.protocol.imap import events, limits
from posthouse.protocol.imap.tokens import CommandFault, Cursor

_MECHANISM = re.compile(rb"[A-Za-z0-9_\-]{1,20}")  # sasl-mech, RFC 4422 §3.1


def decode_base64(text: bytes) -> bytes:
    """Strict: no other character, no pad before the end (RFC 9051 §6.2.2)."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise CommandFault("That is not base64", "CLIENTBUG") from None


def parse_capability(cursor: Cursor) -> events.Capability:
    cursor.end()
    return events.Capability()


def parse_noop(cursor: Cursor) -> events.Noop:
    cursor.end()
    return events.Noop()


def parse_logout(cursor: Cursor) -> events.Logout:
    cursor.end()
    return events.Logout()


def parse_starttls(cursor: Cursor) -> events.StartTls:
    cursor.end()
    return events.StartTls()


def parse_namespace(cursor: Cursor) -> events.Namespace:
    cursor.end()
    return events.Namespace()


def parse_idle(cursor: Cursor) -> events.Idle:
    cursor.end()
    return events.Idle()


def parse_unauthenticate(cursor: Cursor) -> events.Unauthenticate:
    cursor.end()
    return events.Unauthenticate()


# compress = "COMPRESS" SP algorithm (RFC 4978 §5)
def parse_compress(cursor: Cursor) -> events.Compress:
    cursor.space()
    if cursor.keyword() != "DEFLATE":
        raise CommandFault("DEFLATE is the only mechanism")
    cursor.end()
    return events.Compress()


# authenticate = "AUTHENTICATE" SP auth-type [SP initial-resp] *(CRLF base64)
def parse_authenticate(cursor: Cursor) -> events.AuthStart:
    cursor.space()
    mechanism, _, initial = cursor.text[cursor.position :].partition(b" ")
    if not _MECHANISM.fullmatch(mechanism):
        raise CommandFault("That is no name of a mechanism", "CLIENTBUG")
    decoded = None
    if initial:
        decoded = b"" if initial == b"=" else decode_base64(initial)
    return events.AuthStart(mechanism.decode("ascii").upper(), decoded)


# login = "LOGIN" SP userid SP password
def parse_login(cursor: Cursor) -> events.Login:
    cursor.space()
    name = cursor.astring_text()
    cursor.space()
    password = cursor.astring_text()
    cursor.end()
    return events.Login(name, password)


# enable = "ENABLE" 1*(SP capability)
def parse_enable(cursor: Cursor) -> events.Enable:
    words: list[str] = []
    while not cursor.is_at_end:
        cursor.space()
        words.append(cursor.keyword())
        if len(words) > limits.MAX_ENABLE:
            raise CommandFault(f"At most {limits.MAX_ENABLE} words", "LIMIT")
    if not words:
        cursor.fail("expected capabilities")
    return events.Enable(tuple(dict.fromkeys(words)))


# id = "ID" SP id-params-list; id-params-list = "(" *(string SP nstring) ")" / nil (RFC 2971 §4)
def parse_id(cursor: Cursor) -> events.Id:
    cursor.space()
    pairs: tuple[tuple[str, str | None], ...] | None = None
    if cursor.looks_at(b"("):
        pairs = tuple(cursor.in_list(lambda: _pair(cursor), limits.MAX_ID_PAIRS, may_be_empty=True))
    elif cursor.nstring() is not None:
        cursor.fail("expected a list or NIL")
    cursor.end()
    return events.Id(pairs)


def _pair(cursor: Cursor) -> tuple[str, str | None]:
    name = cursor.string()
    cursor.space()
    value = cursor.nstring()
    if len(name) > limits.MAX_ID_NAME or (value is not None and len(value) > limits.MAX_ID_VALUE):
        raise CommandFault("A field or value is too long (RFC 2971 section 3.3)", "LIMIT")
    # What clients say of themselves is for the log: what is not UTF-8 there hurts nobody.
    return name.decode("utf-8", "replace"), None if value is None else value.decode("utf-8", "replace")
