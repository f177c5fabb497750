# SPDX-License-Identifier: Apache-2.0
"""Python's imaplib: every command that it knows."""

from __future__ import annotations

import imaplib
import ssl

import pytest

from .imap_server import SENDER, SPECIAL, TLS, Person, done
from .letters import assert_carries, letter
from .programs import PATIENCE

pytestmark = pytest.mark.interop


def connect(person: Person, tls: str) -> imaplib.IMAP4:
    context = ssl.create_default_context(cafile=str(person.server.certificate))
    if tls == "implicit":
        return imaplib.IMAP4_SSL("localhost", person.port(tls), ssl_context=context, timeout=PATIENCE)
    imap = imaplib.IMAP4("localhost", person.port(tls), timeout=PATIENCE)
    done(imap.starttls(context))
    return imap


@pytest.mark.parametrize("tls", TLS)
def test_every_command(person: Person, tls: str) -> None:
    sent = [letter(f"number {n}", SENDER, person.login) for n in range(4)]
    person.deliver(*sent)
    with connect(person, tls) as imap:
        secret = f"\0{person.login}\0{person.password}".encode()
        imap.authenticate("PLAIN", lambda challenge: secret if not challenge else None)
        assert "IMAP4REV1" in done(imap.capability())[0].decode().upper()
        assert done(imap.select()) == [b"4"]
        assert imap.response("UIDNEXT")[1] == [b"5"]
        done(imap.check())
        assert done(imap.search(None, "ALL")) == [b"1 2 3 4"]
        assert done(imap.uid("SEARCH", "UID", "2:3")) == [b"2 3"]
        [(head, octets), _] = done(imap.fetch("1", "(FLAGS RFC822.SIZE BODY.PEEK[])"))
        assert f"RFC822.SIZE {len(octets)} ".encode() in head
        assert_carries(octets, sent[0])
        done(imap.store("1:2", "+FLAGS", "(\\Flagged)"))
        done(imap.copy("1:2", "Archive"))
        done(imap.create("Boxes"))
        done(imap.subscribe("Boxes"))
        assert any(b"Boxes" in line for line in done(imap.lsub()))
        done(imap.unsubscribe("Boxes"))
        assert not any(b"Boxes" in (line or b"") for line in done(imap.lsub('""', "Box*")))
        done(imap.append("Boxes", "(\\Draft)", None, letter("a draft", person.login, SENDER)))
        assert done(imap.status("Boxes", "(MESSAGES UNSEEN)"))[0].endswith(b"(MESSAGES 1 UNSEEN 1)")
        done(imap.rename("Boxes", "Crates"))
        assert done(imap.list('""', "Crates"))[0].endswith(b"Crates")
        assert done(imap.sort("(REVERSE SUBJECT)", "UTF-8", "ALL")) == [b"4 3 2 1"]
        assert done(imap.thread("REFERENCES", "UTF-8", "ALL"))[0].count(b"(") == 4
        done(imap.namespace())
        done(imap.noop())
        done(imap.store("1:3", "+FLAGS.SILENT", "(\\Deleted)"))
        assert len(done(imap.expunge())) == 3
        done(imap.delete("Crates"))
        assert imap.select("Crates")[0] == "NO"
        done(imap.select("Archive", readonly=True))
        assert done(imap.search(None, "FLAGGED")) == [b"1 2"]
        done(imap.unselect())
        done(imap.select())
        done(imap.store("1", "+FLAGS", "(\\Deleted)"))
        done(imap.close())
    assert person.letters() == []
    assert person.mailboxes() == {"INBOX", *SPECIAL}


def test_a_wrong_password(person: Person) -> None:
    with connect(person, "implicit") as imap:
        with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
            imap.login(person.login, "wrong")
        imap.login(person.login, person.password)
        done(imap.select())


@pytest.mark.parametrize("person", ["posthouse"], indirect=True)
def test_utf8_accept(person: Person) -> None:
    """RFC 6855: names and search keys in UTF-8 as they are. (Its APPEND puts UTF8 inside the literal.)"""
    sent = b"From: zoe@elsewhere.test\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\nx\r\n"
    person.append("Archive", sent)
    with connect(person, "implicit") as imap:
        imap.login(person.login, person.password)
        done(imap.enable("UTF8=ACCEPT"))
        done(imap.create('"Entwürfe"'))
        assert any("Entwürfe".encode() in line for line in done(imap.list()))
        done(imap.select("Archive"))
        done(imap.copy("1", '"Entwürfe"'))
        done(imap.select('"Entwürfe"'))
        assert done(imap.search(None, 'SUBJECT "Grüße"')) == [b"1"]
        [(_, octets), _] = done(imap.fetch("1", "(BODY[])"))
        assert octets == sent
    assert "Entw&APw-rfe" in person.mailboxes()
