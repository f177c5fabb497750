# SPDX-License-Identifier: Apache-2.0
"""Import and export: octets, flags and dates survive, a second run adds nothing, nothing is overwritten."""

from __future__ import annotations

import json
import mailbox
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.__main__ import Program
from posthouse.edges.cli import transfer
from posthouse.edges.cli.backend import Remote, Stop
from posthouse.edges.cli.folder_names import decode, encode, from_folder, to_folder
from posthouse.edges.cli.foreign import letter_date, mbox
from posthouse.outcome import Refusal
from posthouse.store import mailboxes

from .conftest import ADMIN, Line

LETTER = (
    b"From: bob@bob.test\nDate: Mon, 5 Jan 2026 10:00:00 +0100\nSubject: hello\n\nFrom here\n>From there\n\n.\nend\n"
)
CRLF = LETTER.replace(b"\n", b"\r\n")
AT = 1_500_000_000


def make_maildir(folder: Path, name: str, octets: bytes, at: float = AT, sub: str = "cur") -> None:
    for each in ("cur", "new", "tmp"):
        (folder / each).mkdir(parents=True, exist_ok=True)
    path = folder / sub / name
    path.write_bytes(octets)
    os.utime(path, (at, at))


def letters(line: Line, box: str) -> list[tuple[bytes, tuple[str, ...], float]]:
    """What an account holds: octets, flags and keywords, date; through an export of single files."""
    import asyncio

    from posthouse.edges.cli.asking import Api
    from posthouse.edges.cli.transfer import pages

    async def main() -> list[tuple[bytes, tuple[str, ...], float]]:
        async with line.backend.client(line.folder) as client:
            api = Api(client)
            return [
                (
                    await api.fetch("accounts", ADMIN, "letters", item["letter"]),
                    (*item["flags"], *item["keywords"]),
                    item["received_at"],
                )
                async for item in pages(api, ADMIN, box)
            ]

    return asyncio.run(main())


def test_a_maildir_keeps_folders_flags_keywords_and_dates(line: Line, tmp_path: Path) -> None:
    root = tmp_path / "md"
    make_maildir(root, "1.a:2,FRSa", LETTER, AT + 1)
    make_maildir(root, "2.b", b"Subject: new\n\n", AT + 2, sub="new")
    make_maildir(root, "0.c:2,", b"Subject: oldest\r\n\r\n", AT)
    (root / "dovecot-keywords").write_text("0 work\n1 home\n")
    make_maildir(root / ".Archive.2026&AOk-", "3.d:2,DT", b"Subject: deep\n\n", AT + 3)
    (root / ".Trash").mkdir()
    done = line.told("import", "maildir", ADMIN, str(root))
    assert done["mailboxes"] == {"INBOX": 3, "Archive/2026é": 1}
    assert letters(line, "INBOX") == [
        (b"Subject: oldest\r\n\r\n", (), AT),
        (CRLF, ("seen", "answered", "flagged", "work"), AT + 1),
        (b"Subject: new\r\n\r\n", (), AT + 2),
    ]
    assert letters(line, "Archive/2026é") == [(b"Subject: deep\r\n\r\n", ("draft", "deleted"), AT + 3)]


def test_an_import_that_is_run_again_adds_only_what_is_missing(line: Line, tmp_path: Path) -> None:
    make_maildir(tmp_path / "md", "1.a:2,S", LETTER)
    assert line.told("import", "maildir", ADMIN, str(tmp_path / "md"))["imported"] == 1
    make_maildir(tmp_path / "md", "2.b:2,S", b"Subject: two\n\n")
    make_maildir(tmp_path / "md", "3.copy:2,S", b"Subject: two\n\n")
    done = line.told("import", "maildir", ADMIN, str(tmp_path / "md"))
    assert (done["imported"], done["known"]) == (1, 2)
    assert len(letters(line, "INBOX")) == 2


def test_an_mbox_keeps_letters_flags_and_dates(line: Line, tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    quoted = LETTER.replace(b"\n>From", b"\n>>From").replace(b"\nFrom here", b"\n>From here")
    head, _, body = quoted.partition(b"\n\n")
    path.write_bytes(
        b"From bob@bob.test Mon Jan  5 09:00:00 2026\n" + head + b"\nStatus: RO\nX-Status: AF\n\n" + body + b"\n"
        b"From MAILER-DAEMON Tue Jan  6 09:00:00 2026\nSubject: two\n\nFrom here is no new letter\n\n"
    )
    line.done("import", "mbox", ADMIN, str(path), "--mailbox", "Old")
    assert letters(line, "Old") == [
        (CRLF, ("seen", "answered", "flagged"), 1767603600.0),
        (b"Subject: two\r\n\r\nFrom here is no new letter\r\n", (), 1767690000.0),
    ]


def test_single_letters_take_their_date_from_their_header(line: Line, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.eml").write_bytes(LETTER)
    (tmp_path / "b.txt").write_bytes(b"Subject: no date\n\nhello")
    line.done("import", "eml", ADMIN, str(tmp_path / "sub"), str(tmp_path / "b.txt"))
    first, second = letters(line, "INBOX")
    assert first == (CRLF, (), 1767603600.0)
    assert second[0] == b"Subject: no date\r\n\r\nhello"


def test_the_newest_received_field_says_when_a_letter_arrived() -> None:
    received = b"Received: from a by b; Tue, 6 Jan 2026 09:00:00 +0000\r\n"
    assert letter_date(received + received.replace(b"6 Jan", b"5 Jan") + CRLF) == 1767690000.0
    assert letter_date(b"Received: nonsense\r\n" + CRLF) == 1767603600.0
    assert letter_date(b"Subject: x\r\n\r\n") is None


def test_letters_that_are_refused_are_named_and_the_others_come_in(line: Line, tmp_path: Path) -> None:
    make_maildir(tmp_path / "md", "1.empty:2,S", b"")
    make_maildir(tmp_path / "md", "2.b:2,S", LETTER)
    result = line.run("import", "maildir", ADMIN, str(tmp_path / "md"), "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert document["imported"] == 1
    assert document["refused"][0]["place"].endswith("1.empty:2,S")
    assert "not imported" in result.stderr
    assert "the letter is empty" in result.stderr


def test_an_import_goes_in_batches_and_keeps_the_order(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a batch ends, where a letter is too large for one, and where the same letter comes twice in one."""
    monkeypatch.setattr(transfer, "BATCH_LETTERS", 3)
    monkeypatch.setattr(transfer, "BATCH_OCTETS", 2000)
    sent: list[int] = []
    send = transfer._Import._send

    async def counted(self: transfer._Import) -> None:
        sent.append(len(self._batch))
        await send(self)

    monkeypatch.setattr(transfer._Import, "_send", counted)
    octets = [b"Subject: %d\r\n\r\n" % number for number in range(8)]
    octets[4] += b"x" * 5000 + b"\r\n"
    octets.insert(6, octets[5])
    for number, each in enumerate(octets):
        make_maildir(tmp_path / "md", f"{number}.x:2,", each, AT + number)
    done = line.told("import", "maildir", ADMIN, str(tmp_path / "md"))
    assert (done["imported"], done["known"]) == (8, 1)
    assert [each[0] for each in letters(line, "INBOX")] == list(dict.fromkeys(octets))
    assert [count for count in sent if count] == [3, 1, 1, 1, 2]


def test_import_mistakes_are_named(line: Line, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"hello\n")
    (tmp_path / "empty").write_bytes(b"")
    assert "no mbox" in line.refused("import", "mbox", ADMIN, str(tmp_path / "x"))
    assert "no maildir" in line.refused("import", "maildir", ADMIN, str(tmp_path))
    assert "no account" in line.refused("import", "eml", "nobody@alice.test", str(tmp_path / "x"))
    assert line.told("import", "mbox", ADMIN, str(tmp_path / "empty"))["imported"] == 0


class Elsewhere(Program):
    """A backend with a mailbox at another server."""

    def __init__(self, *octets: bytes, fault: str = "") -> None:
        self.octets = octets
        self.fault = fault
        self.asked: list[Remote] = []

    def remote_letters(self, remote: Remote) -> Iterator[bytes]:
        self.asked.append(remote)
        yield from self.octets
        if self.fault:
            raise Stop(self.fault)


def test_pop3_takes_what_is_there_and_the_password_from_standard_input(house: Path) -> None:
    backend = Elsewhere(CRLF, b"Subject: two\r\n\r\n")
    line = Line(house, backend)
    words = ("import", "pop3", ADMIN, "pop.bob.test", "--user", "bob")
    assert line.told(*words, "--password-stdin", stdin="secret\n")["imported"] == 2
    assert backend.asked == [Remote("pop.bob.test", 995, "bob", "secret", "implicit", is_verified=True)]
    line.done(*words[:3], "pop.bob.test:1110", *words[4:], "--tls", "stls", "--password-stdin", stdin="s\n")
    assert (backend.asked[1].port, backend.asked[1].tls) == (1110, "stls")
    assert [each[0] for each in letters(line, "INBOX")] == [CRLF, b"Subject: two\r\n\r\n"]


def test_what_came_before_the_other_server_failed_is_kept(house: Path) -> None:
    line = Line(house, Elsewhere(CRLF, fault="pop.bob.test closed the connection"))
    words = ("import", "pop3", ADMIN, "pop.bob.test", "--user", "bob", "--password-stdin")
    assert "closed the connection" in line.refused(*words, stdin="secret\n")
    assert len(letters(line, "INBOX")) == 1


# --- export ---------------------------------------------------------------------------------------


@pytest.fixture
def filled(line: Line, tmp_path: Path) -> Line:
    source = tmp_path / "source"
    make_maildir(source, "1.a:2,FS", LETTER, AT)
    make_maildir(source, "2.b:2,", b"Subject: two\n\ntwo\n", AT + 5)
    make_maildir(source / ".Archive.2026", "3.c:2,R", b"Subject: three\n\n", AT + 9)
    line.done("import", "maildir", ADMIN, str(source))
    return line


def test_an_exported_maildir_comes_in_again_as_it_was(filled: Line, tmp_path: Path) -> None:
    target = tmp_path / "target"
    assert filled.told("export", "maildir", ADMIN, str(target))["written"] == 3
    before = {box: letters(filled, box) for box in ("INBOX", "Archive/2026")}
    assert filled.told("import", "maildir", ADMIN, str(target))["known"] == 3
    read = {message.get_flags() for message in mailbox.Maildir(target, create=False)}
    assert read == {"FS", ""}
    again = filled.told("export", "maildir", ADMIN, str(target))
    assert (again["written"], again["known"]) == (0, 3)
    assert {box: letters(filled, box) for box in before} == before


def test_an_exported_mbox_comes_in_again_as_it_was(filled: Line, tmp_path: Path) -> None:
    target = tmp_path / "mbox"
    assert filled.told("export", "mbox", ADMIN, str(target))["written"] == 2
    filled.done("import", "mbox", ADMIN, str(target), "--mailbox", "Again")
    assert letters(filled, "Again") == letters(filled, "INBOX")
    before = target.read_bytes()
    assert "is there already" in filled.refused("export", "mbox", ADMIN, str(target))
    assert target.read_bytes() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["house", "mbox", "source"]


def test_exported_single_letters_are_the_octets(filled: Line, tmp_path: Path) -> None:
    target = tmp_path / "eml"
    filled.done("export", "eml", ADMIN, str(target), "--mailbox", "Archive/2026")
    [path] = target.rglob("*.eml")
    assert path.parent == target / "Archive" / "2026"
    assert path.read_bytes() == b"Subject: three\r\n\r\n"
    assert path.stat().st_mtime == AT + 9
    assert "no mailbox" in filled.refused("export", "eml", ADMIN, str(target), "--mailbox", "Nowhere")


def test_an_export_that_fails_leaves_no_half_file(filled: Line, tmp_path: Path) -> None:
    assert "no mailbox" in filled.refused("export", "mbox", ADMIN, str(tmp_path / "m"), "--mailbox", "Nowhere")
    assert not list(tmp_path.glob("m*"))
    (tmp_path / "file").write_bytes(b"")
    assert "cannot be written" in filled.refused("export", "eml", ADMIN, str(tmp_path / "file" / "x"))


# --- names of folders -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("INBOX", ""),
        ("Archive/2026", ".Archive.2026"),
        ("Entwürfe", ".Entw&APw-rfe"),
        ("台北", ".&U,BTFw-"),
        ("A&B", ".A&-B"),
        ("v1.2", ".v1&AC4-2"),
        ("..", ".&AC4ALg-"),
    ],
)
def test_folder_names(name: str, folder: str) -> None:
    assert to_folder(name) == folder
    assert from_folder(folder) == name


@given(st.text(min_size=1))
def test_every_name_reads_back_and_stays_in_its_folder(name: str) -> None:
    try:
        name = mailboxes.canonical_name(name)
    except Refusal:
        return
    parts = name.split("/")
    assert [decode(encode(part)) for part in parts] == parts
    assert all(Path(encode(part)).name == encode(part) for part in parts)
    assert from_folder(to_folder(name)) == name


@given(st.text(alphabet="&-AQ,é.+/"))
def test_what_is_no_modified_utf_7_stays_as_it_is(text: str) -> None:
    decode(text)


@given(st.lists(st.text(alphabet="aF >\nrom 2026:é", max_size=40), min_size=1, max_size=4))
def test_any_bodies_survive_an_mbox(bodies: list[str]) -> None:
    """The quoting of "From " lines is undone, whatever stands around them."""
    import tempfile

    from posthouse.edges.cli.writing import MboxSink

    wanted = [f"Subject: x\n\n{body}\n".encode() for body in bodies]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m"
        sink = MboxSink(path)
        with sink:
            for each in wanted:
                sink.write("INBOX", {"flags": [], "received_at": AT}, each.replace(b"\n", b"\r\n"))
        assert [each.octets for each in mbox(path, "INBOX")] == [each.replace(b"\n", b"\r\n") for each in wanted]
