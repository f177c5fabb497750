# SPDX-License-Identifier: Apache-2.0
"""Non-ASCII text in header fields: encoded words (RFC 2047), read tolerantly and written in UTF-8.

Reading never fails: what cannot be decoded stays as it stands or shows U+FFFD. Neighbouring words of one
charset are joined as octets first, since many programs cut characters in two.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import re
from functools import lru_cache

MAX_ENCODED_WORD = 63  # characters; RFC 2047 §2 allows 75, in lines of 76 with the name of the field
MAX_HEADER_TEXT = 256 * 1024  # characters decoded; as much as a header block can hold

# Labels as mail uses them, where Python has no codec of that name or a wider one is always right.
_ALIASES = {
    "gb2312": "gb18030",  # senders label GBK and GB18030 text so
    "gbk": "gb18030",
    "gb_2312-80": "gb18030",
    "ks_c_5601-1987": "cp949",
    "ks_c_5601-1989": "cp949",
    "ksc5601": "cp949",
    "x-sjis": "cp932",
    "x-big5": "big5",
    "hz-gb-2312": "hz",
    "iso-8859-8-i": "iso-8859-8",
    "iso-8859-8-e": "iso-8859-8",
    "iso-8859-1": "cp1252",  # a superset in all but control characters
    "us-ascii": "cp1252",
    "ascii": "cp1252",
    "windows-874": "cp874",
    "x-mac-roman": "mac_roman",
    "macintosh": "mac_roman",
    "unicode-1-1-utf-7": "utf-7",
    "x-unknown": "cp1252",
    "unknown-8bit": "cp1252",
}
# Where text does not fit its codec, the vendor's superset that senders really used.
_WIDER = {
    "euc_kr": "cp949",
    "shift_jis": "cp932",
    "big5": "cp950",
    "iso2022_jp": "iso2022_jp_ext",
    "euc_jp": "euc_jis_2004",
}
# Text codecs of Python that are no charset of mail; some of them are slow or give surprising results.
_REFUSED = frozenset(
    ("idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem", "unicode-escape",
     "raw-unicode-escape")
)  # fmt: skip

# charset [*language] ? encoding ? text; the text may hold blanks although it must not (seen in the wild).
_WORD = re.compile(r"=\?([A-Za-z0-9!#$%&'+\-^_`{|}~.:]{1,60})(?:\*[A-Za-z0-9\-]{0,60})?\?([BbQq])\?([^?]*)\?=")
_SURROGATE = re.compile("[\ud800-\udfff]")  # Python's UTF-7 lets halves through, and nothing could be made of such text
_WHOLE_ONLY = frozenset(("ascii", "utf-8", "iso8859-1", "iso8859-15", "cp1252"))  # codecs that do not: no look for them
_NEEDS_ENCODING = re.compile(r"[^\t -~]|=\?")
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]")
_Q_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")  # RFC 2047 §5 (3)


@lru_cache(maxsize=256)
def codec_name(label: str) -> str | None:
    """The Python codec for a charset label of mail; None for an unknown one."""
    name = label.strip().strip("\"'").lower()
    name = _ALIASES.get(name, name)
    if name.replace("-", "_") in _REFUSED or name in _REFUSED or not name.isascii():
        return None
    try:
        found = codecs.lookup(name)
        b"a".decode(name)  # refuses those that are no text encodings (base64, zlib)
    except (LookupError, UnicodeError, ValueError):
        return None
    # Labels such as "unicode+escape" become a refused name only here.
    return None if found.name in _REFUSED else found.name


def decode_charset(octets: bytes, label: str) -> str:
    """Text from octets in a labelled charset; UTF-8 where the label is unknown and it fits, else windows-1252.

    Octets that do not fit show as U+FFFD. Never fails.
    """
    name = codec_name(label)
    if name is None:
        return decode_unlabelled(octets)
    for attempt in (name, _WIDER.get(name, name), "utf-8"):  # a wrong label is more common than broken text
        try:
            text = octets.decode(attempt)
            return text if attempt in _WHOLE_ONLY else _SURROGATE.sub("\ufffd", text)
        except UnicodeError:
            continue
    return _SURROGATE.sub("\ufffd", octets.decode(name, "replace"))


def decode_unlabelled(octets: bytes) -> str:
    """Raw octets of a header: UTF-8 (RFC 6532), else what old programs wrote without saying so."""
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.decode("cp1252", "replace")


def decode_header_text(value: bytes | str) -> str:
    """The text of an unstructured value or a phrase with its encoded words decoded. Never fails.

    The value may be folded. Controls other than tab are dropped: the result is one line.
    """
    text = decode_unlabelled(value[:MAX_HEADER_TEXT]) if isinstance(value, bytes) else value[:MAX_HEADER_TEXT]
    text = text.replace("\r", "").replace("\n", "")
    if "=?" in text:
        text = _decode_words(text)
    if not text.isprintable():
        text = "".join(char for char in text if char >= " " or char == "\t").replace("\x7f", "")
    return text.strip()


def _decode_words(text: str) -> str:
    pieces: list[str] = []
    waiting: list[bytes] = []  # octets of neighbouring words in one charset
    charset = ""
    position = 0

    def flush() -> None:
        if waiting:
            pieces.append(decode_charset(b"".join(waiting), charset))
            waiting.clear()

    for match in _WORD.finditer(text):
        between = text[position : match.start()]
        # RFC 2047 §6.2: blanks between neighbouring encoded words are not shown.
        if not waiting or between.strip(" \t"):
            flush()
            pieces.append(between)
        if match[1].lower() != charset:
            flush()
            charset = match[1].lower()
        waiting.append(_word_octets(match[2], match[3]))
        position = match.end()
    flush()
    pieces.append(text[position:])
    return "".join(pieces)


def _word_octets(encoding: str, text: str) -> bytes:
    raw = text.encode("utf-8", "replace")
    if encoding in "Qq":
        return binascii.a2b_qp(raw, header=True)
    raw = _NOT_BASE64.sub(b"", raw)
    if len(raw) % 4 == 1:  # no such base64: the last digit is a stray
        raw = raw[:-1]
    return base64.b64decode(raw + b"=" * (-len(raw) % 4))


def encode_header_text(text: str) -> str:
    """ASCII text for a header: as it is where it can be, else encoded words in UTF-8 separated by blanks.

    Each word is whole characters and at most MAX_ENCODED_WORD long, so the result folds at its blanks.
    CR, LF and other controls become blanks. Good for unstructured values and for phrases (RFC 2047 §5).
    """
    clean = "".join(char if char >= " " and char != "\x7f" else " " for char in text)
    if not _NEEDS_ENCODING.search(clean):
        return clean
    octets = clean.encode("utf-8", "replace")
    plain = sum(octet in _Q_SAFE or octet == 0x20 for octet in octets)
    # Mostly Latin text stays readable in Q; anything else is shorter in B.
    encode = _q_word if plain * 2 >= len(octets) else _b_word
    words: list[str] = []
    current = ""
    for char in clean:
        if current and len(encode(current + char)) > MAX_ENCODED_WORD:
            words.append(encode(current))
            current = ""
        current += char
    words.append(encode(current))
    return " ".join(words)


def _b_word(text: str) -> str:
    return f"=?utf-8?b?{base64.b64encode(text.encode('utf-8', 'replace')).decode()}?="


def _q_word(text: str) -> str:
    octets = text.encode("utf-8", "replace")
    body = "".join(chr(o) if o in _Q_SAFE else "_" if o == 0x20 else f"={o:02X}" for o in octets)
    return f"=?utf-8?q?{body}?="
