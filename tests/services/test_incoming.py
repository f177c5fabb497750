# SPDX-License-Identifier: Apache-2.0
"""Content while it arrives: the same letter whatever its chunks, large ones through the spool."""

import hashlib

import pytest

from posthouse.outcome import Refusal
from posthouse.ports import BlobLocation
from posthouse.services.incoming import MAX_PIECES, SPOOL_ABOVE, IncomingLetter


class MemorySpool:
    def __init__(self) -> None:
        self.octets = b""
        self.is_discarded = False

    async def write(self, chunk: bytes) -> None:
        self.octets += chunk

    async def seal(self) -> BlobLocation:
        return BlobLocation(7, 0, len(self.octets))

    async def discard(self) -> None:
        self.is_discarded = True


class MemoryBlobs:
    def __init__(self) -> None:
        self.spools: list[MemorySpool] = []

    def spool(self) -> MemorySpool:
        self.spools.append(MemorySpool())
        return self.spools[-1]


HEADER = b"From: alice@alice.test\r\nSubject: x\r\n\r\n"


def pieces(octets: bytes, size: int) -> list[bytes]:
    return [octets[start : start + size] for start in range(0, len(octets), size)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(("body", "dots"), [(b"hello\r\n", False), (b"a\r\n.b\r\n", True), (b"a .b\r\n", False)])
async def test_small_letters_stay_in_memory_whatever_the_chunks(size: int, body: bytes, dots: bool) -> None:
    blobs = MemoryBlobs()
    incoming = IncomingLetter(blobs)
    for chunk in pieces(HEADER + body, size):
        await incoming.add(chunk)
    letter = await incoming.finish()
    assert letter.content.octets == HEADER + body
    assert letter.content.digest == b""  # computed by the unit of work
    assert letter.has_dot_lines is dots
    assert letter.scan.header_size == len(HEADER)
    assert not blobs.spools


@pytest.mark.parametrize("size", [1000, 65536, 262144 + 5])
async def test_large_letters_go_to_the_spool_whole(size: int) -> None:
    blobs = MemoryBlobs()
    whole = HEADER + b"0123456789abcdef\r\n" * 30000 + b".end\r\n"
    incoming = IncomingLetter(blobs)
    for chunk in pieces(whole, size):
        await incoming.add(chunk)
    letter = await incoming.finish()
    assert blobs.spools[0].octets == whole
    assert letter.content.sealed == BlobLocation(7, 0, len(whole))
    assert letter.content.digest == hashlib.sha256(whole).digest()
    assert letter.has_dot_lines
    assert letter.scan.get(b"subject") == b"x"


async def test_the_edited_header_is_what_is_kept_and_the_listener_gets_the_body_only() -> None:
    class Listener:
        seen = b""

        def update(self, chunk: bytes) -> None:
            self.seen += chunk

    for repeat in (1, 20000):
        blobs, listener = MemoryBlobs(), Listener()
        body = b"0123456789abcdef\r\n" * repeat
        incoming = IncomingLetter(blobs, edit_header=lambda header: b"X: 1\r\n" + header, body_listener=listener)
        for chunk in pieces(HEADER + body, 50000):
            await incoming.add(chunk)
        letter = await incoming.finish()
        kept = blobs.spools[0].octets if blobs.spools else letter.content.octets
        assert kept == b"X: 1\r\n" + HEADER + body
        assert listener.seen == body
        assert letter.scan.get(b"x") == b"1"


async def test_a_header_larger_than_the_bound_is_refused() -> None:
    incoming = IncomingLetter(MemoryBlobs())
    field = b"X: " + b"x" * 995 + b"\r\n"
    for _ in range(SPOOL_ABOVE // len(field)):
        await incoming.add(field)
    with pytest.raises(Refusal, match="header"):
        await incoming.add(field)


async def test_discard_ends_the_spool() -> None:
    blobs = MemoryBlobs()
    incoming = IncomingLetter(blobs)
    await incoming.add(HEADER + b"x" * SPOOL_ABOVE)
    await incoming.discard()
    assert blobs.spools[0].is_discarded


async def test_tiny_pieces_cost_no_more_memory_than_the_letter() -> None:
    """BDAT 2 again and again, or a segment per octet: an object for each piece would take twenty times its size."""
    incoming = IncomingLetter(MemoryBlobs())
    body = b"ab" * (10 * MAX_PIECES)
    for chunk in pieces(HEADER + body, 2):
        await incoming.add(chunk)
        assert len(incoming._chunks) <= MAX_PIECES
    assert (await incoming.finish()).content.octets == HEADER + body


# --- letters that their owner puts in -------------------------------------------------------------


@pytest.mark.parametrize("early", range(5))
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 1000])
async def test_the_end_of_a_header_without_bound_is_found_whatever_the_chunks(size: int, early: int) -> None:
    header = b"X: " + b"y" * (SPOOL_ABOVE + 10 - early) + b"\r\n\r\n"
    octets = header + b"body\r\n\r\nand more"
    incoming = IncomingLetter(MemoryBlobs(), takes_any_header=True)
    for chunk in [octets[:SPOOL_ABOVE], *pieces(octets[SPOOL_ABOVE:], size)]:
        await incoming.add(chunk)
    letter = await incoming.finish()
    assert letter.scan.header_size == len(header)
    assert letter.size == len(octets)


async def test_a_header_without_end_is_the_whole_letter() -> None:
    incoming = IncomingLetter(MemoryBlobs(), takes_any_header=True)
    octets = b"Subject: x\n\n" + b"line\n" * 100_000
    for chunk in pieces(octets, 65536):
        await incoming.add(chunk)
    letter = await incoming.finish()
    assert letter.scan.header_size == len(octets)


async def test_a_small_letter_can_be_spooled_too() -> None:
    blobs = MemoryBlobs()
    incoming = IncomingLetter(blobs)
    await incoming.add(HEADER + b"body")
    await incoming.spool()
    await incoming.spool()
    letter = await incoming.finish()
    assert [spool.octets for spool in blobs.spools] == [HEADER + b"body"]
    assert letter.content.sealed == BlobLocation(7, 0, len(HEADER) + 4)
    assert letter.content.digest == hashlib.sha256(HEADER + b"body").digest()
    assert letter.scan.header_size == len(HEADER)
