# SPDX-License-Identifier: Apache-2.0
"""gzip, zip or plain, and never more than the limit."""

from __future__ import annotations

import contextlib
import gzip
import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mailauth.unpacking import MAX_ENTRIES, ReportFault, unpacked

TEXT = b"<feedback>" + b"x" * 1000 + b"</feedback>"
LIMIT = 5000
MADE = (2027, 1, 15, 0, 0, 0)


def packed(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def zipped(*files: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files:
            archive.writestr(zipfile.ZipInfo(name, MADE), content, method)
    return buffer.getvalue()


class Stream(io.BytesIO):
    """Cannot go back, as a pipe: sizes come behind the content."""

    def seekable(self) -> bool:
        return False


def streamed(content: bytes) -> bytes:
    stream = Stream()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("a.xml", MADE), content, zipfile.ZIP_DEFLATED)
    return stream.getvalue()


@pytest.mark.parametrize(
    "octets",
    [
        TEXT,
        packed(TEXT),
        packed(TEXT) + b"\r\n",
        packed(TEXT) + packed(b"more"),
        zipped(("a.xml", TEXT)),
        zipped(("a.xml", TEXT), method=zipfile.ZIP_STORED),
        zipped(("folder/", b""), ("folder/a.xml", TEXT)),
        streamed(TEXT),
    ],
)
def test_every_form(octets: bytes) -> None:
    assert unpacked(octets, LIMIT) == TEXT


@pytest.mark.parametrize(
    "octets",
    [
        b"x" * (LIMIT + 1),
        packed(b"\0" * 50_000_000),
        zipped(("a.xml", b"\0" * 50_000_000)),
        zipped(("a.xml", b"x" * (LIMIT + 1)), method=zipfile.ZIP_STORED),
        streamed(b"\0" * 50_000_000),
    ],
)
def test_bombs(octets: bytes) -> None:
    with pytest.raises(ReportFault, match="larger"):
        unpacked(octets, LIMIT)


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (packed(TEXT)[:-9], "cut off"),
        (packed(TEXT)[:-6] + b"\0" * 6, "unpacked"),
        (b"\x1f\x8b", "cut off"),
        (b"\x1f\x8b" + b"\xff" * 40, "unpacked"),
        (zipped(("a.xml", TEXT))[:40], "cut off"),
        (b"PK\x03\x04", "cut off"),
        (zipped(("a.xml", b"")), "empty"),
        (zipped(*((f"{n}", b"") for n in range(MAX_ENTRIES + 1))), "empty"),
        (zipped(("a.xml", TEXT), method=zipfile.ZIP_BZIP2), "known"),
        (zipped(("a.xml", TEXT), method=zipfile.ZIP_STORED).replace(b"x" * 10, b"y" * 10, 1), "check sum"),
    ],
)
def test_damage(octets: bytes, why: str) -> None:
    with pytest.raises(ReportFault, match=why):
        unpacked(octets, LIMIT)


def test_an_encrypted_file_is_told() -> None:
    octets = bytearray(zipped(("a.xml", TEXT)))
    octets[6] |= 1
    with pytest.raises(ReportFault, match="encrypted"):
        unpacked(bytes(octets), LIMIT)


@given(st.binary(max_size=200), st.sampled_from([b"", b"\x1f\x8b\x08", b"PK\x03\x04"]))
def test_anything_else_is_a_fault_or_itself(octets: bytes, start: bytes) -> None:
    with contextlib.suppress(ReportFault):
        assert len(unpacked(start + octets, LIMIT)) <= LIMIT


@given(st.binary(max_size=LIMIT))
def test_there_and_back(content: bytes) -> None:
    assert unpacked(packed(content), LIMIT) == content
    if content:
        assert unpacked(zipped(("a", content)), LIMIT) == content
