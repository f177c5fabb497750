# SPDX-License-Identifier: Apache-2.0
"""A mailbox with letters of every kind, for the tests of searching, sorting and threading."""

from __future__ import annotations

from array import array
from functools import partial

from posthouse.mail.header import scan_header
from posthouse.ports import BlobLocation
from posthouse.services.mailbox.view import SelectedView
from posthouse.store import catalogue, letters
from posthouse.store.catalogue import Letters
from posthouse.store.letters import Place
from tests.store.letterbox import NOW, PREFIX, Box, letter
from tests.store.plain_database import PlainBlobs


class CountedBlobs:
    """A BlobStore that counts what is opened."""

    def __init__(self, blobs: PlainBlobs) -> None:
        self._blobs = blobs
        self.opened = 0

    async def open(self, location: BlobLocation) -> memoryview:
        self.opened += 1
        return await self._blobs.open(location)


def post(
    box: Box,
    raw: bytes,
    *,
    flags: int = 0,
    keywords: tuple[str, ...] = (),
    received_at: float = NOW,
    saved_at: float | None = None,
    header_size: int | None = None,
) -> int:
    """Put a letter (LF or CRLF) into the INBOX as delivery would; its UID."""
    octets = raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    scan = scan_header(octets)
    new = letter(
        octets,
        received_at=received_at,
        saved_at=saved_at,
        envelope_summary=scan.pack_envelope(),
        header_size=scan.header_size if header_size is None else header_size,
        message_id=scan.message_id,
        in_reply_to=scan.in_reply_to,
        references=tuple(scan.references),
        subject=scan.get(b"subject") or b"",
    )
    place = Place(box.account, box.id("INBOX"), PREFIX, flags, keywords)
    return box.db.run(lambda tx: letters.accept(tx, new, [place])).placed[0].uid


def all_of(box: Box) -> Letters:
    return box.db.look(partial(catalogue.page, mailbox=box.id("INBOX")))


def view_of(box: Box, uids: array[int] | None = None, **how: object) -> SelectedView:
    """A client that knows all, or these."""
    return SelectedView(box.id("INBOX"), all_of(box).uids if uids is None else uids, 1, **how)  # type: ignore[arg-type]
