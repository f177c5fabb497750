# SPDX-License-Identifier: Apache-2.0
"""Lines, literals and compression below the engine: the same, however the octets are cut."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.protocol.imap import limits
from posthouse.protocol.imap.deflate import PIECE, Deflater, Inflater
from posthouse.protocol.imap.reader import CommandInbox
from posthouse.protocol.imap.streams import Streams
from posthouse.protocol.inbox import Line


def lines(octets: bytes, piece: int) -> list[bytes | Line]:
    inbox = CommandInbox()
    found: list[bytes | Line] = []
    for start in range(0, len(octets), piece):
        inbox.feed(octets[start : start + piece])
        while (line := inbox.line()) is not None:
            found.append(line)
            if line is Line.ENDLESS:
                return found
    return found


@given(st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\r\n", b"bcd", b"x" * 9])).map(b"".join), st.integers(1, 8))
def test_lines_do_not_depend_on_how_they_are_cut(octets: bytes, piece: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "MAX_LINE", 8)
        patch.setattr(limits, "MAX_LINE_DISCARD", 30)
        whole = lines(octets, max(len(octets), 1))
        assert lines(octets, piece) == whole
        good = [line for line in octets.split(b"\r\n")[:-1] if len(line) <= 6]
        assert [line for line in whole if isinstance(line, bytes)] == good[: sum(isinstance(x, bytes) for x in whole)]


def test_the_beginning_of_a_long_line_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_LINE", 8)
    inbox = CommandInbox()
    inbox.feed(b"tag NOOP and more\r\nb\r\n")
    assert inbox.line() is Line.TOO_LONG
    assert inbox.long_line.startswith(b"tag NOOP")
    assert inbox.line() == b"b"
    inbox.clear()
    assert inbox.long_line == b""


def test_contents_are_taken_as_they_came() -> None:
    inbox = CommandInbox()
    data = b"x" * 1000
    inbox.feed(data)
    assert inbox.take(1000) is data, "a whole read is not copied"
    inbox.feed(b"abc\r\ndef")
    assert inbox.take(2) == b"ab"
    assert inbox.line() == b"c"
    assert inbox.take(99) == b"def"
    assert inbox.take(1) == b""


# --- compression ---------------------------------------------------------------------------------------


def packed(*texts: bytes, how: int = zlib.Z_SYNC_FLUSH) -> bytes:
    stream = zlib.compressobj(6, zlib.DEFLATED, -15)
    return b"".join(stream.compress(text) + stream.flush(zlib.Z_SYNC_FLUSH) for text in texts[:-1]) + (
        stream.compress(texts[-1]) + stream.flush(how)
    )


def inflated(inflater: Inflater) -> bytes:
    found = b""
    while piece := inflater.read():
        assert len(piece) <= PIECE
        found += piece
    return found


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_what_is_deflated_comes_back(texts: list[bytes]) -> None:
    deflater, inflater = Deflater(), Inflater()
    found = b""
    for text in texts:
        for piece in deflater.pack([text, memoryview(text)]):
            inflater.feed(bytes(piece))
        found += inflated(inflater)
    assert found == b"".join(text * 2 for text in texts)
    for piece in deflater.pack([b"end"], is_last=True):
        inflater.feed(bytes(piece))
    assert inflated(inflater) == b"end"
    assert not inflater.has_more


def test_a_large_stream_comes_in_pieces() -> None:
    inflater = Inflater()
    inflater.feed(packed(b"x" * 3 * PIECE))
    assert len(inflater.read()) == PIECE
    assert inflater.has_more
    assert len(inflated(inflater)) == 2 * PIECE
    assert not inflater.has_more


def test_what_is_no_stream() -> None:
    inflater = Inflater()
    inflater.feed(b"a NOOP\r\n")
    with pytest.raises(ValueError, match=r"."):
        inflated(inflater)


def test_octets_behind_the_end_of_a_stream_are_not_hoarded() -> None:
    inflater = Inflater()
    inflater.feed(packed(b"x", how=zlib.Z_FINISH) + b"y" * 10)
    assert inflated(inflater) == b"x"
    inflater.feed(b"z" * PIECE)
    with pytest.raises(ValueError, match="behind the end"):
        inflater.read()


@pytest.mark.parametrize("how", [zlib.Z_SYNC_FLUSH, zlib.Z_FINISH])
@pytest.mark.parametrize("held_back", range(8))
def test_plain_octets_follow_the_end_of_a_layer(how: int, held_back: int) -> None:
    """The client's last word may be understood before its last octets are here (RFC 8437 §4.1)."""
    stream = packed(b"a UNAUTHENTICATE\r\n", how=how)
    inflater = Inflater()
    inflater.feed(stream[: len(stream) - held_back])
    inflated(inflater)
    rest = stream[len(stream) - held_back :] + b"b LOGIN x y\r\n"
    plain = b""
    for at in range(len(rest)):
        found = inflater.end(rest[at : at + 1])
        if found is not None:
            plain = found + rest[at + 1 :]
            break
    assert plain.endswith(b"b LOGIN x y\r\n")
    if held_back:
        assert plain == b"b LOGIN x y\r\n"


def test_an_end_that_never_comes_is_not_waited_for() -> None:
    inflater = Inflater()
    inflater.feed(packed(b"x" * 100)[:-4])
    inflated(inflater)
    assert inflater.end(b"\x00" * 40) is not None


def test_streams_keep_the_order_of_what_is_said() -> None:
    streams = Streams()
    streams.say(b"plain ")
    streams.compress()
    streams.say(b"packed")
    head, *tail = streams.take_out()
    assert head == b"plain "
    assert zlib.decompressobj(-15).decompress(b"".join(tail)) == b"packed"
    streams.say(b"last")
    streams.end_compression()
    streams.say(b"plain")
    assert streams.take_out()[-1] == b"plain"
    streams.end_compression()
    assert streams.take_out() == []
