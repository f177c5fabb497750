# SPDX-License-Identifier: Apache-2.0
"""What a report comes packed in: gzip, zip or nothing, told by its first octets, whatever the letter calls it.

Invariant: never more than the limit is unpacked, and time is in proportion to what is read and what is unpacked; a
directory of a zip file, where it may say anything, is not read at all.
"""

from __future__ import annotations

import struct
import zlib

MAX_ENTRIES = 8  # of a zip file that are looked at; reports have one, some programs add a folder

_GZIP = b"\x1f\x8b"
_ZIP = b"PK\x03\x04"
_ENTRY = struct.Struct("<4sHHHHHIIIHH")  # APPNOTE 4.3.7, local file header
_ENCRYPTED, _SIZE_FOLLOWS = 0x1, 0x8  # bits of its flags
_STORED, _DEFLATED = 0, 8  # its methods
_DESCRIPTOR = 24  # octets that may stand between an entry's end and the next one (data descriptor, zip64)
_GZIP_FORM, _RAW_FORM = 31, -15  # zlib's words for the window


class ReportFault(ValueError):  # noqa: N818 - the house's word for what others do to us
    """Not a report that can be read; the text says why, in one line."""


def printable(text: str) -> str:
    """Without what a terminal would take for commands, and a database for the end of the text."""
    return text if text.isprintable() else "".join(each if each.isprintable() else "?" for each in text)


def unpacked(octets: bytes, limit: int) -> bytes:
    """Raises ReportFault: damaged, encrypted, or more than `limit` octets."""
    if octets.startswith(_GZIP):
        return _inflated(octets, limit, _GZIP_FORM)[0]
    if octets.startswith(_ZIP):
        return _first_file(octets, limit)
    if len(octets) > limit:
        raise ReportFault(f"larger than {limit} octets")
    return octets


def _inflated(octets: bytes | memoryview, limit: int, form: int) -> tuple[bytes, int]:
    """The content, and how many octets were read for it; what stands behind its end is nobody's business."""
    machine = zlib.decompressobj(form)
    try:
        found = machine.decompress(octets, limit + 1)
    except zlib.error as error:
        raise ReportFault(f"cannot be unpacked: {error}") from None
    if len(found) > limit:
        raise ReportFault(f"larger than {limit} octets when unpacked")
    if not machine.eof:
        raise ReportFault("cut off")
    return found, len(octets) - len(machine.unused_data)


def _first_file(octets: bytes, limit: int) -> bytes:
    """Of a zip file, the first that is not empty (folders are)."""
    at = 0
    for _ in range(MAX_ENTRIES):
        if len(octets) < at + _ENTRY.size:
            raise ReportFault("cut off")
        _, _, flags, method, _, _, check, size, _, name, extra = _ENTRY.unpack_from(octets, at)
        if flags & _ENCRYPTED:
            raise ReportFault("encrypted")
        start = at + _ENTRY.size + name + extra
        if method == _DEFLATED:
            content, read = _inflated(memoryview(octets)[start:], limit, _RAW_FORM)
            end = start + read
        elif method == _STORED and not flags & _SIZE_FOLLOWS:
            end = start + size
            if end > len(octets):
                raise ReportFault("cut off")
            if size > limit:
                raise ReportFault(f"larger than {limit} octets when unpacked")
            content = octets[start:end]
        else:
            raise ReportFault(f"packed in a way that is not known here ({method})")
        if not flags & _SIZE_FOLLOWS and zlib.crc32(content) != check:
            raise ReportFault("damaged: its check sum is wrong")
        if content:
            return content
        at = octets.find(_ZIP, end, end + _DESCRIPTOR + len(_ZIP))
        if at < 0:
            break
    raise ReportFault("an empty zip file")
