# SPDX-License-Identifier: Apache-2.0
"""The manifest of a backup: whatever lies in its place is a manifest or ArchiveFault."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from fuzz.choices import Choices
from posthouse.services.archive import Archive, ArchiveFault

DICTIONARY = "manifest.dict"


class _Disk:
    """Every file holds the same."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    def map(self, _path: Path) -> memoryview:
        return memoryview(self._octets)

    def read(self, _path: Path, offset: int, length: int) -> bytes:
        return self._octets[offset : offset + length]


def target(data: bytes) -> None:
    choices = Choices(data)
    is_signed = choices.flag()
    octets = choices.rest
    if is_signed:  # a right digest, so that what is behind it is reached
        octets = b'{"digest":"%s","manifest":%s}' % (sha256(octets).hexdigest().encode(), octets)
    disk: Any = _Disk(octets)
    try:
        manifest = Archive(Path("/backup"), disk).load("20261123T000000Z")
    except ArchiveFault as fault:
        said = str(fault)
        said.encode()
        return
    assert all(pack.held >= 0 for pack in manifest.packs)
    names = [stretch.name for pack in manifest.packs for stretch in pack.stretches]
    names += [entry.digest for entry in (manifest.database, *manifest.files)]
    assert not any("/" in name for name in [manifest.generation, *names]), "a name leads out of the backups' folder"
    datetime.fromtimestamp(manifest.taken_at, UTC).isoformat()
