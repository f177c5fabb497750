# SPDX-License-Identifier: Apache-2.0
"""Content-Type, Content-Disposition and the other fields that describe a part of a letter (RFC 2045, RFC 2183).

Reading never fails and every value can stand on one line: no NUL, CR or LF is left in it. What is written with
RFC 2231 is put together again; a value in another charset becomes UTF-8 and keeps its extended name, `filename*`.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import quote_from_bytes, unquote_to_bytes

from posthouse.mail.encoded_word import codec_name, decode_charset, decode_header_text, decode_unlabelled

Parameters = tuple[tuple[bytes, bytes], ...]

MAX_VALUE = 16 * 1024  # octets of one field that are looked at; the longest file names in RFC 2231 stay under 4,000
MAX_PARAMETERS = 100  # of one field; real ones have up to 20 when a name is cut into many sections
MAX_LANGUAGES = 20  # tags of one part; two are rare
MAX_SECTIONS = 100  # of one parameter (RFC 2231 §3)

# RFC 2045 §5.1: a token. Octets over 127 are none, so types and names are ASCII.
_TOKEN = rb"([!#$%&'*+\-.0-9A-Z^_`a-z{|}~]{1,127})"
_TYPE = re.compile(rb"\s*" + _TOKEN + rb"\s*/\s*" + _TOKEN + rb"(?=[\s;,]|\Z)")
_WORD = re.compile(rb"\s*" + _TOKEN + rb"(?=[\s;,]|\Z)")
_SEPARATORS = re.compile(rb"[\s;,]*")
_NAME = re.compile(_TOKEN + rb"[ \t]*(=)?[ \t]*")
_QUOTED = re.compile(rb'"((?:[^"\\]|\\.)*)"?', re.DOTALL)
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)
_COMMENT = re.compile(rb"\([^()]*\)")
_LAST_COMMENT = re.compile(rb"\([^()]*\)\Z")
# Two parameters without a semicolon between them, as some programs write: `a=b c="d"`.
_NEXT = re.compile(rb"[ \t][A-Za-z][A-Za-z0-9\-]{0,60}(?:\*[0-9]{0,3}\*?)?=(?!\?)")
_SECTION = re.compile(rb"([^*]+)\*(?:(0|[1-9][0-9]{0,3})(\*)?)?")
_ENCODING = re.compile(rb"\s*" + _TOKEN)
_LABEL = re.compile(rb"[A-Za-z0-9!#$%&+\-^_`{|}~.:]{0,60}")  # a charset or a language
_LANGUAGE = re.compile(rb"[A-Za-z0-9\-*]{1,60}")
_BLANK = re.compile(rb"[ \t\r\n]+")

_ONE_LINE = bytes.maketrans(b"\0\r\n", b"   ")
_BLANKS = b" \t\r\n"
_ATTRIBUTE_SAFE = "!#$&+-.^_`|~"  # RFC 2231 §7: attribute-char, letters and digits besides


class Disposition(NamedTuple):
    """Content-Disposition (RFC 2183): the kind in lower case, `attachment` where none can be read."""

    kind: bytes
    parameters: Parameters


def clean(value: bytes) -> bytes:
    """A field's value unfolded, without outer blanks, NUL, bare CR and bare LF."""
    return clean_whole(value[:MAX_VALUE])


def clean_whole(value: bytes) -> bytes:
    """The same of a value of any length."""
    return value.replace(b"\r\n", b"").translate(_ONE_LINE).strip(_BLANKS)


def media_type(value: bytes) -> tuple[bytes, bytes, Parameters] | None:
    """(type, subtype, parameters) of a Content-Type, names in lower case; None for what is none.

    With None the type is text/plain (RFC 2045 §5.2); `parameters_of` reads what stands after it all the same.
    """
    value = clean(value)
    match = _TYPE.match(value)
    if match is None:
        value = _without_comments(value)
        match = _TYPE.match(value)
        if match is None:
            return None
    end = match.end()
    return match[1].lower(), match[2].lower(), _parameters(value, end) if end < len(value) else ()


def parameters_of(value: bytes) -> Parameters:
    """The parameters of a value whose beginning cannot be read: what follows the first semicolon."""
    value = clean(value)
    semicolon = value.find(b";")
    return () if semicolon < 0 else _parameters(value, semicolon)


def disposition(value: bytes) -> Disposition:
    """RFC 2183 §2.8: a kind that is not known, or cannot be read, is an attachment."""
    value = clean(value)
    match = _WORD.match(value)
    if match is None:
        value = _without_comments(value)
        match = _WORD.match(value)
    if match is None:
        return Disposition(b"attachment", _parameters(value, 0))
    return Disposition(match[1].lower(), _parameters(value, match.end()))


def encoding(value: bytes) -> bytes:
    """The transfer encoding in lower case, `7bit` where there is none (RFC 2045 §6.1)."""
    value = clean(value)
    if b"(" in value:
        value = _without_comments(value)
    match = _ENCODING.match(value)
    return b"7bit" if match is None else match[1].lower()


def languages(value: bytes) -> tuple[bytes, ...]:
    """The tags of Content-Language (RFC 3282)."""
    return tuple(_LANGUAGE.findall(_without_comments(clean(value)))[:MAX_LANGUAGES])


def location(value: bytes) -> bytes:
    """The URI of Content-Location; blanks come from folding only (RFC 2557 §4.4.2)."""
    return _BLANK.sub(b"", clean(value))


def text_parameter(parameters: Parameters, name: bytes) -> str | None:
    """A parameter as people see it, RFC 2231 and encoded words decoded; None where it is not there. Never fails.

    `name` in lower case. Encoded words have no place in a parameter (RFC 2047 §5) and are what many programs write.
    """
    plain: bytes | None = None
    for key, value in parameters:
        if key == name and plain is None:
            plain = value
        elif key[-1:] == b"*" and key[:-1] == name:
            charset, _, rest = value.partition(b"'")
            octets = unquote_to_bytes(rest.partition(b"'")[2])
            return _one_line(decode_charset(octets, charset.decode("ascii", "replace")))
    if plain is None:
        return None
    return decode_header_text(plain) if b"=?" in plain else _one_line(decode_unlabelled(plain))


def _one_line(text: str) -> str:
    return text if text.isprintable() else "".join(char if char.isprintable() else " " for char in text)


def _without_comments(value: bytes) -> bytes:
    """Comments before the first semicolon, up to three inside each other (nobody nests deeper) become blanks."""
    head, semicolon, rest = value.partition(b";")
    for _ in range(3):
        head = _COMMENT.sub(b" ", head)
    return head + semicolon + rest


def _parameters(value: bytes, position: int) -> Parameters:
    found: list[tuple[bytes, bytes]] = []
    has_sections = False
    while len(found) < MAX_PARAMETERS:
        separators = _SEPARATORS.match(value, position)
        position = position if separators is None else separators.end()
        if position >= len(value):
            break
        match = _NAME.match(value, position)
        if match is None or match[2] is None:  # no parameter: the next one is after a semicolon
            semicolon = value.find(b";", position)
            position = len(value) if semicolon < 0 else semicolon
            continue
        name = match[1].lower()
        text, position = _value(value, match.end())
        has_sections = has_sections or b"*" in name
        found.append((name, text))
    return _joined(found) if has_sections else tuple(found)


def _value(value: bytes, position: int) -> tuple[bytes, int]:
    """A parameter's value and where it ends; an unclosed quoted string takes the rest."""
    quoted = _QUOTED.match(value, position) if value[position : position + 1] == b'"' else None
    if quoted is not None:
        text = quoted[1]
        return _QUOTED_PAIR.sub(rb"\1", text) if b"\\" in text else text, quoted.end()
    end = value.find(b";", position)
    end = len(value) if end < 0 else end
    if b"=" in value[position:end]:
        following = _NEXT.search(value, position, end)
        end = end if following is None else following.start()
    text = value[position:end].rstrip(_BLANKS)
    if text.endswith(b")"):  # `us-ascii (Plain text)`; but the file name `plan (1).txt` keeps its number
        text = _LAST_COMMENT.sub(b"", text).rstrip(_BLANKS) or text
    return text, end


def _joined(found: list[tuple[bytes, bytes]]) -> Parameters:
    """RFC 2231 §3: the sections of a value in the order of their numbers, where the first one stands."""
    joined: dict[bytes, bytes] = {}
    sections: dict[bytes, dict[int, tuple[bytes, bool]]] = {}
    for name, value in found:
        match = _SECTION.fullmatch(name)
        if match is None:
            joined.setdefault(name, value)
        elif match[2] is None:
            joined.setdefault(name, _in_utf8(value))
        else:
            pieces = sections.setdefault(match[1], {})
            if len(pieces) < MAX_SECTIONS:
                pieces.setdefault(int(match[2]), (value, match[3] is not None))
            joined.setdefault(match[1] + b"\0", b"")  # keeps the place
    return tuple(
        _put_together(name[:-1], sections[name[:-1]]) if name.endswith(b"\0") else (name, value)
        for name, value in joined.items()
    )


def _put_together(name: bytes, pieces: dict[int, tuple[bytes, bool]]) -> tuple[bytes, bytes]:
    ordered = [pieces[number] for number in sorted(pieces)]
    if not any(is_extended for _, is_extended in ordered):
        return name, b"".join(value for value, _ in ordered)
    first, is_labelled = ordered[0]
    charset = language = b""
    if is_labelled and first.count(b"'") >= 2:
        charset, language, first = first.split(b"'", 2)
    octets = [unquote_to_bytes(first) if is_labelled else first]
    octets += [unquote_to_bytes(value) if is_extended else value for value, is_extended in ordered[1:]]
    return name + b"*", _extended(b"".join(octets), charset, language)


def _in_utf8(value: bytes) -> bytes:
    """`charset'language'text` in UTF-8; as it stands where the charset is not known."""
    if value.count(b"'") < 2:
        return _extended(unquote_to_bytes(value), b"", b"")
    charset, language, text = value.split(b"'", 2)
    return _extended(unquote_to_bytes(text), charset, language)


def _extended(octets: bytes, charset: bytes, language: bytes) -> bytes:
    """In UTF-8, percent-encoded; in the charset that was named where nobody knows that one."""
    charset = charset if _LABEL.fullmatch(charset) else b""
    language = language if _LABEL.fullmatch(language) else b""
    label = charset.decode("ascii")
    if charset and codec_name(label) is None:
        return b"%b'%b'%b" % (charset, language, quote_from_bytes(octets, _ATTRIBUTE_SAFE).encode("ascii"))
    text = decode_charset(octets, label or "utf-8").encode("utf-8", "replace")
    return b"utf-8'%b'%b" % (language, quote_from_bytes(text, _ATTRIBUTE_SAFE).encode("ascii"))
