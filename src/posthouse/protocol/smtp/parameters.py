# SPDX-License-Identifier: Apache-2.0
"""ESMTP parameters of MAIL and RCPT: splitting, xtext, and one reader per keyword.

A keyword may appear once; an unknown one is 555 5.5.4, a wrong value 501 5.5.4 (RFC 5321 §4.1.1.11).
"""

from __future__ import annotations

import re

from posthouse.mail.address import AddressError, parse_address
from posthouse.mail.envelope import BodyType, DsnReturn, Notify
from posthouse.protocol.smtp.faults import bad_arguments, unknown_parameter

MAX_ENVELOPE_ID = 100  # characters as sent, RFC 3461 §4.4
MAX_ORIGINAL_RECIPIENT = 500  # characters as sent, RFC 3461 §4.2

# RFC 5321 §4.1.2, RFC 6531 §3.3:
#   esmtp-param   = esmtp-keyword ["=" esmtp-value]
#   esmtp-keyword = (ALPHA / DIGIT) *(ALPHA / DIGIT / "-")
#   esmtp-value   = 1*(%d33-60 / %d62-126 / UTF8-non-ascii)
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9\-]*)(?:=([!-<>-~\u0080-\U0010ffff]+))?")
# size-value = 1*20DIGIT  (RFC 1870 §4)
_SIZE = re.compile(r"[0-9]{1,20}")
# xtext = *( xchar / hexchar );  xchar = %x21-2A / %x2C-3C / %x3E-7E;  hexchar = "+" 2HEXDIG  (RFC 3461 §4)
# Both cases of the digits are taken: some clients write "+3d".
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-Fa-f]{2})*")
_HEXCHAR = re.compile(r"\+([0-9A-Fa-f]{2})")
# EmbeddedUnicodeChar = "\x" "{" HEXPOINT "}"  (RFC 6533 §3)
_UNITEXT = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")
_ADDRESS_TYPE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\-]+")
_PRINTABLE_ASCII = re.compile(r"[ -~]*")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def split_parameters(text: str) -> dict[str, str | None]:
    """`*( SP esmtp-param )` as keyword in upper case -> value, None where there is no `=`."""
    found: dict[str, str | None] = {}
    for part in text.split(" "):
        if not part:
            continue  # two spaces in a row: seen from hand-written clients, harmless
        parameter = _PARAMETER.fullmatch(part)
        if parameter is None:
            raise bad_arguments("A parameter is not well formed")
        keyword = parameter[1].upper()
        if keyword in found:
            raise bad_arguments(f"{keyword} is given twice")
        found[keyword] = parameter[2]
    return found


def read_size(value: str | None) -> int:
    """SIZE=: octets (RFC 1870 §6)."""
    if value is None or not _SIZE.fullmatch(value):
        raise bad_arguments("SIZE needs a number")
    return int(value)


def read_body(value: str | None) -> BodyType:
    """BODY=: `"7BIT" / "8BITMIME"` (RFC 6152 §3). BINARYMIME is not offered (RFC 3030 §3)."""
    match (value or "").upper():
        case "7BIT":
            return BodyType.SEVEN_BIT
        case "8BITMIME":
            return BodyType.EIGHT_BIT
        case "BINARYMIME":
            raise unknown_parameter("BODY=BINARYMIME is not offered")
        case _:
            raise bad_arguments("BODY is 7BIT or 8BITMIME")


def read_flag(keyword: str, value: str | None) -> bool:
    """A keyword that takes no value, as SMTPUTF8 (RFC 6531 §3.4)."""
    if value is not None:
        raise bad_arguments(f"{keyword} takes no value")
    return True


def read_return(value: str | None) -> DsnReturn:
    """RET=: `"FULL" / "HDRS"` (RFC 3461 §4.3)."""
    try:
        return DsnReturn((value or "").upper())
    except ValueError:
        raise bad_arguments("RET is FULL or HDRS") from None


def read_envelope_id(value: str | None) -> str:
    """ENVID=: xtext of printable ASCII (RFC 3461 §4.4)."""
    if not value or len(value) > MAX_ENVELOPE_ID:
        raise bad_arguments(f"ENVID needs 1 to {MAX_ENVELOPE_ID} characters")
    return _printable("ENVID", decode_xtext("ENVID", value))


def read_submitter(value: str | None) -> str:
    """AUTH= of MAIL: xtext of a Mailbox or `<>` (RFC 4954 §5)."""
    submitter = decode_xtext("AUTH", value or "")
    if submitter != "<>":
        # curl puts the address into brackets as well.
        submitter = submitter.removeprefix("<").removesuffix(">") if submitter.startswith("<") else submitter
        try:
            parse_address(submitter)
        except AddressError:
            raise bad_arguments("AUTH needs an address or <>") from None
    return submitter


def read_notify(value: str | None) -> Notify:
    """NOTIFY=: `"NEVER" / 1#( "SUCCESS" / "FAILURE" / "DELAY" )` (RFC 3461 §4.1)."""
    chosen = Notify(0)
    for word in (value or "").upper().split(","):
        try:
            chosen |= Notify[word]
        except KeyError:
            raise bad_arguments("NOTIFY is NEVER, or SUCCESS, FAILURE, DELAY") from None
    if Notify.NEVER in chosen and chosen is not Notify.NEVER:
        raise bad_arguments("NOTIFY=NEVER stands alone")
    return chosen


def read_original_recipient(value: str | None, *, smtputf8: bool) -> str:
    """ORCPT=: `addr-type ";" xtext` (RFC 3461 §4.2), of type utf-8 as RFC 6533 §3 says. Decoded."""
    if not value or len(value) > MAX_ORIGINAL_RECIPIENT:
        raise bad_arguments(f"ORCPT needs 1 to {MAX_ORIGINAL_RECIPIENT} characters")
    kind, semicolon, coded = value.partition(";")
    if not semicolon or not coded or not _ADDRESS_TYPE.fullmatch(kind):
        raise bad_arguments("ORCPT needs a type, a semicolon and an address")
    if kind.lower() == "utf-8":
        return f"{kind};{_decode_unitext(coded, smtputf8=smtputf8)}"
    return f"{kind};{_printable('ORCPT', decode_xtext('ORCPT', coded))}"


def decode_xtext(keyword: str, value: str) -> str:
    """xtext to the text it stands for (UTF-8)."""
    if not _XTEXT.fullmatch(value):
        raise bad_arguments(f"{keyword} is not xtext")
    if "+" not in value:
        return value
    octets = _HEXCHAR.sub(lambda hexchar: chr(int(hexchar[1], 16)), value).encode("latin-1")
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise bad_arguments(f"{keyword} is not UTF-8") from None


def _printable(keyword: str, text: str) -> str:
    if not _PRINTABLE_ASCII.fullmatch(text):
        raise bad_arguments(f"{keyword} holds characters that are not printable ASCII")
    return text


def _decode_unitext(coded: str, *, smtputf8: bool) -> str:
    if not smtputf8 and not coded.isascii():
        raise bad_arguments("ORCPT is not ASCII, and MAIL did not say SMTPUTF8")
    try:
        text = _UNITEXT.sub(lambda point: chr(int(point[1], 16)), coded)
    except (ValueError, OverflowError):
        return coded
    # RFC 6533 §3: what does not conform is carried on without alteration. A control would break the DSN's lines.
    return coded if _CONTROLS.search(text) else text
