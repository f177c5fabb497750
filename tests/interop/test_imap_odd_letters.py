# SPDX-License-Identifier: Apache-2.0
"""Odd letters come back octet for octet, and no client stumbles over what the server says about them."""

from __future__ import annotations

from pathlib import Path

import pytest

from .imap_library import open_imapflow
from .imap_mbsync import Mbsync, without_mark
from .imap_odd_letters import LETTERS
from .imap_server import Person
from .imap_thunderbird import open_thunderbird
from .test_imap_imapclient import connected

pytestmark = pytest.mark.interop

POSTHOUSE = pytest.mark.parametrize("person", ["posthouse"], indirect=True)


@pytest.fixture
def odd(person: Person) -> Person:
    with connected(person) as client:
        for octets in LETTERS.values():
            client.append("INBOX", octets)
    return person


@POSTHOUSE
def test_imapclient(odd: Person) -> None:
    with connected(odd) as client:
        client.select_folder("INBOX", readonly=True)
        items = ["BODY.PEEK[]", "RFC822.SIZE", "ENVELOPE", "BODYSTRUCTURE", "BODY.PEEK[HEADER]", "BODY.PEEK[TEXT]"]
        found = client.fetch(client.search(), [*items, "BODY.PEEK[1]", "BODY.PEEK[1.MIME]", "BODY.PEEK[2.1.1]"])
        for (name, octets), told in zip(LETTERS.items(), found.values(), strict=True):
            assert told[b"BODY[]"] == octets, name
            assert told[b"RFC822.SIZE"] == len(octets), name
            assert told[b"BODY[HEADER]"] + told[b"BODY[TEXT]"] == octets, name
            assert told[b"BODYSTRUCTURE"], name
            assert told[b"ENVELOPE"] is not None, name
        subjects = {name: told[b"ENVELOPE"].subject for name, told in zip(LETTERS, found.values(), strict=True)}
        assert subjects["no header"] is None
        assert subjects["two subjects"] == b"first"
        assert subjects["quotes"] == b'"quotes" \\ {5}'


@POSTHOUSE
def test_imapflow(odd: Person) -> None:
    query = dict.fromkeys(("envelope", "bodyStructure", "source", "size", "headers", "emailId", "threadId"), True)
    with open_imapflow(odd) as imapflow:
        imapflow.call("mailboxOpen", "INBOX")
        found = imapflow.call("fetchAll", "1:*", query)
        for (name, octets), told in zip(LETTERS.items(), found, strict=True):
            assert told["source"] == octets, name
            assert told["bodyStructure"]["type"], name
        assert len({told["emailId"] for told in found}) == len(LETTERS)
        structures = dict(zip(LETTERS, (told["bodyStructure"] for told in found), strict=True))
        assert structures["letter in a part"]["childNodes"][0]["childNodes"][0]["type"] == "text/html"
        for number, name in enumerate(LETTERS, 1):
            content = imapflow.call("download", str(number), "1")
            assert content is not None, name


@POSTHOUSE
def test_mbsync(odd: Person, tmp_path: Path) -> None:
    """To the client, and back under another name. It takes no letter whose header does not end."""
    mbsync = Mbsync(tmp_path / "mbsync", odd)
    assert "incomplete header; skipping" in mbsync.sync()
    assert len(mbsync.letters()) == len(LETTERS) - 1
    for number, path in enumerate(mbsync.files()):
        mbsync.put(f"{number}.again.here", path.read_bytes(), "Again")
    assert "returned an error" not in mbsync.sync()
    again = [without_mark(kept.octets) for kept in odd.letters("Again")]
    assert again == [octets for name, octets in LETTERS.items() if name != "no end of the header"]


@POSTHOUSE
def test_thunderbird(odd: Person, tmp_path: Path) -> None:
    """It lists them all."""
    with open_thunderbird(odd, tmp_path) as thunderbird:
        thunderbird.run(
            """
            await until(() => folder("INBOX"));
            folder("INBOX").getNewMessages(window, null);
            await until(() => letters("INBOX").length == args[0]);
            """,
            len(LETTERS),
        )
        found = thunderbird.run('return letters("INBOX").map((each) => each.mime2DecodedSubject)')
    assert {"header only", "not a field", "long line", "nested"} <= set(found)
