# SPDX-License-Identifier: Apache-2.0
"""Parsers of POP3 command lines: what follows the keyword, in octets, to an event. ABNF of RFC 2449 §9 above each.

They judge form alone and raise `CommandFault`; what may be said when stands in table.py.
"""

from __future__ import annotations

import base64
import binascii
import re

from posthouse.protocol.pop3 import events

MAX_NUMBER_DIGITS = 10  # letters and lines are counted in 32 bits; more digits is nobody's number
_MECHANISM = re.compile(rb"[A-Za-z0-9_\-]{1,20}")  # sasl-mech, RFC 4422 §3.1
_LANGUAGE = re.compile(rb"[A-Za-z0-9\-]{1,64}|\*")  # RFC 5646 tags are short; "*" as RFC 6856 §3 says


class CommandFault(Exception):  # noqa: N818 - an answer to the peer, not a defect
    """The command is not well formed; the text is the reply, `code` its response code (RFC 2449 §8)."""

    def __init__(self, text: str, code: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.code = code


def _number(argument: bytes) -> int:
    if not (argument.isdigit() and len(argument) <= MAX_NUMBER_DIGITS):
        raise CommandFault("A letter is named by its number")
    return int(argument)


def _nothing(argument: bytes) -> None:
    if argument:
        raise CommandFault("This command takes no argument")


def decode_base64(text: bytes) -> bytes:
    """Strict: no other character, no pad before the end."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise CommandFault("That is not base64", "AUTH") from None


# user-command = "USER" SP name
def parse_user(argument: bytes) -> events.User:
    if not argument:
        raise CommandFault("USER needs a name")
    return events.User(_text(argument))


# pass-command = "PASS" SP password; blanks belong to the password (RFC 1939 §7)
def parse_pass(argument: bytes) -> events.Pass:
    if not argument:
        raise CommandFault("PASS needs a password", "AUTH")
    return events.Pass("", _text(argument))


def _text(argument: bytes) -> str:
    try:
        return argument.decode("utf-8")  # RFC 6856 §2.2: names and passwords in UTF-8
    except UnicodeDecodeError:
        raise CommandFault("Names and passwords are UTF-8", "AUTH") from None


# auth-command = "AUTH" SP sasl-mech *(CRLF [base64]) [CRLF "*"] CRLF, with initial response (RFC 5034 §4)
def parse_auth(argument: bytes) -> events.AuthStart | events.AuthList:
    if not argument:
        return events.AuthList()
    mechanism, _, initial = argument.partition(b" ")
    if not _MECHANISM.fullmatch(mechanism):
        raise CommandFault("That is no name of a mechanism", "AUTH")
    decoded = None
    if initial:
        decoded = b"" if initial == b"=" else decode_base64(initial)
    return events.AuthStart(mechanism.decode("ascii").upper(), decoded)


def parse_capa(argument: bytes) -> events.Capa:
    _nothing(argument)
    return events.Capa()


def parse_stls(argument: bytes) -> events.Stls:
    _nothing(argument)
    return events.Stls()


def parse_stat(argument: bytes) -> events.Stat:
    _nothing(argument)
    return events.Stat()


# list-command = "LIST" [SP message-number]
def parse_list(argument: bytes) -> events.List:
    return events.List(_number(argument) if argument else None)


# uidl-command = "UIDL" [SP message-number]
def parse_uidl(argument: bytes) -> events.Uidl:
    return events.Uidl(_number(argument) if argument else None)


def parse_retr(argument: bytes) -> events.Retr:
    return events.Retr(_number(argument))


def parse_dele(argument: bytes) -> events.Dele:
    return events.Dele(_number(argument))


# top-command = "TOP" SP message-number SP number-of-lines
def parse_top(argument: bytes) -> events.Top:
    number, _, lines = argument.partition(b" ")
    return events.Top(_number(number), _number(lines))


def parse_noop(argument: bytes) -> events.Noop:
    _nothing(argument)
    return events.Noop()


def parse_rset(argument: bytes) -> events.Rset:
    _nothing(argument)
    return events.Rset()


def parse_quit(argument: bytes) -> events.Quit:
    _nothing(argument)
    return events.Quit(is_update=False)


# utf8-command = "UTF8" (RFC 6856 §2.1)
def parse_utf8(argument: bytes) -> events.Utf8:
    _nothing(argument)
    return events.Utf8()


# lang-command = "LANG" [SP language-range] (RFC 6856 §3)
def parse_lang(argument: bytes) -> events.Lang:
    if not argument:
        return events.Lang(None)
    if not _LANGUAGE.fullmatch(argument):
        raise CommandFault("That is no language tag")
    return events.Lang(argument.decode("ascii").lower())
