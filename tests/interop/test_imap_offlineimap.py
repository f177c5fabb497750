# SPDX-License-Identifier: Apache-2.0
"""OfflineIMAP makes a tree of maildirs and an account the same, both ways.

Not with STARTTLS: its library reads and writes one TLS connection from two threads, and each fortieth of its handshakes
fails, with every server.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from .imap_offlineimap import OfflineImap
from .imap_server import SENDER, SPECIAL, Person, subject_of
from .letters import ATTACHMENT, assert_carries, letter

pytestmark = pytest.mark.interop


def sides(client: OfflineImap, person: Person) -> dict[str, list[object]]:
    """What the client has of each mailbox, when the server has the very same."""
    assert client.mailboxes() == person.mailboxes()
    for name in client.mailboxes():
        kept = sorted(person.letters(name), key=lambda each: subject_of(each.octets))
        for octets, other in zip(client.letters(name), kept, strict=True):
            assert without_mark(octets) == without_mark(other.octets)
        assert client.flags(name) == {subject_of(each.octets): each.flags for each in kept}, name
    return {name: [(each.uid, each.flags, each.octets) for each in person.letters(name)] for name in person.mailboxes()}


def without_mark(octets: bytes) -> bytes:
    """Without the field by which it finds again what it uploaded to a server without UIDPLUS."""
    return b"\r\n".join(line for line in octets.split(b"\r\n") if not line.startswith(b"X-OfflineIMAP:"))


def test_both_ways(person: Person, tmp_path: Path) -> None:
    arrived = [letter(f"number {n}", SENDER, person.login, attachment=ATTACHMENT * (n == 1)) for n in range(3)]
    person.deliver(*arrived)
    person.create("Projects")
    person.create("Projects/2024")
    person.append("Projects/2024", letter("a plan", person.login, SENDER), "\\Seen \\Flagged")

    client = OfflineImap(tmp_path / "offlineimap", person)
    client.sync()
    assert client.mailboxes() == {"INBOX", *SPECIAL, "Projects", "Projects/2024"}
    for octets, sent in zip(client.letters(), arrived, strict=True):
        assert_carries(octets, sent)
    first = sides(client, person)
    client.sync()
    assert sides(client, person) == first, "a second one moves nothing"

    # On both sides at once: flags, a letter more, a letter less, a mailbox more.
    client.mark("number 0", "FS")
    client.remove("number 1")
    client.put("1.near.here", letter("from the client", person.login, SENDER))
    client.put("2.near.here", letter("filed", person.login, SENDER), "Fresh")
    person.store("number 2", "+FLAGS", "\\Answered")
    person.deliver(letter("number 3", SENDER, person.login))
    person.expunge("a plan", "Projects/2024")
    person.create("Of the server")
    client.sync()
    second = sides(client, person)
    assert set(second) == {*first, "Fresh", "Of the server"}
    assert set(person.subjects()) == {"number 0", "number 2", "number 3", "from the client"}
    assert person.flags("number 0") == {"\\Seen", "\\Flagged"}
    assert person.flags("number 2") == {"\\Answered"}
    assert person.letters("Projects/2024") == []
    client.sync()
    assert sides(client, person) == second
