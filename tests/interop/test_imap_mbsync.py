# SPDX-License-Identifier: Apache-2.0
"""mbsync makes a tree of maildirs and an account the same: letters, flags, deletions and mailboxes, both ways."""

from __future__ import annotations

from pathlib import Path

import pytest

from .imap_mbsync import Mbsync, without_mark
from .imap_server import SENDER, SPECIAL, TLS, Person, done, quoted, subject_of
from .letters import ATTACHMENT, assert_carries, letter

pytestmark = pytest.mark.interop

UMLAUT = "Entw&APw-rfe"  # "Entwürfe", as it crosses the wire and as this client keeps it


def sides(mbsync: Mbsync, person: Person) -> dict[str, list[object]]:
    """What the client has of each mailbox, when the server has the very same."""
    names = mbsync.mailboxes()
    assert names == person.mailboxes()
    for name in names:
        kept = person.letters(name)
        # It copies a letter with the field that it finds it by, and leaves the field there.
        assert sorted(mbsync.letters(name)) == sorted(without_mark(each.octets) for each in kept), name
        flags = {frozenset((subject_of(each.octets), *each.flags)) for each in kept}
        assert {frozenset((name, *flags)) for name, flags in mbsync.flags(name).items()} == flags, name
    return {name: [(each.uid, each.flags, each.octets) for each in person.letters(name)] for name in sorted(names)}


@pytest.mark.parametrize("tls", TLS)
def test_both_ways(person: Person, tmp_path: Path, tls: str) -> None:
    arrived = [letter(f"number {n}", SENDER, person.login, attachment=ATTACHMENT * (n == 1)) for n in range(3)]
    person.deliver(*arrived)
    for name in ("Projects", "Projects/2024", UMLAUT, "Short lived"):
        person.create(name)
    person.append("Projects/2024", letter("a plan", person.login, SENDER), "\\Seen \\Flagged")
    person.append("Drafts", letter("a draft", person.login, SENDER), "\\Draft \\Seen")

    mbsync = Mbsync(tmp_path / "mbsync", person, tls=tls)
    mbsync.sync()
    assert mbsync.mailboxes() == {"INBOX", *SPECIAL, "Projects", "Projects/2024", UMLAUT, "Short lived"}
    for octets, sent in zip(mbsync.letters(), arrived, strict=True):
        assert_carries(octets, sent)
    assert mbsync.flags("Projects/2024") == {"a plan": {"\\Seen", "\\Flagged"}}
    first = sides(mbsync, person)
    mbsync.sync()
    assert sides(mbsync, person) == first, "a second one moves nothing"

    # On both sides at once: flags, a letter more, a letter less, a mailbox more, a mailbox less.
    mbsync.mark("number 0", "FS")
    mbsync.mark("number 1", "T")
    mbsync.put("1.near.here", letter("from the client", person.login, SENDER))
    mbsync.put("2.near.here", letter("filed", person.login, SENDER), "Fresh")
    mbsync.put("3.near.here", letter("filed below", person.login, SENDER), "Fresh/Deep")
    person.store("number 2", "+FLAGS", "\\Answered")
    person.deliver(letter("number 3", SENDER, person.login))
    person.expunge("a draft", "Drafts")
    person.create("Of the server")
    with person.imap() as imap:
        done(imap.delete(quoted("Short lived")))
    mbsync.sync()
    second = sides(mbsync, person)
    assert set(second) == set(first) - {"Short lived"} | {"Fresh", "Fresh/Deep", "Of the server"}
    assert set(person.subjects()) == {"number 0", "number 2", "number 3", "from the client"}
    assert person.flags("number 0") == {"\\Seen", "\\Flagged"}
    assert person.flags("number 2") == {"\\Answered"}
    assert person.letters("Drafts") == []
    assert mbsync.files("Drafts") == []
    mbsync.sync()
    assert sides(mbsync, person) == second


def test_five_hundred_letters(person: Person, tmp_path: Path) -> None:
    """It sends its commands without waiting for the answers, and has as many at once as it likes."""
    mbsync = Mbsync(tmp_path / "mbsync", person)
    mbsync.sync()
    for number in range(500):
        mbsync.put(f"{number}.near.here", letter(f"number {number}", SENDER, person.login))
    mbsync.sync()
    assert sorted(person.subjects()) == sorted(f"number {number}" for number in range(500))
    for number in range(0, 500, 2):
        mbsync.mark(f"number {number}", "FS" if number % 4 else "T")
    with person.imap("INBOX") as imap:
        done(imap.store("400:450", "+FLAGS", "(\\Answered)"))
    mbsync.sync()
    sides(mbsync, person)
    assert len(person.letters()) == 500 - 125
