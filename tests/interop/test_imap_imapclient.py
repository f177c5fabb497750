# SPDX-License-Identifier: Apache-2.0
"""IMAPClient: what a program in Python does with an account, over TLS of either kind."""

from __future__ import annotations

import contextlib
import email
import ssl
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import pytest

from .imap_library import load
from .imap_server import SENDER, SPECIAL, TLS, Person, subject_of
from .letters import ATTACHMENT, assert_carries, letter
from .programs import PATIENCE

pytestmark = pytest.mark.interop

POSTHOUSE = pytest.mark.parametrize("person", ["posthouse"], indirect=True)


@contextlib.contextmanager
def connected(person: Person, tls: str = "implicit") -> Iterator[Any]:
    """Logged in; logged out at the end."""
    imapclient = load("imapclient")
    context = ssl.create_default_context(cafile=str(person.server.certificate))
    implicit = tls == "implicit"
    client = imapclient.IMAPClient(
        "localhost", person.port(tls), ssl=implicit, ssl_context=context if implicit else None, timeout=PATIENCE
    )
    try:
        if not implicit:
            client.starttls(context)
        client.login(person.login, person.password)
        yield client
        client.logout()
    finally:
        with contextlib.suppress(OSError):  # there is none to close after LOGOUT
            client.shutdown()


@POSTHOUSE
def test_no_password_in_the_clear(person: Person) -> None:
    imapclient = load("imapclient")
    with imapclient.IMAPClient("localhost", person.port("starttls"), ssl=False, timeout=PATIENCE) as client:
        assert client.has_capability("LOGINDISABLED")
        with pytest.raises(imapclient.exceptions.LoginError):
            client.login(person.login, person.password)


def skip_without(client: Any, *capabilities: str) -> None:
    missing = [name for name in capabilities if not client.has_capability(name)]
    if missing:
        pytest.skip(f"this server does not know {', '.join(missing)}")


@pytest.mark.parametrize("tls", TLS)
def test_letters_and_flags(person: Person, tls: str) -> None:
    sent = [letter(f"number {n}", SENDER, person.login, attachment=ATTACHMENT * (n == 1)) for n in range(3)]
    person.deliver(*sent)
    with connected(person, tls) as client:
        told = client.select_folder("INBOX")
        assert (told[b"EXISTS"], told[b"UIDNEXT"]) == (3, 4)
        assert b"\\*" in told[b"PERMANENTFLAGS"]
        uids = client.search()
        found = client.fetch(uids, ["RFC822", "RFC822.SIZE", "INTERNALDATE", "FLAGS"])
        for uid, octets in zip(uids, sent, strict=True):
            assert_carries(found[uid][b"RFC822"], octets)
            assert found[uid][b"RFC822.SIZE"] == len(found[uid][b"RFC822"])
            assert abs(found[uid][b"INTERNALDATE"] - datetime.now()).total_seconds() < 600  # noqa: DTZ005 - it is local
        assert b"\\Seen" in client.fetch(uids[0], "FLAGS")[uids[0]][b"FLAGS"], "RFC822 is not PEEK"

        # Envelopes, structures and parts.
        envelope = client.fetch(uids[1], "ENVELOPE")[uids[1]][b"ENVELOPE"]
        assert envelope.subject == b"number 1"
        assert str(envelope.from_[0]) == f"Alice <{SENDER}>"
        assert envelope.date.replace(tzinfo=None).year == 2024
        structure = client.fetch(uids[1], "BODYSTRUCTURE")[uids[1]][b"BODYSTRUCTURE"]
        assert structure.is_multipart
        assert [part[0] for part in structure[0]] == [b"text", b"application"]
        assert structure[1] == b"mixed"
        [(_, file)] = client.fetch(uids[1], "BODY.PEEK[2]").items()
        message: Any = email.message_from_bytes(sent[1])
        assert file[b"BODY[2]"].strip() == message.get_payload(1).get_payload().encode().strip()
        [(_, part)] = client.fetch(uids[1], "BODY.PEEK[2]<1000.500>").items()
        assert part[b"BODY[2]<1000>"] == file[b"BODY[2]"][1000:1500]
        [(_, head)] = client.fetch(uids[0], "BODY.PEEK[HEADER.FIELDS (SUBJECT X-FOLDED)]").items()
        assert head[b"BODY[HEADER.FIELDS (SUBJECT X-FOLDED)]"] == (
            b"Subject: number 0\r\nX-Folded: a field that goes on\r\n\tin a second line\r\n\r\n"
        )

        # Flags and keywords.
        assert set(client.add_flags(uids[0], [b"\\Flagged", b"$Work"])[uids[0]]) >= {b"\\Flagged", b"$Work"}
        client.remove_flags(uids[0], b"\\Seen", silent=True)
        assert set(client.set_flags(uids[1:], [b"\\Answered"])) == set(uids[1:])
        assert set(client.get_flags(uids[0])[uids[0]]) - {b"\\Recent"} == {b"\\Flagged", b"$Work"}
        client.delete_messages(uids[1])
        client.delete_messages(uids[2])
        client.expunge(uids[2:])
        assert client.search() == uids[:2], "only those named go"
        client.expunge()
        assert client.search() == uids[:1]
    assert person.flags("number 0") == {"\\Flagged", "$Work"}


def test_mailboxes(person: Person) -> None:
    with connected(person) as client:
        tree = {name: set(flags) for flags, _, name in client.list_folders()}
        assert set(tree) == {"INBOX", *SPECIAL}
        for name in SPECIAL:
            assert f"\\{name}".encode() in tree[name]
            assert client.find_special_folder(f"\\{name}".encode()) == name
        assert {separator for _, separator, _ in client.list_folders()} == {b"/"}

        for name in ("Projects/2024", "Entwürfe & mehr", "驿站", 'with "quotes" and \\ backslash'):
            client.create_folder(name)
            assert client.folder_exists(name), name
            client.append(name, letter(name.encode("ascii", "replace").decode(), person.login, SENDER))
            assert client.folder_status(name, ["MESSAGES", "UNSEEN", "UIDNEXT"]) == {
                b"MESSAGES": 1,
                b"UNSEEN": 1,
                b"UIDNEXT": 2,
            }
        with pytest.raises(load("imapclient.exceptions").IMAPClientError):
            client.create_folder("驿站")
        client.rename_folder("Projects", "Plans")
        assert client.folder_exists("Plans/2024")
        assert not client.folder_exists("Projects/2024")
        client.subscribe_folder("Plans/2024")
        assert "Plans/2024" in [name for _, _, name in client.list_sub_folders()]
        client.unsubscribe_folder("Plans/2024")
        assert "Plans/2024" not in [name for _, _, name in client.list_sub_folders()]
        assert [name for _, _, name in client.list_folders("", "%")].count("Plans") == 1
        client.delete_folder("驿站")
        assert not client.folder_exists("驿站")


@POSTHOUSE
def test_renaming_inbox_moves_its_letters(person: Person) -> None:
    """RFC 9051 §6.3.6."""
    with connected(person) as client:
        client.append("INBOX", letter("moved", SENDER, person.login))
        client.rename_folder("INBOX", "Old")
        assert client.folder_status("INBOX", ["MESSAGES"]) == {b"MESSAGES": 0}
        assert client.folder_status("Old", ["MESSAGES"]) == {b"MESSAGES": 1}


def test_append_copy_and_move(person: Person) -> None:
    when = datetime(2020, 2, 29, 12, 30, 15, tzinfo=UTC)
    sent = [letter(f"number {n}", person.login, SENDER) for n in range(3)]
    with connected(person) as client:
        told = client.append("Sent", sent[0], flags=[b"\\Seen", b"$Kept"], msg_time=when)
        assert b"APPENDUID" in told
        client.select_folder("Sent")
        [(uid, found)] = client.fetch(client.search(), ["BODY.PEEK[]", "INTERNALDATE", "FLAGS"]).items()
        assert found[b"BODY[]"] == sent[0]
        assert found[b"INTERNALDATE"] == when.astimezone().replace(tzinfo=None)
        assert set(found[b"FLAGS"]) - {b"\\Recent"} == {b"\\Seen", b"$Kept"}
        client.copy(uid, "Archive")
        client.move(uid, "Trash")
        assert client.search() == []
        if client.has_capability("MULTIAPPEND"):
            client.multiappend("Sent", [{"msg": octets, "flags": ["\\Seen"], "date": when} for octets in sent[1:]])
            assert [kept.octets for kept in person.letters("Sent")] == sent[1:]
    for mailbox in ("Archive", "Trash"):
        [kept] = person.letters(mailbox)
        assert (kept.octets, set(kept.flags)) == (sent[0], {"\\Seen", "$Kept"})
    assert person.mailboxes() == {"INBOX", *SPECIAL}


def test_search_sort_and_thread(person: Person) -> None:
    roots = {"apples": "<1@letters.test>", "Re: apples": "<2@letters.test>", "cherries": "<3@letters.test>"}
    for subject, message_id in roots.items():
        octets = letter(subject, SENDER, person.login, message_id=message_id)
        if subject.startswith("Re:"):
            octets = b"In-Reply-To: <1@letters.test>\r\nReferences: <1@letters.test>\r\n" + octets
        person.deliver(octets)
    person.deliver(
        b"From: zoe@elsewhere.test\r\nTo: x@house.test\r\nDate: Thu, 29 Feb 2024 07:30:00 +0000\r\n"
        b"Subject: =?utf-8?q?B=C3=BCcher?=\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n"
        b"\r\nStra=DFe und Gr=FC=DFe\r\n"
    )
    with connected(person) as client:
        client.select_folder("INBOX")
        client.add_flags([1, 3], [b"\\Flagged", b"$Work"])
        for criteria, wanted in {
            ("SUBJECT", "apples"): [1, 2],
            ("NOT", "SUBJECT", "apples"): [3, 4],
            ("FLAGGED", "KEYWORD", "$Work"): [1, 3],
            ("UNKEYWORD", "$Work"): [2, 4],
            ("OR", "SUBJECT", "cherries", "UID", "2"): [2, 3],
            ("HEADER", "References", "1@letters"): [2],
            ("SENTON", date(2024, 2, 29)): [1, 2, 3, 4],
            ("SENTBEFORE", date(2024, 2, 29)): [],
            ("SINCE", date(2000, 1, 1), "SMALLER", 1_000_000): [1, 2, 3, 4],
            ("BODY", "驿站"): [1, 2, 3],
            ("SUBJECT", "bücher"): [4],
            ("TEXT", "Grüße"): [4],
            ("TEXT", "gRüße"): [4],
            ("BODY", '"quoted" \\ text'): [],
        }.items():
            assert client.search(list(criteria), "UTF-8") == wanted, criteria
        if client.has_capability("SORT"):
            assert client.sort(["REVERSE SUBJECT"], "ALL") == [3, 4, 1, 2], "equal keys keep their order"
            assert client.sort(["DATE", "ARRIVAL"]) == [4, 1, 2, 3]
        for algorithm in ("REFERENCES", "ORDEREDSUBJECT"):
            if client.has_capability(f"THREAD={algorithm}"):
                assert sorted(map(str, client.thread(algorithm))) == sorted(["(1, 2)", "(3,)", "(4,)"]), algorithm


def test_idle_tells_of_a_letter_and_of_another_session(person: Person) -> None:
    with connected(person) as client, connected(person) as other:
        client.select_folder("INBOX")
        other.select_folder("INBOX")
        client.idle()
        sent = letter("meanwhile", SENDER, person.login)
        person.deliver(sent)
        said = until(client, lambda said: (1, b"EXISTS") in said)
        other.noop()
        other.add_flags(other.search(), [b"\\Flagged"])
        said += until(client, lambda said: any(item[1] == b"FETCH" for item in said))
        assert b"\\Flagged" in [item for item in said if item[1] == b"FETCH"][-1][2][1]
        other.delete_messages(other.search(), silent=True)
        other.expunge()
        until(client, lambda said: (1, b"EXPUNGE") in said)
        client.idle_done()
        assert client.search() == []


def until(client: Any, check: Any) -> list[Any]:
    """What IDLE tells until it is what we wait for."""
    said: list[Any] = []
    while not check(said):
        told = client.idle_check(timeout=PATIENCE)
        assert told, f"nothing in {PATIENCE} s after {said}"
        said += told
    return said


def test_changes_since_a_mod_sequence(person: Person) -> None:
    person.deliver(*(letter(f"number {n}", SENDER, person.login) for n in range(3)))
    with connected(person) as client:
        skip_without(client, "CONDSTORE", "ENABLE")
        assert client.enable("CONDSTORE") == [b"CONDSTORE"]
        before = client.select_folder("INBOX")[b"HIGHESTMODSEQ"]
        client.add_flags(2, [b"\\Flagged"])
        changed = client.fetch([1, 2, 3], ["FLAGS"], [f"CHANGEDSINCE {before}"])
        assert set(changed) == {2}
        assert changed[2][b"MODSEQ"][0] > before
        assert client.folder_status("INBOX", ["HIGHESTMODSEQ"])[b"HIGHESTMODSEQ"] == changed[2][b"MODSEQ"][0]


def test_quota_identity_and_namespace(person: Person) -> None:
    person.deliver(letter("one", SENDER, person.login))
    with connected(person) as client:
        if client.has_capability("NAMESPACE"):
            assert client.namespace().personal == (("", "/"),)
        if client.has_capability("ID"):
            assert client.id_({"name": "interop"})
        if client.has_capability("QUOTA"):
            roots, quotas = client.get_quota_root("INBOX")
            assert roots.mailbox == "INBOX"
            storage = {quota.resource: quota for quota in quotas}["STORAGE"]
            assert 0 < storage.usage < 100
            assert storage.limit > storage.usage
        client.noop()
        client.select_folder("INBOX", readonly=True)
        with contextlib.suppress(load("imapclient.exceptions").IMAPClientError):  # Dovecot says OK, and does not
            client.add_flags(1, b"\\Seen")
        client.unselect_folder()
        assert person.flags("one") == frozenset()
        client.select_folder("INBOX")
        client.delete_messages(1)
        client.close_folder()
    assert person.letters() == []


@POSTHOUSE
def test_a_mailbox_shared_with_somebody(person: Person) -> None:
    """ACL as this library knows it: GETACL and SETACL, and the other's view of what is shared."""
    other = Person(person.server)
    with connected(person) as client:
        client.create_folder("Team")
        client.append("Team", letter("for all", person.login, other.login))
        client.setacl("Team", other.login, "lrs")
        rights = {who.decode(): what.decode() for who, what in client.getacl("Team")}
        assert rights[other.login] == "lrs"
        assert set("lrswiteak") <= set(rights[person.login])
        with connected(other) as theirs:
            [(prefix, separator)] = theirs.namespace().other
            name = f"{prefix}{person.login}{separator}Team"
            assert name in [each for _, _, each in theirs.list_folders()]
            theirs.select_folder(name)
            [(uid, found)] = theirs.fetch(theirs.search("UNSEEN"), ["BODY[]"]).items()
            assert subject_of(found[b"BODY[]"]) == "for all"
            assert theirs.search("SEEN") == [uid]
            with pytest.raises(load("imapclient.exceptions").IMAPClientError):
                theirs.append(name, letter("not allowed", other.login, person.login))
        client.select_folder("Team")
        assert client.search("UNSEEN") == [1], "each has a seen state of their own"
        client.setacl("Team", other.login, '""')  # it quotes nothing
    with connected(other) as theirs:
        assert name not in [each for _, _, each in theirs.list_folders()]
