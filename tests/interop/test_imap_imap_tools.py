# SPDX-License-Identifier: Apache-2.0
"""imap-tools: the story that its manual tells, over TLS of either kind."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import pytest

from .imap_library import load
from .imap_server import SENDER, SPECIAL, TLS, Person
from .letters import ATTACHMENT, BODY, letter
from .programs import PATIENCE

pytestmark = pytest.mark.interop


@contextlib.contextmanager
def opened(person: Person, tls: str = "implicit") -> Iterator[Any]:
    """Logged in, with INBOX selected."""
    kind = load("imap_tools").MailBox if tls == "implicit" else load("imap_tools").MailBoxStartTls
    context = ssl.create_default_context(cafile=str(person.server.certificate))
    with kind("localhost", person.port(tls), timeout=PATIENCE, ssl_context=context).login(
        person.login, person.password
    ) as box:
        yield box


@pytest.mark.parametrize("tls", TLS)
def test_letters(person: Person, tls: str) -> None:
    person.deliver(*(letter(f"number {n}", SENDER, person.login, attachment=ATTACHMENT * (n == 1)) for n in range(3)))
    tools = load("imap_tools")
    with opened(person, tls) as box:
        assert [message.subject for message in box.fetch(mark_seen=False)] == [f"number {n}" for n in range(3)]
        newest = [message.subject for message in box.fetch(reverse=True, bulk=True, headers_only=True, mark_seen=False)]
        assert newest == ["number 2", "number 1", "number 0"]
        assert [message.flags for message in box.fetch(tools.AND(seen=False), mark_seen=True, bulk=2)] != []
        assert len(box.uids(tools.AND(seen=True))) == 3
        [message] = box.fetch(tools.AND(subject="number 1"))
        assert message.from_ == SENDER
        assert message.text.replace("\r\n", "\n").strip("\n") == BODY.replace("\r\n", "\n").strip("\n")
        [attachment] = message.attachments
        assert (attachment.filename, attachment.size) == ("data.bin", ATTACHMENT)
        assert message.size_rfc822 > ATTACHMENT
        assert message.date == datetime(2024, 2, 29, 8, 30, tzinfo=UTC)

        assert box.uids(tools.OR(subject=["number 0", "number 2"])) == ["1", "3"]
        assert box.uids(tools.AND(tools.NOT(subject="number 0"), date_gte=date(2024, 1, 1))) == ["2", "3"]
        assert box.uids(tools.AND(text="驿站"), charset="UTF-8") == ["1", "2", "3"]
        assert box.uids(sort=tools.SortCriteria.SUBJECT_DESC) == ["3", "2", "1"]
        assert box.numbers(tools.AND(all=True)) == ["1", "2", "3"]

        box.flag(["1", "2"], [tools.MailMessageFlags.FLAGGED, "$Work"], True)
        box.flag("2", tools.MailMessageFlags.SEEN, False)
        box.delete("3")
        assert box.uids() == ["1", "2"]
    assert person.flags("number 0") == {"\\Seen", "\\Flagged", "$Work"}
    assert person.flags("number 1") == {"\\Flagged", "$Work"}


def test_folders(person: Person) -> None:
    tools = load("imap_tools")
    with opened(person) as box:
        assert {folder.name for folder in box.folder.list()} == {"INBOX", *SPECIAL}
        assert {flag for folder in box.folder.list() for flag in folder.flags} >= {f"\\{name}" for name in SPECIAL}
        box.folder.create("Projekte/Über uns")
        assert box.folder.exists("Projekte/Über uns")
        box.folder.subscribe("Projekte/Über uns", True)
        assert "Projekte/Über uns" in [folder.name for folder in box.folder.list(subscribed_only=True)]
        octets = letter("kept", person.login, SENDER)
        box.append(octets, "Projekte/Über uns", dt=datetime(2020, 2, 29, tzinfo=UTC), flag_set=["\\Seen"])
        status = box.folder.status("Projekte/Über uns")
        assert (status["MESSAGES"], status["UNSEEN"], status["UIDNEXT"]) == (1, 0, 2)
        box.folder.set("Projekte/Über uns")
        assert box.folder.get() == "Projekte/Über uns"
        box.copy(box.uids(), "Archive")
        box.move(box.uids(), "INBOX")
        assert box.uids() == []
        box.folder.rename("Projekte/Über uns", "Projekte/Sie")
        box.folder.set("INBOX")
        box.folder.delete("Projekte/Sie")
        assert not box.folder.exists("Projekte/Sie")
        with pytest.raises(tools.MailboxFolderSelectError):
            box.folder.set("Projekte/Sie")
        box.folder.set("INBOX")
        [message] = box.fetch(mark_seen=False)
        assert message.date.year == 2024
        assert set(message.flags) - {"\\Recent"} == {"\\Seen"}
    for mailbox in ("INBOX", "Archive"):
        [kept] = person.letters(mailbox)
        assert (kept.octets, set(kept.flags)) == (octets, {"\\Seen"})


def test_idle(person: Person) -> None:
    with opened(person) as box:
        with box.idle as idle:
            person.deliver(letter("meanwhile", SENDER, person.login))
            said = idle.poll(timeout=PATIENCE)
        assert b"* 1 EXISTS" in said
        assert [message.subject for message in box.fetch()] == ["meanwhile"]
