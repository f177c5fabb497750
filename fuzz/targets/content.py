# SPDX-License-Identifier: Apache-2.0
"""Content on the wire: dot-stuffing and chunks, checked against readers that look at one octet after another."""

from __future__ import annotations

from random import Random

from fuzz.choices import Choices, pieces
from posthouse.protocol.smtp.client_content import UncleanContent, chunks, look_at, stuffed
from posthouse.protocol.smtp.data import ChunkReader, DotReader

DICTIONARY = "content.dict"
LIMIT = 2000  # octets; the inputs pass it


def target(data: bytes) -> None:
    choices = Choices(data)
    chance = choices.chance()
    octets = choices.rest
    _read_dots(octets, chance)
    _read_chunks(octets, chance)
    _write(octets, chance)


def _read_dots(wire: bytes, chance: Random) -> None:
    """The reader and the plain model agree on where the content ends and what it is."""
    end, content = _model(wire)
    reader = DotReader(LIMIT)
    kept, buffer, position, is_done = b"", b"", 0, False
    for piece in pieces(wire, chance):
        buffer += piece
        taken, position, is_done = reader.take(buffer, position)
        kept += taken
        if is_done:
            break
        assert len(buffer) - position <= 4, "the reader holds more than the beginning of an end"
    assert is_done == (end is not None), "the reader and the model disagree whether the content has ended"
    if end is None:
        return
    assert position == end, "the reader and the model disagree where the content ends"
    assert reader.size == len(content)
    bare = content.replace(b"\r\n", b"")
    is_bad = b"\r" in bare or b"\n" in bare or b"\0" in bare or len(content) > LIMIT
    assert (reader.fault is not None) == is_bad, "the reader and the model disagree whether the content is good"
    if not is_bad:
        assert kept == content, "the reader and the model disagree about the content"


def _model(wire: bytes) -> tuple[int | None, bytes]:
    """RFC 5321 §4.5.2, one octet after another: (offset behind the final dot or None, content)."""
    content = bytearray()
    at, is_line_start = 0, True
    while at < len(wire):
        if is_line_start and wire.startswith(b".", at):
            if wire.startswith(b".\r\n", at):
                return at + 3, bytes(content)
            if len(wire) - at < 3 and b".\r\n".startswith(wire[at:]):
                return None, b""  # perhaps the end, perhaps not
            at += 1
            if at == len(wire):
                break
        content.append(wire[at])
        at += 1
        is_line_start = content.endswith(b"\r\n") and wire[at - 2 : at] == b"\r\n"
    return None, b""


def _read_chunks(octets: bytes, chance: Random) -> None:
    reader = ChunkReader(LIMIT)
    parts = pieces(octets, chance)
    kept = b""
    for number, part in enumerate([*parts, b""]):
        if not reader.begin(len(part), is_last=number == len(parts)):
            return
        position = 0
        is_done = not part
        while True:
            upto = min(len(part), position + chance.randint(1, 700))
            taken, position, is_done = reader.take(part[:upto], position)
            kept += taken
            if is_done:
                break
    expected = octets if octets.endswith(b"\r\n") or not octets else octets + b"\r\n"
    if reader.fault is None:
        assert kept == expected, "chunks do not add up to the content"
        assert reader.size == len(expected)
    else:
        bare = expected.replace(b"\r\n", b"")
        assert len(expected) > LIMIT or b"\r" in bare or b"\n" in bare or b"\0" in bare


def _write(octets: bytes, chance: Random) -> None:
    buffers = pieces(octets, chance)
    traits = look_at(buffers)
    assert traits.is_ascii == octets.isascii()
    head = (b"\r\n" + octets).partition(b"\r\n\r\n")[0]
    assert traits.has_ascii_header == head.isascii(), "the header is looked at wrongly"
    expected = octets if octets.endswith(b"\r\n") or not octets else octets + b"\r\n"
    assert traits.size == len(expected)
    bare = octets.replace(b"\r\n", b"")
    is_clean = b"\r" not in bare and b"\n" not in bare
    try:
        wire = b"".join(stuffed(buffers))
    except UncleanContent:
        assert not is_clean, "clean content is refused"
        return
    assert is_clean, "bare line ends are let through"
    reader = DotReader(1 << 30)
    content, position, is_done = reader.take(wire, 0)
    assert (is_done, position) == (True, len(wire)), "our own final dot is not where it ends"
    assert content == expected or b"\0" in octets, "what is stuffed does not read back"
    chunked = b"".join(b"".join(one) for one in chunks(buffers, size=traits.size, is_binary=False))
    line, _, rest = chunked.partition(b"\r\n")
    assert line == b"BDAT %d LAST" % len(expected)
    assert rest == expected, "what is chunked does not read back"
