# SPDX-License-Identifier: Apache-2.0
"""Node's imapflow, which uses every extension that it finds (COMPRESS, QRESYNC, ID, ENABLE, OBJECTID, BINARY…)."""

from __future__ import annotations

import pytest

from .imap_library import Imapflow, open_imapflow
from .imap_server import SENDER, SPECIAL, TLS, Person
from .letters import ATTACHMENT, BODY, assert_carries, letter

pytestmark = pytest.mark.interop


@pytest.mark.parametrize("tls", TLS)
def test_reading(person: Person, tls: str) -> None:
    sent = [letter(f"number {n}", SENDER, person.login, attachment=ATTACHMENT * (n == 1)) for n in range(3)]
    person.deliver(*sent)
    with open_imapflow(person, tls=tls, qresync=True) as imapflow:
        state = imapflow.call("state")
        assert state["secure"]
        assert {"QRESYNC"} <= set(state["enabled"])
        assert "COMPRESS DEFLATE" in " ".join(imapflow.log)
        mailbox = imapflow.call("mailboxOpen", "INBOX")
        assert (mailbox["path"], mailbox["exists"], mailbox["uidNext"]) == ("INBOX", 3, 4)
        assert "\\*" in mailbox["permanentFlags"]
        query = {
            **dict.fromkeys(("uid", "flags", "bodyStructure", "envelope", "internalDate", "size", "source"), True),
            "headers": ["subject", "x-folded"],
            "bodyParts": ["1"],
        }
        found = imapflow.call("fetchAll", "1:*", query)
        for message, octets in zip(found, sent, strict=True):
            assert_carries(message["source"], octets)
            assert message["size"] == len(message["source"])
            assert message["envelope"]["from"] == [{"name": "Alice", "address": SENDER}]
            assert message["envelope"]["date"] == "2024-02-29T08:30:00.000Z"
        assert found[0]["headers"] == (
            b"Subject: number 0\r\nX-Folded: a field that goes on\r\n\tin a second line\r\n\r\n"
        )
        assert found[0]["bodyParts"]["1"] == BODY.encode()
        assert found[0]["bodyStructure"]["type"] == "text/plain"
        assert found[0]["bodyStructure"]["size"] == len(BODY.encode())
        parts = found[1]["bodyStructure"]["childNodes"]
        assert [part["type"] for part in parts] == ["text/plain", "application/octet-stream"]
        assert (parts[1]["disposition"], parts[1]["dispositionParameters"]) == ("attachment", {"filename": "data.bin"})
        file = imapflow.call("download", "2", "2")
        assert len(file["content"]) == ATTACHMENT
        assert file["meta"]["contentType"] == "application/octet-stream"
        # In pieces of 64 KiB: partial fetches.
        whole = imapflow.call("download", "2", None, {"chunkSize": 65536})
        assert_carries(whole["content"], sent[1])


def test_writing(person: Person) -> None:
    with open_imapflow(person) as imapflow:
        assert {each["path"] for each in imapflow.call("list")} == {"INBOX", *SPECIAL}
        uses = {each["path"]: each.get("specialUse") for each in imapflow.call("list")}
        assert uses == {"INBOX": "\\Inbox", **{name: f"\\{name}" for name in SPECIAL}}
        octets = letter("kept", person.login, SENDER)
        created = imapflow.call("mailboxCreate", ["Projekte", "Über 驿站"])
        assert created["created"]
        assert not imapflow.call("mailboxCreate", ["Projekte", "Über 驿站"])["created"], "there already"
        told = imapflow.call("append", "Projekte/Über 驿站", octets, ["\\Seen", "$Work"], "2020-02-29T00:00:00Z")
        assert (told["destination"], told["uid"]) == ("Projekte/Über 驿站", 1)
        status = imapflow.call("status", "Projekte/Über 驿站", {"messages": True, "unseen": True, "uidNext": True})
        assert (status["messages"], status["unseen"], status["uidNext"]) == (1, 0, 2)
        imapflow.call("mailboxOpen", "Projekte/Über 驿站")
        [message] = imapflow.call("fetchAll", "1:*", {"internalDate": True, "flags": True})
        assert message["internalDate"].startswith("2020-02-29T00:00:00")
        copied = imapflow.call("messageCopy", "1", "Archive")
        assert copied["uidMap"] == {"1": 1}
        moved = imapflow.call("messageMove", "1", "INBOX")
        assert moved["uidMap"] == {"1": 1}
        imapflow.call("mailboxOpen", "INBOX")
        assert imapflow.call("messageFlagsAdd", "1:*", ["\\Flagged"])
        assert imapflow.call("messageFlagsRemove", {"uid": "1"}, ["\\Seen"])
        assert person.flags("kept") == {"\\Flagged", "$Work"}
        assert imapflow.call("messageFlagsSet", "1:*", ["\\Answered"])
        assert person.flags("kept") == {"\\Answered"}
        assert imapflow.call("messageDelete", {"uid": "1"})
        assert imapflow.call("search", {"all": True}) == []
        imapflow.call("mailboxRename", "Projekte/Über 驿站", "Projekte/Wir")
        imapflow.call("mailboxSubscribe", "Projekte/Wir")
        assert {each["path"]: each.get("subscribed") for each in imapflow.call("list")}["Projekte/Wir"]
        imapflow.call("mailboxUnsubscribe", "Projekte/Wir")
        imapflow.call("mailboxDelete", "Projekte/Wir")
        assert "Projekte/Wir" not in {each["path"] for each in imapflow.call("list")}
        quota = imapflow.call("getQuota", "INBOX")
        assert quota["storage"]["limit"] > quota["storage"].get("usage", 0)
        imapflow.call("noop")
    [kept] = person.letters("Archive")
    assert (kept.octets, set(kept.flags)) == (octets, {"\\Seen", "$Work"})


def test_searching(person: Person) -> None:
    person.deliver(*(letter(f"number {n}", SENDER, person.login) for n in range(4)))
    person.store("number 2", "+FLAGS", "\\Flagged $Work")
    with open_imapflow(person) as imapflow:
        imapflow.call("mailboxOpen", "INBOX")
        for query, wanted in (
            ({"all": True}, [1, 2, 3, 4]),
            ({"flagged": True}, [3]),
            ({"keyword": "$Work"}, [3]),
            ({"seen": False, "subject": "number 1"}, [2]),
            ({"or": [{"subject": "number 0"}, {"subject": "number 3"}]}, [1, 4]),
            ({"body": "驿站"}, [1, 2, 3, 4]),
            ({"header": {"x-folded": "second line"}}, [1, 2, 3, 4]),
            ({"sentOn": "2024-02-29T00:00:00Z"}, [1, 2, 3, 4]),
            ({"larger": 100_000}, []),
            ({"not": {"uid": "2:3"}}, [1, 4]),
        ):
            assert imapflow.call("search", query, {"uid": True}) == wanted, query


def wait_for_count(imapflow: Imapflow, count: int) -> None:
    while imapflow.event("exists")["count"] != count:
        pass


def test_idle(person: Person) -> None:
    """It idles by itself, and tells what it hears."""
    with open_imapflow(person, qresync=True) as imapflow:
        imapflow.call("mailboxOpen", "INBOX")
        imapflow.call("beginIdle")
        person.deliver(letter("meanwhile", SENDER, person.login))
        wait_for_count(imapflow, 1)
        person.store("meanwhile", "+FLAGS", "\\Flagged")
        while "\\Flagged" not in imapflow.event("flags")["flags"]:
            pass
        person.expunge("meanwhile")
        gone = imapflow.event("expunge")
        assert gone.get("uid", gone.get("seq")) == 1


def test_back_after_a_while(person: Person) -> None:
    """QRESYNC: it learns what changed and what vanished since it was here, and nothing else."""
    person.deliver(*(letter(f"number {n}", SENDER, person.login) for n in range(5)))
    with open_imapflow(person, qresync=True) as imapflow:
        known = imapflow.call("mailboxOpen", "INBOX")
    person.store("number 1", "+FLAGS", "\\Flagged")
    person.expunge("number 3")
    person.deliver(letter("number 5", SENDER, person.login))
    with open_imapflow(person, qresync=True) as imapflow:
        again = imapflow.call(
            "mailboxOpen",
            "INBOX",
            {
                "changedSince": {"$bigint": known["highestModseq"]},
                "uidValidity": {"$bigint": known["uidValidity"]},
            },
        )
        assert again["uidValidity"] == known["uidValidity"]
        assert again["exists"] == 5
        gone = imapflow.event("expunge")
        assert (gone["uid"], gone["vanished"], gone["earlier"]) == (4, True, True)
        changed = imapflow.call(
            "fetchAll", "1:*", {"uid": True, "flags": True}, {"changedSince": {"$bigint": known["highestModseq"]}}
        )
        assert [message["uid"] for message in changed] == [2, 6]
