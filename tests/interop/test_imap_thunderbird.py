# SPDX-License-Identifier: Apache-2.0
"""Thunderbird without a window: what a person does in it, and what it learns while it looks."""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path

import pytest

from .imap_server import SENDER, SPECIAL, TLS, Person
from .imap_thunderbird import open_thunderbird
from .letters import ATTACHMENT, letter
from .programs import wait_until

pytestmark = pytest.mark.interop

# nsMsgFolderFlags.idl
USES = {"Drafts": 0x400, "Sent": 0x200, "Archive": 0x4000, "Junk": 0x40000000, "Trash": 0x100}
FIRST = """
await until(() => folder("INBOX"));
folder("INBOX").getNewMessages(window, null);
await until(() => folder("Trash") && letters("INBOX").length == args[0]);
"""


@pytest.mark.parametrize("tls", TLS)
def test_thunderbird(person: Person, tmp_path: Path, tls: str) -> None:
    sent = [letter(f"number {n}", SENDER, person.login, attachment=ATTACHMENT * (n == 1)) for n in range(5)]
    person.deliver(*sent)
    before = person.letters()
    with open_thunderbird(person, tmp_path, tls=tls) as thunderbird:
        thunderbird.run(FIRST, 5)
        assert set(thunderbird.run("return folders().map((each) => each.name)")) == {"INBOX", *SPECIAL}
        flags = dict(thunderbird.run("return folders().map((each) => [each.name, each.flags])"))
        assert {name: flags[name] & use for name, use in USES.items()} == USES
        for number, kept in enumerate(before):
            found = b64decode(thunderbird.run("return await source('INBOX', args[0])", f"number {number}"))
            assert without_marks(found) == without_marks(kept.octets)

        # Read one, star one, tag one; a folder more; copy one and move one there; delete one.
        thunderbird.run('folder("INBOX").markMessagesRead([letter("INBOX", "number 0")], true)')
        thunderbird.run('folder("INBOX").markMessagesFlagged([letter("INBOX", "number 1")], true)')
        thunderbird.run('folder("INBOX").addKeywordsToMessages([letter("INBOX", "number 1")], "$label1")')
        wait_until(lambda: "\\Seen" in person.flags("number 0"), "the read mark")
        wait_until(lambda: {"\\Flagged", "$label1"} <= person.flags("number 1"), "the star and the tag")
        thunderbird.run(
            'server.rootFolder.createSubfolder("Über 驿站", window); await until(() => folder("Über 驿站"))'
        )
        copy = """
            const done = copied();
            MailServices.copy.copyMessages(folder("INBOX"), [letter("INBOX", args[0])], folder("Über 驿站"), args[1],
                                           done.listener, window, false);
            await done.promise;
        """
        thunderbird.run(copy, "number 2", False)
        thunderbird.run(copy, "number 3", True)
        thunderbird.run(
            'folder("INBOX").deleteMessages([letter("INBOX", "number 4")], window, false, false, null, false)'
        )
        wait_until(lambda: person.subjects("Trash") == ["number 4"], "the letter in Trash")
        name = "&ANw-ber &mn962Q-"  # as it crosses the wire
        assert sorted(person.subjects(name)) == ["number 2", "number 3"]
        assert {kept.octets for kept in person.letters(name)} == {before[2].octets, before[3].octets}

        # What comes while it idles, and what another client does.
        person.deliver(letter("meanwhile", SENDER, person.login))
        thunderbird.run('await until(() => letter("INBOX", "meanwhile"))')
        person.store("meanwhile", "+FLAGS", "\\Flagged \\Seen")
        thunderbird.run(
            'await until(() => letter("INBOX", "meanwhile").isFlagged && letter("INBOX", "meanwhile").isRead)'
        )
        wait_until(lambda: len(person.letters()) == 4, "the letters that are left")
        person.expunge("number 2")
        thunderbird.run('await until(() => !letter("INBOX", "number 2"))')

        # A letter of its own.
        (tmp_path / "draft.eml").write_bytes(letter("a draft", person.login, SENDER))
        thunderbird.run(
            """
            const done = copied(), file = Cc["@mozilla.org/file/local;1"].createInstance(Ci.nsIFile);
            file.initWithPath(args[0]);
            MailServices.copy.copyFileMessage(file, folder("Drafts"), null, true, 1, "", done.listener, window);
            await done.promise;
            """,
            str(tmp_path / "draft.eml"),
        )
    [draft] = person.letters("Drafts")
    assert without_marks(draft.octets) == without_marks((tmp_path / "draft.eml").read_bytes())
    assert person.subjects() == ["number 0", "number 1", "meanwhile"]


def without_marks(octets: bytes) -> bytes:
    """Without the fields that it keeps its own state in, and with lines as it has them."""
    lines = octets.replace(b"\r\n", b"\n").split(b"\n")
    return b"\n".join(line for line in lines if not line.startswith(b"X-Mozilla-"))


def test_back_after_a_while(person: Person, tmp_path: Path) -> None:
    """It closes, things happen, and it opens again with what it remembers."""
    person.deliver(*(letter(f"number {n}", SENDER, person.login) for n in range(20)))
    with open_thunderbird(person, tmp_path) as thunderbird:
        thunderbird.run(FIRST, 20)
    person.store("number 7", "+FLAGS", "\\Flagged")
    person.expunge("number 5")
    person.deliver(letter("since then", SENDER, person.login))
    with open_thunderbird(person, tmp_path) as thunderbird:
        thunderbird.run(FIRST + 'await until(() => letter("INBOX", "since then"))', 20)
        found = thunderbird.run('return letters("INBOX").map((each) => [each.mime2DecodedSubject, each.isFlagged])')
    numbers = [number for number in range(20) if number != 5]
    assert sorted(map(tuple, found)) == sorted(
        [*((f"number {number}", number == 7) for number in numbers), ("since then", False)]
    )
