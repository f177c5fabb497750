# SPDX-License-Identifier: Apache-2.0
"""Parsers of command lines: what follows the verb, in octets, to an event. ABNF above each.

They judge form alone and raise `CommandFault` with the reply; what may be said when stands in table.py.
Trailing white space was taken away before (RFC 5321 §4.1.1).
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from posthouse.mail.address import Address, AddressError, Domain, parse_address
from posthouse.mail.envelope import BodyType, ForwardPath, ReversePath, TlsWish
from posthouse.outcome import Status
from posthouse.protocol.smtp import faults, parameters
from posthouse.protocol.smtp.events import (
    AuthStart,
    DataStart,
    Expn,
    Hello,
    Help,
    MailFrom,
    Noop,
    Quit,
    RcptTo,
    Reset,
    StartTls,
    Vrfy,
)
from posthouse.protocol.smtp.faults import CommandFault, bad_arguments
from posthouse.protocol.smtp.replies import Reply

MAX_NAME = 255  # octets of the name after EHLO: a domain can be no longer (RFC 5321 §4.5.3.1.2)


@dataclass(slots=True)
class Context:
    """What a parser must know of the session."""

    host: Domain  # the server's own name: the domain of a bare <postmaster>
    is_extended: bool = False  # EHLO or LHLO was said, so parameters are allowed
    requiretls: bool = False  # REQUIRETLS was offered (RFC 8689)
    smtputf8: bool = False  # of the MAIL of this transaction


@dataclass(frozen=True, slots=True)
class Chunk:
    """BDAT: `size` octets follow the command line."""

    size: int
    is_last: bool


# Common paths and nothing else: `FROM:<dot-string@domain> [SIZE=n]`. What does not match takes the long way.
_PLAIN_MAIL = re.compile(rb"(?i:FROM):<([!#-'*+\-./0-9=?A-Z^-~]+@[A-Za-z0-9.\-]+)>(?: (?i:SIZE)=([0-9]{1,20}))?")
_PLAIN_RCPT = re.compile(rb"(?i:TO):<([!#-'*+\-./0-9=?A-Z^-~]+@[A-Za-z0-9.\-]+)>")
# "FROM:" ( Path / "<>" ) [SP Mail-parameters]; the inside of the brackets is judged later, only quotes count here.
# Quirk: spaces after the colon, as older Outlook and much home-made software sends them.
_PATH = re.compile(r' *<((?:"(?:[^"\\]|\\.)*"|[^"<>])*)>(?: +([^ ].*)?)?')
# A-d-l = At-domain *( "," At-domain );  At-domain = "@" Domain  (RFC 5321 §4.1.2)
_SOURCE_ROUTE = re.compile(r"@[^@,:\s]+(?:,@[^@,:\s]+)*:")
# Domain / address-literal, or what clients put there; nothing that could break a Received line.
_CLIENT_NAME = re.compile(rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.:\[\]\-]+")
_MECHANISM = re.compile(rb"[A-Za-z0-9_\-]{1,20}")  # sasl-mech, RFC 4422 §3.1
_CHUNK = re.compile(rb"([0-9]{1,20})(?: +(?i:(LAST)))?")


# ehlo = "EHLO" SP ( Domain / address-literal );  helo = "HELO" SP Domain  (RFC 5321 §4.1.1.1)
def parse_ehlo(argument: bytes, context: Context) -> Hello:
    return _hello("EHLO", argument)


def parse_helo(argument: bytes, context: Context) -> Hello:
    return _hello("HELO", argument)


# lhlo = "LHLO" SP ( Domain / address-literal )  (RFC 2033 §4.1)
def parse_lhlo(argument: bytes, context: Context) -> Hello:
    return _hello("LHLO", argument)


def _hello(verb: str, argument: bytes) -> Hello:
    if not argument or len(argument) > MAX_NAME or not _CLIENT_NAME.fullmatch(argument):
        raise bad_arguments(f"{verb} needs the name of your host")
    return Hello(verb, argument.decode("ascii"))


# mail = "MAIL FROM:" Reverse-path [SP Mail-parameters];  Reverse-path = Path / "<>"  (RFC 5321 §4.1.1.2)
def parse_mail(argument: bytes, context: Context) -> MailFrom:
    plain = _PLAIN_MAIL.fullmatch(argument)
    if plain is not None and (plain[2] is None or context.is_extended):
        address = _reverse(plain[1].decode("ascii"), smtputf8=False)
        return MailFrom(ReversePath(address, None if plain[2] is None else int(plain[2])))
    mailbox, rest = _split_path(argument, "FROM:")
    given = _parameters(rest, context)
    smtputf8 = "SMTPUTF8" in given and parameters.read_flag("SMTPUTF8", given.pop("SMTPUTF8"))
    path = ReversePath(
        None if not mailbox else _reverse(mailbox, smtputf8=smtputf8),
        size=parameters.read_size(given.pop("SIZE")) if "SIZE" in given else None,
        body=parameters.read_body(given.pop("BODY")) if "BODY" in given else BodyType.SEVEN_BIT,
        smtputf8=smtputf8,
        dsn_return=parameters.read_return(given.pop("RET")) if "RET" in given else None,
        envelope_id=parameters.read_envelope_id(given.pop("ENVID")) if "ENVID" in given else None,
        auth=parameters.read_submitter(given.pop("AUTH")) if "AUTH" in given else None,
        wish=_wish(given, context),
    )
    _refuse_unknown(given)
    return MailFrom(path)


# rcpt = "RCPT TO:" ( "<Postmaster@" Domain ">" / "<Postmaster>" / Forward-path ) [SP Rcpt-parameters]
# (RFC 5321 §4.1.1.3)
def parse_rcpt(argument: bytes, context: Context) -> RcptTo:
    plain = _PLAIN_RCPT.fullmatch(argument)
    if plain is not None:
        return RcptTo(ForwardPath(_forward(plain[1].decode("ascii"), context)))
    mailbox, rest = _split_path(argument, "TO:")
    given = _parameters(rest, context)
    path = ForwardPath(
        _forward(mailbox, context),
        notify=parameters.read_notify(given.pop("NOTIFY")) if "NOTIFY" in given else None,
        original_recipient=(
            parameters.read_original_recipient(given.pop("ORCPT"), smtputf8=context.smtputf8)
            if "ORCPT" in given
            else None
        ),
    )
    _refuse_unknown(given)
    return RcptTo(path)


# data = "DATA"  (RFC 5321 §4.1.1.4)
def parse_data(argument: bytes, context: Context) -> DataStart:
    _nothing("DATA", argument)
    return DataStart()


# bdat-cmd = "BDAT" SP chunk-size [ SP "LAST" ];  chunk-size = 1*DIGIT  (RFC 3030 §2)
def parse_bdat(argument: bytes, context: Context) -> Chunk:
    chunk = _CHUNK.fullmatch(argument)
    if chunk is None:
        raise CommandFault(faults.BDAT_SYNTAX)
    return Chunk(int(chunk[1]), chunk[2] is not None)


# rset = "RSET"  (RFC 5321 §4.1.1.5)
def parse_rset(argument: bytes, context: Context) -> Reset:
    _nothing("RSET", argument)
    return Reset()


# quit = "QUIT"  (RFC 5321 §4.1.1.10)
def parse_quit(argument: bytes, context: Context) -> Quit:
    _nothing("QUIT", argument)
    return Quit()


# starttls = "STARTTLS"  (RFC 3207 §4)
def parse_starttls(argument: bytes, context: Context) -> StartTls:
    _nothing("STARTTLS", argument)
    return StartTls()


# auth-command = "AUTH" SP sasl-mech [SP initial-response];  initial-response = base64 / "="  (RFC 4954 §8)
def parse_auth(argument: bytes, context: Context) -> AuthStart:
    mechanism, space, initial = argument.partition(b" ")
    if not _MECHANISM.fullmatch(mechanism):
        raise bad_arguments("AUTH needs a mechanism")
    name = mechanism.decode("ascii").upper()
    if not space:
        return AuthStart(name, None)
    return AuthStart(name, b"" if initial == b"=" else decode_base64(initial))


# base64 = base64-terminal / ( 1*(4base64-char) [base64-terminal] )  (RFC 4954 §8)
def decode_base64(text: bytes) -> bytes:
    """Strict: no other character, no pad before the end."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise CommandFault(faults.AUTH_NOT_BASE64) from None


# vrfy = "VRFY" SP String [ SP "SMTPUTF8" ]  (RFC 5321 §4.1.1.6, RFC 6531 §3.7.4.2)
def parse_vrfy(argument: bytes, context: Context) -> Vrfy:
    return Vrfy(*_string("VRFY", argument))


# expn = "EXPN" SP String [ SP "SMTPUTF8" ]  (RFC 5321 §4.1.1.7)
def parse_expn(argument: bytes, context: Context) -> Expn:
    return Expn(*_string("EXPN", argument))


# help = "HELP" [ SP String ]  (RFC 5321 §4.1.1.8)
def parse_help(argument: bytes, context: Context) -> Help:
    return Help(_text(argument))


# noop = "NOOP" [ SP String ]; the string is ignored  (RFC 5321 §4.1.1.9)
def parse_noop(argument: bytes, context: Context) -> Noop:
    return Noop()


def _nothing(verb: str, argument: bytes) -> None:
    if argument:
        raise bad_arguments(f"{verb} takes no argument")


def _text(argument: bytes) -> str:
    try:
        return argument.decode("utf-8")
    except UnicodeDecodeError:
        raise bad_arguments("The command line is not UTF-8") from None


def _string(verb: str, argument: bytes) -> tuple[str, bool]:
    text = _text(argument)
    smtputf8 = text.upper().endswith(" SMTPUTF8")
    if smtputf8:
        text = text[: -len(" SMTPUTF8")].rstrip(" ")
    if not text:
        raise bad_arguments(f"{verb} needs a name or an address")
    return text, smtputf8


def _split_path(argument: bytes, keyword: str) -> tuple[str, str]:
    """(inside of the angle brackets without a source route, parameters)."""
    text = _text(argument)
    path = _PATH.fullmatch(text, len(keyword)) if text[: len(keyword)].upper() == keyword else None
    if path is None:
        raise bad_arguments(f"The form is {keyword}<address>, then parameters after a space")
    # RFC 5321 §4.1.2 and appendix C: source routes are accepted and ignored.
    route = _SOURCE_ROUTE.match(path[1])
    return path[1] if route is None else path[1][route.end() :], path[2] or ""


def _parameters(rest: str, context: Context) -> dict[str, str | None]:
    given = parameters.split_parameters(rest)
    if given and not context.is_extended:
        # RFC 5321 §4.1.1.11: parameters belong to sessions that began with EHLO.
        raise faults.unknown_parameter("Parameters need EHLO")
    return given


def _wish(given: dict[str, str | None], context: Context) -> TlsWish:
    """requiretls-param = "REQUIRETLS" (RFC 8689 §2); where it was not offered it is left among the unknown."""
    if not context.requiretls or "REQUIRETLS" not in given:
        return TlsWish.USUAL
    parameters.read_flag("REQUIRETLS", given.pop("REQUIRETLS"))
    return TlsWish.REQUIRED


def _refuse_unknown(given: dict[str, str | None]) -> None:
    for keyword in given:
        raise faults.unknown_parameter(f"{keyword} is not known here")


def _reverse(mailbox: str, *, smtputf8: bool) -> Address:
    if not smtputf8 and not mailbox.isascii():
        raise CommandFault(  # RFC 6531 §3.5
            Reply(550, Status(5, 6, 7), ("Non-ASCII address without SMTPUTF8",))
        )
    try:
        return parse_address(mailbox)
    except AddressError as error:
        raise CommandFault(Reply(501, Status(5, 1, 7), (_sentence(error),))) from None


def _forward(mailbox: str, context: Context) -> Address:
    if not context.smtputf8 and not mailbox.isascii():
        raise CommandFault(  # RFC 6531 §3.5
            Reply(553, Status(5, 6, 7), ("Non-ASCII address without SMTPUTF8",))
        )
    if mailbox.lower() == "postmaster":
        return Address(mailbox, context.host)
    try:
        return parse_address(mailbox)
    except AddressError as error:
        raise CommandFault(Reply(501, Status(5, 1, 3), (_sentence(error),))) from None


def _sentence(error: AddressError) -> str:
    """The error's words as reply text. They may quote the address, so only ASCII goes back (RFC 6531 §3.7.4.2)."""
    text = str(error)
    return (text[:1].upper() + text[1:]).encode("ascii", "replace").decode("ascii")
