# SPDX-License-Identifier: Apache-2.0
"""Content on the wire: dot-stuffing, BDAT, and what is read off content before it is sent."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.protocol.smtp import client_content
from posthouse.protocol.smtp.client_content import (
    BDAT_CHUNK,
    BDAT_WORTHWHILE,
    CONTENT_SLICE,
    UncleanContent,
    chunks,
    look_at,
    stuffed,
)
from posthouse.protocol.smtp.client_events import Phase
from tests.protocol.smtp_client.script import Script, begin, envelope, ready, statuses

lines = st.lists(st.sampled_from([b"", b".", b"..", b".x", b"x", b"x.", b"xxxxxxx"]), max_size=12)


def clean(parts: list[bytes]) -> bytes:
    return b"".join(part + b"\r\n" for part in parts)


def cut(octets: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(octets), *(place % (len(octets) + 1) for place in places)})
    return [octets[start:end] for start, end in itertools.pairwise(edges)]


@given(lines, st.lists(st.integers(0, 200)), st.booleans())
def test_stuffed_content_comes_back_as_it_was(parts: list[bytes], places: list[int], is_open: bool) -> None:
    """RFC 5321 §4.5.2, however the content is cut into buffers."""
    octets = clean(parts) + (b"end" if is_open else b"")
    wire = b"".join(stuffed([memoryview(piece) for piece in cut(octets, places)]))
    assert wire.endswith(b"\r\n.\r\n" if octets else b".\r\n")
    body = wire[: -len(b".\r\n")]
    assert not any(line == b"." for line in body.split(b"\r\n"))
    back = re.sub(rb"(^|\r\n)\.", rb"\1", body)
    assert back == octets + (b"\r\n" if is_open else b"")


@given(
    st.binary(max_size=60).map(lambda octets: octets.translate(bytes(b"\r\n.x"[value % 4] for value in range(256)))),
    st.lists(st.integers(0, 200)),
)
def test_bare_cr_and_lf_are_always_found(octets: bytes, places: list[int]) -> None:
    is_clean = not re.search(rb"(?<!\r)\n|\r(?!\n)", octets)
    pieces = cut(octets, places)
    if is_clean:
        assert b"".join(stuffed(pieces))
        return
    with pytest.raises(UncleanContent):
        list(stuffed(pieces))
    with pytest.raises(UncleanContent):
        [list(chunk) for chunk in chunks(pieces, size=look_at(pieces).size, is_binary=False)]


@given(st.binary(max_size=60), st.lists(st.integers(0, 200)))
def test_traits(octets: bytes, places: list[int]) -> None:
    traits = look_at(cut(octets, places))
    header = octets if octets.startswith(b"\r\n") else octets.partition(b"\r\n\r\n")[0]
    assert traits.is_ascii == octets.isascii()
    if not octets.startswith(b"\r\n"):
        assert traits.has_ascii_header == header.isascii()
    assert traits.lacks_final_crlf == (octets != b"" and not octets.endswith(b"\r\n"))
    assert traits.size == len(octets) + 2 * traits.lacks_final_crlf


def test_traits_over_slices() -> None:
    header = b"A: b\r\n" * (CONTENT_SLICE // 6)
    for filler in range(6):
        content = b"x" * filler + header + b"\r\n" + "ø\r\n".encode()
        traits = look_at([content])
        assert traits.has_ascii_header
        assert not traits.is_ascii
    assert look_at([b"\r\n", b"\xff"]).has_ascii_header


@given(st.integers(0, 40), st.booleans(), st.booleans())
def test_chunks_say_exactly_what_they_carry(count: int, is_open: bool, is_binary: bool) -> None:
    """RFC 3030 §2: "Correct byte counting is essential"."""
    octets = clean([b"x" * 7] * count) + (b"end" if is_open else b"")
    size = len(octets) if is_binary else look_at([octets]).size
    wire = b"".join(bytes(piece) for chunk in chunks([octets], size=size, is_binary=is_binary) for piece in chunk)
    command, _, body = wire.partition(b"\r\n")
    assert command == b"BDAT %d LAST" % size
    assert len(body) == size
    assert body == octets + (b"\r\n" if is_open and not is_binary else b"")


# --- BDAT in a session ----------------------------------------------------------------------------

BIG = (b"x" * 77 + b"\n").replace(b"\n", b"\r\n")
GROUP = "C: MAIL FROM:<alice@alice.test>\nC: RCPT TO:<bob@bob.test>\nS: 250 a\nS: 250 b"


def big(size: int) -> bytes:
    return BIG * (size // len(BIG) + 1)


def bdat(script: Script) -> tuple[bytes, bytes]:
    command, _, body = script.hear().partition(b"\r\n")
    return command, body


def test_small_letters_use_data_and_large_ones_bdat() -> None:
    script = begin(ready("PIPELINING", "CHUNKING"))
    assert script.hear().endswith(b"DATA\r\n")
    content = big(BDAT_WORTHWHILE)
    script = begin(ready("PIPELINING", "CHUNKING"), content=[content])
    script.play(GROUP)
    command, body = bdat(script)
    assert command == b"BDAT %d LAST" % len(content)
    assert body == content
    assert script.engine.wait_limit() == 600.0
    assert statuses(script.answer(b"250 ok\r\n")) == ["2.0.0"]
    begin(script)
    assert script.hear().startswith(b"MAIL")


def test_bdat_in_several_chunks_waits_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    content = big(2 * BDAT_CHUNK)
    script = begin(ready("PIPELINING", "CHUNKING"), content=[memoryview(content)])
    script.play(GROUP)
    got = b""
    for number, expected in enumerate((BDAT_CHUNK, BDAT_CHUNK, len(content) - 2 * BDAT_CHUNK)):
        command, body = bdat(script)
        assert command == b"BDAT %d%s" % (expected, b" LAST" if number == 2 else b"")
        assert len(body) == expected
        got += body
        events = script.answer(b"250 ok\r\n")
    assert got == content
    assert statuses(events) == ["2.0.0"]


def test_a_refused_chunk_is_the_last_one() -> None:
    """RFC 3030 §2: no more BDAT after it, and RSET before the next letter."""
    script = begin(ready("PIPELINING", "CHUNKING"), content=[big(2 * BDAT_CHUNK)])
    script.play(GROUP)
    bdat(script)
    assert statuses(script.answer(b"452 4.3.1 disk full\r\n")) == ["4.3.1"]
    assert script.hear() == b""
    begin(script)
    assert script.hear().startswith(b"RSET\r\nMAIL")


def test_no_chunk_for_nobody() -> None:
    script = begin(ready("CHUNKING"), content=[big(BDAT_WORTHWHILE)])
    events = script.play("C: MAIL FROM:<alice@alice.test>\nS: 250 a\nC: RCPT TO:<bob@bob.test>\nS: 550 5.1.1 who?")
    assert statuses(events) == ["5.1.1"]
    assert script.hear() == b""


def test_a_server_that_does_not_know_bdat_gets_data() -> None:
    """Filters in between pass CHUNKING on and do not know BDAT; accepted recipients are asked again."""
    content = big(BDAT_WORTHWHILE)
    script = begin(ready("PIPELINING", "CHUNKING"), envelope("bob@bob.test", "carol@bob.test"), [content])
    script.play(
        "C: MAIL FROM:<alice@alice.test>\nC: RCPT TO:<bob@bob.test>\nC: RCPT TO:<carol@bob.test>\n"
        "S: 250 a\nS: 550 5.1.1 who\nS: 250 c"
    )
    bdat(script)
    script.play("S: 502 5.5.1 what?\nC: RSET\nC: MAIL FROM:<alice@alice.test>\nC: RCPT TO:<carol@bob.test>\nC: DATA")
    script.play("S: 250 a\nS: 250 b\nS: 250 c\nS: 354 go")
    assert script.hear() == content + b".\r\n"
    assert statuses(script.answer(b"250 ok\r\n")) == ["5.1.1", "2.0.0"]
    assert script.engine.bdat_failed
    begin(script, content=[content])
    assert script.hear().endswith(b"DATA\r\n")


def test_bdat_refused_as_unknown_while_the_chunk_leaves_defers_the_letter() -> None:
    """The 502 is about the command: the letter goes with DATA at the next attempt, it is not returned."""
    script = begin(ready("PIPELINING", "CHUNKING"), content=[big(3 * BDAT_WORTHWHILE)])
    script.play(GROUP)
    assert script.engine.data_to_send()  # the first slices, not all of the chunk
    assert statuses(script.answer(b"502 5.5.1 what?\r\n")) == ["4.5.0"]
    assert script.engine.bdat_failed
    assert script.engine.phase is Phase.CLOSED


def test_a_connection_lost_at_bdat_is_a_hint() -> None:
    script = begin(ready("PIPELINING", "CHUNKING"), content=[big(BDAT_WORTHWHILE)])
    script.play(GROUP)
    bdat(script)
    script.engine.receive_data(b"")
    assert statuses(script.pull()) == ["4.4.2"]
    assert script.engine.bdat_failed


def test_hosts_known_for_it_get_no_bdat() -> None:
    script = begin(ready("PIPELINING", "CHUNKING", may_bdat=False), content=[big(BDAT_WORTHWHILE)])
    assert script.hear().endswith(b"DATA\r\n")
    assert not script.engine.bdat_failed


def test_unclean_content_ends_a_bdat_in_the_middle() -> None:
    script = begin(ready("PIPELINING", "CHUNKING"), content=[big(BDAT_WORTHWHILE) + b"\n.\r\n"])
    script.play(GROUP)
    script.hear()
    assert statuses(script.pull()) == ["5.6.0"]
    assert script.engine.phase is Phase.CLOSED


def test_large_content_is_handed_out_piece_by_piece() -> None:
    """Memory per connection is a few slices, however large the letter."""
    content = big(20 * CONTENT_SLICE)
    for keywords in (("PIPELINING",), ("PIPELINING", "CHUNKING")):
        script = begin(ready(*keywords), content=[content])
        script.hear()
        script.answer(b"250 a\r\n250 b\r\n" + (b"" if "CHUNKING" in keywords else b"354 c\r\n"))
        while pieces := script.engine.data_to_send():
            assert sum(len(piece) for piece in pieces) <= 5 * CONTENT_SLICE
        assert statuses(script.answer(b"250 ok\r\n")) == ["2.0.0"]
    assert client_content.CONTENT_SLICE == CONTENT_SLICE
