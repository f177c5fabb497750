# SPDX-License-Identifier: Apache-2.0
"""The readers of content: where a letter ends, what it says, and what is not acceptable in it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.protocol.smtp import data, faults
from posthouse.protocol.smtp.data import ChunkReader, DotReader
from posthouse.protocol.smtp.replies import Reply

BIG = 1 << 20

# (octets after 354, content, fault, octets that belong to the next command; None content: the end is not met)
DOTS = [
    (b".\r\n", b"", None, b""),
    (b".\r\nNOOP\r\n", b"", None, b"NOOP\r\n"),
    (b"a\r\n.\r\n", b"a\r\n", None, b""),
    (b"\r\n.\r\n", b"\r\n", None, b""),
    (b"a\r\n.\r\nb\r\n.\r\n", b"a\r\n", None, b"b\r\n.\r\n"),
    (b"..\r\n.\r\n", b".\r\n", None, b""),
    (b"...\r\n.\r\n", b"..\r\n", None, b""),
    (b".a\r\n.\r\n", b"a\r\n", None, b""),  # §4.5.2: the first dot goes, whatever follows it
    (b"a\r\n..b\r\n..\r\n.\r\n", b"a\r\n.b\r\n.\r\n", None, b""),
    (b"a\r\n..\r\n..\r\n.\r\n", b"a\r\n.\r\n.\r\n", None, b""),
    (b"a.\r\n.b.\r\n.\r\n", b"a.\r\nb.\r\n", None, b""),
    (b"\r\n\r\n.\r\n", b"\r\n\r\n", None, b""),
    (b"\xff\x80\r\n.\r\n", b"\xff\x80\r\n", None, b""),
    # ends that are none: everything up to the real one is content, and bad
    (b"a\n.\nb\r\n.\r\n", None, faults.BAD_LINE_ENDS, b""),
    (b"a\n.\r\nb\r\n.\r\n", None, faults.BAD_LINE_ENDS, b""),
    (b"a\r\n.\nb\r\n.\r\n", None, faults.BAD_LINE_ENDS, b""),
    (b"a\r.\rb\r\n.\r\n", None, faults.BAD_LINE_ENDS, b""),
    (b"a\r.\r\nb\r\n.\r\n", None, faults.BAD_LINE_ENDS, b""),
    (b"a\r\n.\rb\r\n.\r\n", None, faults.BAD_LINE_ENDS, b""),
    (b"a\r\n.\r\r\nb\r\n.\r\n", None, faults.BAD_LINE_ENDS, b""),
    (b"a\r\r\n.\r\nb", None, faults.BAD_LINE_ENDS, b"b"),  # CR, then the true end
    (b"a\n\r\n.\r\nb", None, faults.BAD_LINE_ENDS, b"b"),
    (b".\nb\r\n.\r\n", None, faults.BAD_LINE_ENDS, b""),
    (b".\rb\r\n.\r\n", None, faults.BAD_LINE_ENDS, b""),
    (b"\n.\r\nb\r\n.\r\n", None, faults.BAD_LINE_ENDS, b""),
    (b"a\r\0\n.\r\nb\r\n.\r\n", None, faults.BAD_LINE_ENDS, b""),
    (b"a\rb\nc\r\n.\r\n", None, faults.BAD_LINE_ENDS, b""),
    (b"a\nb\rc\r\n.\r\n", None, faults.BAD_LINE_ENDS, b""),
    (b"a\0b\r\n.\r\n", None, faults.CONTENT_HAS_NUL, b""),
    (b"a\r\n\0.\r\nb\r\n.\r\n", None, faults.CONTENT_HAS_NUL, b""),
]


def read_dots(pieces: list[bytes], limit: int = BIG) -> tuple[bytes, Reply | None, bytes, bool]:
    """(content, fault, octets left, whether the end was met) as the engine would do it."""
    reader = DotReader(limit)
    left = content = b""
    for number, piece in enumerate(pieces):
        left += piece
        chunk, start, is_done = reader.take(left, 0)
        content += chunk
        left = left[start:]
        if is_done:
            return content, reader.fault, left + b"".join(pieces[number + 1 :]), True
    return content, reader.fault, left, False


@pytest.mark.parametrize(("sent", "content", "fault", "rest"), DOTS)
def test_ends_of_content(sent: bytes, content: bytes | None, fault: Reply | None, rest: bytes) -> None:
    """Only CRLF . CRLF ends, cut at any place; the content is exact and the rest untouched."""
    cuts = [[sent], [sent[i : i + 1] for i in range(len(sent))]]
    cuts += [[sent[:i], sent[i:]] for i in range(1, len(sent))]
    for pieces in cuts:
        got, got_fault, got_rest, is_done = read_dots(pieces)
        assert is_done, pieces
        assert got_fault is fault, pieces
        assert got_rest == rest, pieces
        if content is not None:
            assert got == content, pieces


@pytest.mark.parametrize("sent", [b"", b".", b".\r", b"a", b"a\r\n", b"a\r\n.", b"a\r\n.\r", b"a\r\n..\r\n", b"\n.\n"])
def test_no_end_yet(sent: bytes) -> None:
    assert not read_dots([sent])[3]
    assert not read_dots([sent[i : i + 1] for i in range(len(sent))])[3]


lines = st.lists(st.binary(max_size=12).map(lambda b: b.translate(None, b"\r\n\0")) | st.just(b".") | st.just(b".."))


@given(lines, st.data())
def test_dot_stuffing_round_trip(parts: list[bytes], draw: st.DataObject) -> None:
    """What a client stuffs comes out as it was, whatever the cuts."""
    content = b"".join(part + b"\r\n" for part in parts)
    stuffed = b"".join((b"." if part.startswith(b".") else b"") + part + b"\r\n" for part in parts) + b".\r\n"
    places = sorted(draw.draw(st.lists(st.integers(0, len(stuffed)), max_size=6)))
    pieces = [stuffed[a:b] for a, b in zip([0, *places], [*places, len(stuffed)], strict=True)]
    assert read_dots(pieces) == (content, None, b"", True)


def naive_unstuff(sent: bytes) -> tuple[bytes, bytes] | None:
    """RFC 5321 §4.5.2 in the plainest words: (content, rest), or None without an end."""
    marked = b"\r\n" + sent
    end = marked.find(b"\r\n.\r\n")
    if end < 0:
        return None
    return marked[: end + 2].replace(b"\r\n.", b"\r\n")[2:], marked[end + 5 :]


@given(st.lists(st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"a", b"\0", b"\r\n.\r\n"]), max_size=20), st.data())
def test_reader_agrees_with_the_plain_definition(parts: list[bytes], draw: st.DataObject) -> None:
    sent = b"".join(parts)
    places = sorted(draw.draw(st.lists(st.integers(0, len(sent)), max_size=6)))
    pieces = [sent[a:b] for a, b in zip([0, *places], [*places, len(sent)], strict=True)]
    content, fault, rest, is_done = read_dots(pieces)
    expected = naive_unstuff(sent)
    assert is_done == (expected is not None)
    if expected is not None:
        assert rest == expected[1]
        pure = expected[0].replace(b"\r\n", b"")
        assert (fault is None) == (not any(octet in pure for octet in b"\r\n\0"))
        if fault is None:
            assert content == expected[0]


@pytest.mark.parametrize("piece", [1, 3, 100])
def test_too_big_is_told_at_the_real_end(piece: int) -> None:
    """Too big outranks bad line ends, so that the reply does not depend on the cuts."""
    sent = b"12345678\nabc\r\n.\r\nrest"
    content, fault, rest, is_done = read_dots([sent[i : i + piece] for i in range(0, len(sent), piece)], limit=10)
    assert (fault, rest, is_done) == (faults.TOO_BIG, b"rest", True)
    assert len(content) <= 10


def test_exactly_the_limit_is_not_too_big() -> None:
    assert read_dots([b"12345678\r\n.\r\n"], limit=10) == (b"12345678\r\n", None, b"", True)
    assert read_dots([b"..345678\r\n.\r\n"], limit=9) == (b".345678\r\n", None, b"", True)  # stuffing is not counted


def test_hopelessly_big_content_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "MAX_DISCARD", 100)
    reader = DotReader(10)
    assert reader.take(b"x" * 110, 0)[2] is False
    assert reader.take(b"x", 0)[2] is True
    assert reader.is_hopeless


def read_chunks(chunks: list[bytes], piece: int = BIG, limit: int = BIG) -> tuple[bytes, Reply | None]:
    reader = ChunkReader(limit)
    content = b""
    for number, chunk in enumerate(chunks):
        assert reader.begin(len(chunk), is_last=number == len(chunks) - 1)
        left = chunk
        while True:
            octets, start, is_done = reader.take(left[:piece], 0)
            content += octets
            left = left[start:]
            if is_done:
                break
        assert left == b""
    return content, reader.fault


CHUNKS = [
    ([b""], b"", None),
    ([b"a\r\n"], b"a\r\n", None),
    ([b"a\r\n", b""], b"a\r\n", None),
    ([b"a"], b"a\r\n", None),
    ([b"a", b""], b"a\r\n", None),
    ([b"a\r", b"\nb\r\n"], b"a\r\nb\r\n", None),
    ([b"a\r", b"", b"\n"], b"a\r\n", None),
    ([b".\r\n.\r\n"], b".\r\n.\r\n", None),
    ([b"a\n"], None, faults.BAD_LINE_ENDS),
    ([b"a\r"], None, faults.BAD_LINE_ENDS),
    ([b"a\r", b""], None, faults.BAD_LINE_ENDS),
    ([b"a\r", b"b\r\n"], None, faults.BAD_LINE_ENDS),
    ([b"a\nb", b"c\r\n"], None, faults.BAD_LINE_ENDS),
    ([b"\n", b"a\r\n"], None, faults.BAD_LINE_ENDS),
    ([b"a\0\r\n"], None, faults.CONTENT_HAS_NUL),
]


@pytest.mark.parametrize("piece", [1, 2, 100])
@pytest.mark.parametrize(("chunks", "content", "fault"), CHUNKS)
def test_chunks(chunks: list[bytes], content: bytes | None, fault: Reply | None, piece: int) -> None:
    """Content is the sum of the chunks, its last line ended; line ends count across chunks."""
    got, got_fault = read_chunks(chunks, piece)
    assert got_fault is fault
    if content is not None:
        assert got == content


@given(lines, st.data())
def test_chunked_round_trip(parts: list[bytes], draw: st.DataObject) -> None:
    content = b"".join(part + b"\r\n" for part in parts)
    places = sorted(draw.draw(st.lists(st.integers(0, len(content)), max_size=6)))
    chunks = [content[a:b] for a, b in zip([0, *places], [*places, len(content)], strict=True)]
    assert read_chunks(chunks, draw.draw(st.integers(1, 20))) == (content, None)


def test_chunk_beyond_hope_is_not_begun() -> None:
    reader = ChunkReader(10)
    assert reader.begin(10 + data.MAX_DISCARD, is_last=False)
    assert not reader.begin(11 + data.MAX_DISCARD, is_last=False)
