# SPDX-License-Identifier: Apache-2.0
"""Whatever a client says to the IMAP server engine: no exception, bounded memory, the same story however it is cut.

What stands behind `<Z>` in the input is compressed before it is said.
"""

from __future__ import annotations

import zlib
from functools import partial

from fuzz.choices import Choices
from fuzz.imap_house import House
from fuzz.server_session import play
from posthouse.protocol.imap.admission import Terms
from posthouse.protocol.imap.client import ImapClient
from posthouse.protocol.imap.server import ImapServer

DICTIONARY = "imap.dict"
_NOT_COMPRESSED = b"That is not compressed\r\n"


class _Squeezed(Choices):
    @property
    def rest(self) -> bytes:
        plain, _, packed = super().rest.partition(b"<Z>")
        if not packed:
            return plain
        stream = zlib.compressobj(1, zlib.DEFLATED, -15)
        return plain + stream.compress(packed) + stream.flush(zlib.Z_SYNC_FLUSH)


def target(data: bytes) -> None:
    once = _play(data, is_cut=False)
    again = _play(data, is_cut=True)
    _can_be_read(once.said)
    if once.said.endswith(_NOT_COMPRESSED) and again.said.endswith(_NOT_COMPRESSED):
        return  # how much is understood before the fault in a stream depends on its pieces
    assert once.heard == again.heard, "what is understood depends on how the network cuts it"
    assert once.said == again.said
    assert once.letters == again.letters


def _can_be_read(said: bytes) -> None:
    """Our client understands every response of our server."""
    client = ImapClient()
    client._is_greeted = True
    client.receive_data(said)
    while (response := client._reader.next_response()) is not None:
        line = response.lines[0]
        if line.startswith(b"* ") and not line.startswith((b"* OK", b"* BYE", b"* BAD", b"* NO")):
            client._take(response)
    assert client._reader.is_empty, "a response has no end"


def _play(data: bytes, *, is_cut: bool) -> House:
    choices = _Squeezed(data)
    bits = choices.number(256)
    terms = Terms(
        requires_tls=bits & 2 == 2, max_message_size=2000 if bits & 4 else 100_000, literal_minus=bits & 8 == 8
    )
    engine = ImapServer(terms, offers_tls=bits & 1 == 1)
    return play(choices, engine, partial(House, engine), is_cut=is_cut)
