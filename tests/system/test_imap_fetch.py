# SPDX-License-Identifier: Apache-2.0
"""FETCH and UID FETCH with the whole server, over TLS: every item, and what happens beside it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest

from posthouse.edges.imap import fetching
from posthouse.edges.imap.here import Pieces
from posthouse.ports import StoreFault
from posthouse.services.mailbox.fetching import Fetching
from posthouse.services.mailbox.kept_octets import KeptOctets
from tests.system.imap import BOB, Imap
from tests.system.post import Post
from tests.system.test_damage import hurt
from tests.system.test_imap_store import is_whole, share, told

ALICE = "alice@alice.test"
PLAIN = b"From: Alice <alice@alice.test>\r\nTo: bob@bob.test\r\nSubject: Hello\r\n\r\nHello, Bob.\r\n"

TEXT = b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nna=C3=AFve"
DATA = b"Content-Type: application/x-data\r\nContent-Transfer-Encoding: base64\r\n\r\nAAECAwQF"
INNER = b"From: carol@bob.test\r\nSubject: inside\r\n\r\ninner body"
ODD = b"Content-Type: image/x\r\nContent-Transfer-Encoding: x-secret\r\n\r\nwhat?"
GIF = b"Content-Type: image/gif\r\n\r\nGIF8"
# RFC 9051 §6.4.5.1, made smaller: 1 text, 2 data, 3 a letter, 4 a multipart of 4.1 image and 4.2 a letter in parts
NESTED = (
    b"Subject: nested\r\nContent-Type: multipart/mixed; boundary=i\r\n\r\n--i\r\n\r\none\r\n--i\r\n\r\ntwo\r\n--i--\r\n"
)
PARTS = (
    b"From: alice@alice.test\r\nTo: bob@bob.test\r\nX-Odd: 100%\r\nSubject: parts\r\n folded\r\n"
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\npreamble\r\n"
    b"--b\r\n" + TEXT + b"\r\n--b\r\n" + DATA + b"\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n" + INNER + b"\r\n"
    b"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n" + GIF + b"\r\n--c\r\n"
    b"Content-Type: message/rfc822\r\n\r\n" + NESTED + b"\r\n--c--\r\n\r\n--b\r\n" + ODD + b"\r\n--b--\r\n"
)
HEADER = PARTS[: PARTS.index(b"preamble")]
NESTED_HEADER = NESTED[: NESTED.index(b"--i")]


async def deliver(post: Post, *letters: bytes) -> None:
    async with await post.smtp() as wire:
        for each in letters:
            assert (await wire.letter(ALICE, [BOB], each)).startswith("250")


class Door:
    """Opens sessions that know no \\Recent, and closes them after the test."""

    def __init__(self, post: Post) -> None:
        self.post = post
        self._sessions: list[Imap] = []

    async def open(self, name: str = BOB, *, mailbox: str = "INBOX") -> Imap:
        session = await Imap.open(self.post, name, mailbox=mailbox, enable="IMAP4rev2")
        self._sessions.append(session)
        return session

    async def filled(self, *letters: bytes) -> Imap:
        """Bob's session with these in his INBOX."""
        session = await self.open(mailbox="")
        assert (await session.append("INBOX", *letters)).startswith("OK")
        assert (await session.ask("SELECT INBOX")).startswith("OK")
        return session

    async def close(self) -> None:
        for session in self._sessions:
            await session.wire.hang_up()


@pytest.fixture
async def door(post: Post) -> AsyncIterator[Door]:
    opened = Door(post)
    yield opened
    await opened.close()


async def fetched(session: Imap, command: str) -> list[str]:
    """The tagged answer and the FETCH responses, without news of other kinds."""
    return [each for each in await told(session, command) if "EXISTS" not in each and "RECENT" not in each]


async def value(session: Imap, item: str, number: int = 1, *, label: str = "") -> bytes | None:
    """What a section or part of a section has; None: NIL."""
    [response], answer = await session.tell(f"FETCH {number} {item}")
    assert answer.startswith("OK"), answer
    start = f"* {number} FETCH ({label or item.replace('.PEEK', '')} ".encode()
    assert response.startswith(start), response
    rest = response[len(start) : -1]
    if rest == b"NIL":
        return None
    if rest == b'""':
        return b""
    found = re.match(rb"~?\{(\d+)\}\r\n", rest)
    assert found is not None, response
    octets = rest[found.end() :]
    assert len(octets) == int(found[1])
    return octets


# --- items ----------------------------------------------------------------------------------------


async def test_every_item_of_one_word(door: Door) -> None:
    session = await door.filled(PLAIN)
    await session.append("INBOX", PLAIN, before='(\\Flagged $Work) "01-Feb-2024 03:04:05 +0100" ')
    await session.ask("NOOP")
    items = "UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODY BODYSTRUCTURE EMAILID THREADID SAVEDATE MODSEQ PREVIEW"
    await session.ask("ENABLE CONDSTORE")
    [response, answer] = await fetched(session, f"FETCH * ({items})")
    assert answer == "OK"
    pattern = (
        r"\* \d FETCH \(UID \d FLAGS \(\\Flagged \$Work\) INTERNALDATE \" 1-Feb-2024 02:04:05 \+0000\""
        rf" RFC822\.SIZE {len(PLAIN)} ENVELOPE \(NIL \"Hello\" \(\(\"Alice\" NIL \"alice\" \"alice\.test\"\)\)"
        r" \(\(\"Alice\" NIL \"alice\" \"alice\.test\"\)\) \(\(\"Alice\" NIL \"alice\" \"alice\.test\"\)\)"
        r" \(\(NIL NIL \"bob\" \"bob\.test\"\)\) NIL NIL NIL NIL\)"
        r" BODY \(\"text\" \"plain\" \(\"charset\" \"us-ascii\"\) NIL NIL \"7bit\" 13 1\)"
        r" BODYSTRUCTURE \(\"text\" \"plain\" \(\"charset\" \"us-ascii\"\) NIL NIL \"7bit\" 13 1 NIL NIL NIL NIL\)"
        r" EMAILID \(e[0-9a-f]+\) THREADID \(t[0-9a-f]+\) SAVEDATE \"[ 0-9]\d-\w{3}-\d{4} [0-9:]{8} \+0000\""
        r" MODSEQ \(\d+\) PREVIEW \"Hello, Bob\.\"\)"
    )
    assert re.fullmatch(pattern, response), response


@pytest.mark.parametrize(
    ("macro", "items"),
    [
        ("ALL", ["FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"]),
        ("FAST", ["FLAGS", "INTERNALDATE", "RFC822.SIZE"]),
        ("FULL", ["FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY"]),
    ],
)
async def test_a_macro_is_its_items(door: Door, macro: str, items: list[str]) -> None:
    session = await door.filled(PLAIN)
    assert await fetched(session, f"FETCH 1 {macro}") == await fetched(session, f"FETCH 1 ({' '.join(items)})")


async def test_items_come_in_their_order_and_each_once(door: Door) -> None:
    session = await door.filled(PLAIN)
    assert await fetched(session, "FETCH 1 (RFC822.SIZE UID FLAGS UID)") == [
        f"* 1 FETCH (RFC822.SIZE {len(PLAIN)} UID 1 FLAGS ())",
        "OK",
    ]


# --- sections -------------------------------------------------------------------------------------

SECTIONS: list[tuple[str, bytes | None]] = [
    ("", PARTS),
    ("HEADER", HEADER),
    ("TEXT", PARTS[len(HEADER) :]),
    ("1", b"na=C3=AFve"),
    ("1.MIME", TEXT[: -len(b"na=C3=AFve")]),
    ("1.1", None),
    ("1.HEADER", None),
    ("1.TEXT", None),
    ("2", b"AAECAwQF"),
    ("3", INNER),
    ("3.MIME", b"Content-Type: message/rfc822\r\n\r\n"),
    ("3.HEADER", INNER[: -len(b"inner body")]),
    ("3.TEXT", b"inner body"),
    ("3.1", b"inner body"),
    ("3.1.MIME", INNER[: -len(b"inner body")]),
    ("3.2", None),
    ("3.HEADER.FIELDS (subject)", b"Subject: inside\r\n\r\n"),
    ("4.1", b"GIF8"),
    ("4.2", NESTED),
    ("4.2.HEADER", NESTED_HEADER),
    ("4.2.TEXT", NESTED[len(NESTED_HEADER) :]),
    ("4.2.1", b"one"),
    ("4.2.2", b"two"),
    ("4.2.2.MIME", b"\r\n"),
    ("4.2.HEADER.FIELDS.NOT (Subject)", b"Content-Type: multipart/mixed; boundary=i\r\n\r\n"),
    ("5", b"what?"),
    ("6", None),
    ("9.9.9", None),
    ("HEADER.FIELDS (SUBJECT x-odd)", b"X-Odd: 100%\r\nSubject: parts\r\n folded\r\n\r\n"),
    ("HEADER.FIELDS (Nothing)", b"\r\n"),
    ("HEADER.FIELDS.NOT (From To Subject Content-Type)", b"X-Odd: 100%\r\n\r\n"),
]


@pytest.fixture
async def parts(door: Door) -> Imap:
    return await door.filled(PARTS)


@pytest.mark.parametrize("section", [name for name, _ in SECTIONS])
async def test_every_form_of_section_gives_its_octets_whole_and_in_part(parts: Imap, section: str) -> None:
    expected = dict(SECTIONS)[section]
    assert await value(parts, f"BODY.PEEK[{section}]") == expected
    for offset, count in ((0, 5), (3, 4), (0, 10_000), (10_000, 1), (2, 2**63 - 1)):
        found = await value(parts, f"BODY.PEEK[{section}]<{offset}.{count}>", label=f"BODY[{section}]<{offset}>")
        assert found == (None if expected is None else expected[offset : offset + count])


async def test_several_sections_and_words_in_one_response(parts: Imap) -> None:
    [response], _ = await parts.tell("FETCH 1 (UID BODY.PEEK[1] FLAGS BODY.PEEK[6] BODY.PEEK[2]<1.2> RFC822.SIZE)")
    assert response == (
        b"* 1 FETCH (UID 1 BODY[1] {10}\r\nna=C3=AFve FLAGS () BODY[6] NIL BODY[2]<1> {2}\r\nAE RFC822.SIZE %d)"
        % len(PARTS)
    )


@pytest.mark.parametrize(
    ("old", "new"), [("RFC822", "BODY[]"), ("RFC822.HEADER", "BODY[HEADER]"), ("RFC822.TEXT", "BODY[TEXT]")]
)
async def test_the_older_names_say_the_same(parts: Imap, old: str, new: str) -> None:
    await parts.ask("STORE 1 +FLAGS.SILENT (\\Seen)")
    assert await value(parts, old) == await value(parts, new)


async def test_a_delivered_letter_is_what_was_put_before_it_and_its_content(post: Post, door: Door) -> None:
    """RFC822.SIZE is the octets of BODY[], header and text together are all of it."""
    await deliver(post, PARTS)
    session = await door.open()
    whole = (await post.letters(BOB))[0]
    assert whole.startswith(b"Return-Path: <alice@alice.test>\r\n")
    assert whole.endswith(PARTS)
    assert await value(session, "BODY.PEEK[]") == whole
    assert await fetched(session, "FETCH 1 RFC822.SIZE") == [f"* 1 FETCH (RFC822.SIZE {len(whole)})", "OK"]
    header, text = await value(session, "BODY.PEEK[HEADER]"), await value(session, "BODY.PEEK[TEXT]")
    assert header is not None
    assert text is not None
    assert header + text == whole
    assert await value(session, "BODY.PEEK[HEADER.FIELDS (Return-Path Subject)]") == (
        b"Return-Path: <alice@alice.test>\r\nSubject: parts\r\n folded\r\n\r\n"
    )
    assert await value(session, "BODY.PEEK[4.2.1]") == b"one"
    start = whole.index(b"From: alice")
    for offset in (0, start - 3, start, start + 7):
        found = await value(session, f"BODY.PEEK[]<{offset}.10>", label=f"BODY[]<{offset}>")
        assert found == whole[offset : offset + 10]


async def test_a_body_without_any_header_is_text_behind_the_header_that_delivery_made(post: Post, door: Door) -> None:
    await deliver(post, b"just words\r\nand more\r\n")
    session = await door.open()
    whole = await value(session, "BODY.PEEK[]")
    assert whole is not None
    header, _, text = whole.partition(b"\r\n\r\n")
    assert text == b"just words\r\nand more\r\n"
    assert await value(session, "BODY.PEEK[HEADER]") == header + b"\r\n\r\n"
    assert await value(session, "BODY.PEEK[1.MIME]") == header + b"\r\n\r\n"
    assert await value(session, "BODY.PEEK[TEXT]") == await value(session, "BODY.PEEK[1]") == text
    assert await value(session, "BINARY.PEEK[1]") == text
    body = f'BODY ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" {len(text)} 2)'
    preview = f'PREVIEW "just words and more" BINARY.SIZE[1] {len(text)}'
    for _again in range(2):
        assert await fetched(session, "FETCH 1 (RFC822.SIZE BODY PREVIEW BINARY.SIZE[1])") == [
            f"* 1 FETCH (RFC822.SIZE {len(whole)} {body} {preview})",
            "OK",
        ]


async def test_the_header_of_the_only_part_is_that_of_the_letter(post: Post, door: Door) -> None:
    await deliver(post, PLAIN)
    session = await door.open()
    assert await value(session, "BODY.PEEK[1.MIME]") == await value(session, "BODY.PEEK[HEADER]")


# --- parts without their encoding -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "octets", "form"),
    [
        ("1", "naïve".encode(), b"BINARY[1] {6}\r\n"),
        ("2", bytes(range(6)), b"BINARY[2] ~{6}\r\n"),
        ("3", INNER, b"BINARY[3] {%d}\r\n" % len(INNER)),
        ("4.1", b"GIF8", b"BINARY[4.1] {4}\r\n"),
        ("4.2", NESTED, b"BINARY[4.2] {%d}\r\n" % len(NESTED)),
        ("", PARTS, b"BINARY[] {%d}\r\n" % len(PARTS)),
        ("6", None, b"BINARY[6] NIL"),
    ],
)
async def test_binary_undoes_the_encoding_and_its_size_agrees(
    parts: Imap, path: str, octets: bytes | None, form: bytes
) -> None:
    assert await value(parts, f"BINARY.PEEK[{path}]") == octets
    [response], _ = await parts.tell(f"FETCH 1 BINARY.PEEK[{path}]")
    assert form in response
    size = 0 if octets is None else len(octets)
    assert await fetched(parts, f"FETCH 1 BINARY.SIZE[{path}]") == [f"* 1 FETCH (BINARY.SIZE[{path}] {size})", "OK"]
    if octets is not None:
        assert await value(parts, f"BINARY.PEEK[{path}]<1.3>", label=f"BINARY[{path}]<1>") == octets[1:4]


async def test_an_encoding_that_nobody_knows_fails_and_other_letters_are_told(door: Door) -> None:
    """RFC 9051 §7.1: [UNKNOWN-CTE]."""
    flat = b"Content-Transfer-Encoding: x-secret\r\n\r\nwhat?"
    session = await door.filled(PLAIN, flat, PLAIN)
    for item in ("BINARY.SIZE[1]", "BINARY.PEEK[1]"):
        responses = await fetched(session, f"FETCH 1:3 {item}")
        assert [each.split(" (")[0] for each in responses] == ["* 1 FETCH", "* 3 FETCH", "NO [UNKNOWN-CTE]"]
    assert await value(session, "BODY.PEEK[1]", 2) == b"what?"


# --- previews -------------------------------------------------------------------------------------


async def test_a_lazy_preview_is_told_once_somebody_has_asked_for_it(post: Post, door: Door) -> None:
    """RFC 8970 §4.1: NIL where it would take time."""
    session = await door.filled(PLAIN, b"Subject: nothing\r\n\r\n")
    assert await fetched(session, "FETCH 1 PREVIEW (LAZY)") == ["* 1 FETCH (PREVIEW NIL)", "OK"]
    expected = ['* 1 FETCH (PREVIEW "Hello, Bob.")', '* 2 FETCH (PREVIEW "")', "OK"]
    assert await fetched(session, "FETCH 1:2 PREVIEW") == expected
    await post.house.mailboxes.fetching.close()  # what was found out is written while nobody waits
    assert await fetched(session, "FETCH 1:2 PREVIEW (LAZY)") == expected
    assert await fetched(session, "FETCH 1:2 (PREVIEW (LAZY) PREVIEW)") == [
        '* 1 FETCH (PREVIEW "Hello, Bob." PREVIEW "Hello, Bob.")',
        '* 2 FETCH (PREVIEW "" PREVIEW "")',
        "OK",
    ]


# --- what is kept ---------------------------------------------------------------------------------


async def test_a_structure_is_parsed_once(post: Post, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    session = await door.filled(PARTS, PLAIN)
    first = await fetched(session, "FETCH 1:2 (BODYSTRUCTURE BODY.PEEK[1])")
    await post.house.mailboxes.fetching.close()

    def never(*_: object) -> None:
        raise AssertionError("parsed again")

    monkeypatch.setattr("posthouse.services.mailbox.contents.parse", never)
    assert await fetched(session, "FETCH 1:2 (BODYSTRUCTURE BODY.PEEK[1])") == first
    assert [row[0] for row in await kept(post) if row[0]] == [True, True]


async def kept(post: Post) -> list[tuple[bool]]:
    sql = "SELECT structure IS NOT NULL FROM email_detail ORDER BY email"
    return await post.house.database.read(lambda reader: reader.rows(sql))


async def test_a_structure_that_was_kept_wrongly_is_found_out_again(post: Post, door: Door) -> None:
    session = await door.filled(PARTS)
    first = await fetched(session, "FETCH 1 (BODYSTRUCTURE BODY.PEEK[4.2.1])")
    await post.house.mailboxes.fetching.close()
    await post.house.database.write(lambda tx: tx.run("UPDATE email_detail SET structure = :wrong", wrong=b"\7"))
    assert await fetched(session, "FETCH 1 (BODYSTRUCTURE BODY.PEEK[4.2.1])") == first


# --- \Seen ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("item", ["BODY[]", "BODY[TEXT]", "RFC822", "RFC822.TEXT", "BINARY[1]", "BODY[HEADER]"])
async def test_reading_a_letter_marks_it_as_seen_and_says_so_with_it(post: Post, door: Door, item: str) -> None:
    session = await door.filled(PLAIN, PLAIN, PLAIN)
    first = await fetched(session, f"FETCH 1:2 ({item})")
    assert [each.split(f" {item}")[0] for each in first] == [
        "* 1 FETCH (FLAGS (\\Seen)",
        "* 2 FETCH (FLAGS (\\Seen)",
        "OK",
    ]
    again = await fetched(session, f"FETCH 1:2 ({item})")
    assert [each.split(item)[0] for each in again] == ["* 1 FETCH (", "* 2 FETCH (", "OK"]
    assert await fetched(session, "FETCH 1:3 FLAGS") == [
        "* 1 FETCH (FLAGS (\\Seen))",
        "* 2 FETCH (FLAGS (\\Seen))",
        "* 3 FETCH (FLAGS ())",
        "OK",
    ]
    await is_whole(post)


@pytest.mark.parametrize(
    "item",
    ["BODY.PEEK[]", "BODY.PEEK[TEXT]", "RFC822.HEADER", "BINARY.PEEK[1]", "BINARY.SIZE[1]", "BODY", "PREVIEW"],
)
async def test_a_peek_marks_nothing(door: Door, item: str) -> None:
    session = await door.filled(PLAIN)
    await session.tell(f"FETCH 1 {item}")
    assert await fetched(session, "FETCH 1 FLAGS") == ["* 1 FETCH (FLAGS ())", "OK"]


async def test_a_mailbox_that_is_only_looked_at_stays_as_it_is(door: Door) -> None:
    session = await door.filled(PLAIN)
    await session.ask("EXAMINE INBOX")
    assert await value(session, "BODY[]") == PLAIN
    assert await fetched(session, "FETCH 1 FLAGS") == ["* 1 FETCH (FLAGS ())", "OK"]


async def test_a_letter_that_was_marked_and_cannot_be_told_has_its_flags_told(post: Post, door: Door) -> None:
    session = await door.filled(PLAIN, b"Content-Transfer-Encoding: x-secret\r\n\r\nwhat?")
    responses = await fetched(session, "FETCH 2 BINARY[1]")
    assert responses == ["* 2 FETCH (FLAGS (\\Seen))", "NO [UNKNOWN-CTE]"]
    hurt(post, b"Hello, Bob.")
    assert await fetched(session, "FETCH 1 BODY[]") == ["* 1 FETCH (FLAGS (\\Seen))", "NO [CONTACTADMIN]"]
    assert await fetched(session, "NOOP") == ["OK"]


async def test_flags_that_were_asked_for_are_those_after_reading(door: Door) -> None:
    session = await door.filled(PLAIN)
    responses = await fetched(session, "FETCH 1 (BODY[TEXT] UID FLAGS)")
    assert responses == ["* 1 FETCH (BODY[TEXT] {13}\r\nHello, Bob.\r\n UID 1 FLAGS (\\Seen))", "OK"]


async def test_all_letters_of_a_command_are_marked_in_one_unit_of_work(post: Post, door: Door) -> None:
    session = await door.filled(*[PLAIN] * 5)
    before = await modseq(post)
    await session.tell("FETCH 1:5 BODY[]")
    assert await modseq(post) == before + 1


async def modseq(post: Post) -> int:
    sql = "SELECT MAX(modseq) FROM mailbox"
    rows = await post.house.database.read(lambda reader: reader.rows(sql))
    return int(rows[0][0])


async def test_other_sessions_learn_that_a_letter_was_read(door: Door) -> None:
    session = await door.filled(PLAIN)
    other = await door.open()
    await session.tell("FETCH 1 BODY[]")
    assert await fetched(other, "NOOP") == ["* 1 FETCH (FLAGS (\\Seen))", "OK"]
    assert await fetched(session, "NOOP") == ["OK"]


async def test_a_change_by_reading_has_its_mod_sequence(post: Post, door: Door) -> None:
    """RFC 7162 §3.1: once CONDSTORE is enabled, every change of flags is told with it."""
    session = await door.filled(PLAIN)
    await session.ask("ENABLE CONDSTORE")
    [response, _] = await fetched(session, "FETCH 1 BODY[TEXT]")
    found = re.match(r"\* 1 FETCH \(FLAGS \(\\Seen\) MODSEQ \((\d+)\) BODY\[TEXT\]", response)
    assert found is not None, response
    assert int(found[1]) == await modseq(post)


@pytest.mark.parametrize(("letters", "flags"), [("lrs", "\\Seen"), ("lr", "")])
async def test_a_visitor_marks_for_itself_with_the_right_to(post: Post, door: Door, letters: str, flags: str) -> None:
    owner = await door.open(ALICE)
    await owner.append("INBOX", PLAIN)
    await owner.ask("SELECT INBOX")
    visitor = await door.open(mailbox="")
    await visitor.ask(f"SELECT {await share(post, 'INBOX', letters)}")
    assert await value(visitor, "BODY[]", label="FLAGS (\\Seen) BODY[]" if flags else "") == PLAIN
    assert await fetched(visitor, "FETCH 1 FLAGS") == [f"* 1 FETCH (FLAGS ({flags}))", "OK"]
    assert await fetched(owner, "FETCH 1 FLAGS") == ["* 1 FETCH (FLAGS ())", "OK"]


async def test_a_store_that_cannot_mark_lets_people_read(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who cannot read on a full disk cannot throw anything away either."""
    session = await door.filled(PLAIN)

    async def fails(*_: object) -> None:
        raise StoreFault("the disk is full", is_full=True)

    monkeypatch.setattr(Fetching, "see", fails)
    assert await value(session, "BODY[]") == PLAIN
    assert await fetched(session, "FETCH 1 FLAGS") == ["* 1 FETCH (FLAGS ())", "OK"]


# --- which letters --------------------------------------------------------------------------------


@pytest.mark.parametrize("numbers", ["3", "1:3", "2:4", "4:*"])
async def test_a_number_that_is_not_there_is_a_clients_mistake(door: Door, numbers: str) -> None:
    session = await door.filled(PLAIN, PLAIN)
    assert await fetched(session, f"FETCH {numbers} FLAGS") == ["BAD [CLIENTBUG]"]


async def test_uids_that_are_not_there_are_passed_over(door: Door) -> None:
    session = await door.filled(PLAIN, PLAIN)
    assert await fetched(session, "UID FETCH 5:9 FLAGS") == ["OK"]
    assert await fetched(session, "UID FETCH 2,7 FLAGS") == ["* 2 FETCH (UID 2 FLAGS ())", "OK"]
    assert await fetched(session, "UID FETCH 559:* (FLAGS UID)") == ["* 2 FETCH (FLAGS () UID 2)", "OK"]


async def test_the_saved_result_can_be_fetched(door: Door) -> None:
    session = await door.filled(*[PLAIN] * 4)
    await session.ask("STORE 2,4 +FLAGS (\\Flagged)")
    await session.ask("SEARCH RETURN (SAVE) FLAGGED")
    assert await fetched(session, "FETCH $ UID") == ["* 2 FETCH (UID 2)", "* 4 FETCH (UID 4)", "OK"]
    assert await fetched(session, "UID FETCH $ (UID)") == ["* 2 FETCH (UID 2)", "* 4 FETCH (UID 4)", "OK"]


async def test_only_what_has_changed_since(post: Post, door: Door) -> None:
    """RFC 7162 §3.1.4.1: MODSEQ is told with it, and CONDSTORE is enabled by it."""
    session = await door.filled(*[PLAIN] * 3)
    since = await modseq(post)
    assert (await fetched(session, f"FETCH 1 (UID) (CHANGEDSINCE {since})"))[0] == (
        f"* OK [HIGHESTMODSEQ {since}] The highest mod-sequence"
    )
    await session.ask("STORE 2 +FLAGS.SILENT (\\Flagged)")
    now = await modseq(post)
    expected = [f"* 2 FETCH (FLAGS (\\Flagged) MODSEQ ({now}))", "OK"]
    assert await fetched(session, f"FETCH 1:* (FLAGS) (CHANGEDSINCE {since})") == expected
    assert await fetched(session, f"FETCH 1:* (FLAGS) (CHANGEDSINCE {now})") == ["OK"]
    assert await fetched(session, f"UID FETCH 1:* (MODSEQ) (CHANGEDSINCE {since})") == [
        f"* 2 FETCH (UID 2 MODSEQ ({now}))",
        "OK",
    ]
    other = await door.open()
    await other.ask("STORE 1 +FLAGS.SILENT (\\Answered)")
    assert await fetched(session, "NOOP") == [f"* 1 FETCH (FLAGS (\\Answered) MODSEQ ({now + 1}))", "OK"]


async def test_what_has_vanished_since(post: Post, door: Door) -> None:
    """RFC 7162 §3.2.6: before any letter is told, and only for clients that have said so."""
    session = await door.filled(*[PLAIN] * 5)
    assert await fetched(session, "UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1 VANISHED)") == ["BAD [CLIENTBUG]"]
    await session.ask("ENABLE QRESYNC")
    since = await modseq(post)
    other = await door.open()
    await other.ask("STORE 2,4 +FLAGS.SILENT (\\Deleted)")
    await other.ask("EXPUNGE")
    command = f"UID FETCH 1:* (FLAGS) (CHANGEDSINCE {since} VANISHED)"
    assert await fetched(session, command) == ["* VANISHED 2,4", "* VANISHED (EARLIER) 2,4", "OK"]
    assert await fetched(session, command) == ["* VANISHED (EARLIER) 2,4", "OK"]
    assert await fetched(session, f"UID FETCH 3:4 (FLAGS) (CHANGEDSINCE {since} VANISHED)") == [
        "* VANISHED (EARLIER) 4",
        "OK",
    ]
    assert await fetched(session, "FETCH 3 UID") == ["* 3 FETCH (UID 5)", "OK"]


@pytest.mark.parametrize(
    ("window", "uids"), [("1:2", [1, 2]), ("-1:-2", [4, 5]), ("2:3", [2, 3]), ("4:100", [4, 5]), ("9:10", [])]
)
async def test_a_window_of_the_letters(door: Door, window: str, uids: list[int]) -> None:
    """RFC 9394 §3.3."""
    session = await door.filled(*[PLAIN] * 5)
    responses = await fetched(session, f"UID FETCH 1:* (UID) (PARTIAL {window})")
    assert responses == [*(f"* {uid} FETCH (UID {uid})" for uid in uids), "OK"]


async def test_the_window_comes_before_what_has_changed(post: Post, door: Door) -> None:
    """RFC 9394 §3.4."""
    session = await door.filled(*[PLAIN] * 5)
    await session.ask("ENABLE CONDSTORE")
    since = await modseq(post)
    await session.ask("STORE 1,5 +FLAGS.SILENT (\\Flagged)")
    now = await modseq(post)
    assert await fetched(session, f"UID FETCH 1:* (UID) (PARTIAL -1:-3 CHANGEDSINCE {since})") == [
        f"* 5 FETCH (UID 5 MODSEQ ({now}))",
        "OK",
    ]


async def test_with_uids_alone(door: Door) -> None:
    """RFC 9586 §3.3: UIDFETCH, with the UID in it only where it was asked for."""
    session = await door.filled(PLAIN, PLAIN)
    await session.ask("STORE 1 +FLAGS.SILENT (\\Deleted)")
    await session.ask("EXPUNGE")
    await session.ask("ENABLE UIDONLY")
    assert await fetched(session, "FETCH 1 FLAGS") == ["BAD [UIDREQUIRED]"]
    assert await fetched(session, "UID FETCH 1:* FLAGS") == ["* 2 UIDFETCH (FLAGS ())", "OK"]
    assert await fetched(session, "UID FETCH 2 (FLAGS UID)") == ["* 2 UIDFETCH (FLAGS () UID 2)", "OK"]
    assert await fetched(session, "UID FETCH 2 BODY[TEXT]") == [
        "* 2 UIDFETCH (FLAGS (\\Seen) BODY[TEXT] {13}\r\nHello, Bob.\r\n)",
        "OK",
    ]


# --- letters that have gone, and damaged ones -----------------------------------------------------


@pytest.mark.parametrize("items", ["FLAGS", "(UID ENVELOPE)", "BODY.PEEK[]", "BODYSTRUCTURE", "INTERNALDATE"])
async def test_letters_that_others_have_removed(door: Door, items: str) -> None:
    """RFC 5530 §3, RFC 9051 §7.5.1: a number still counts, so the client is told that nothing is there; a UID that is
    not there is passed over."""
    session = await door.filled(*[PLAIN] * 3)
    other = await door.open()
    await session.ask("FETCH 1:3 FLAGS")
    await other.ask("STORE 2 +FLAGS.SILENT (\\Deleted)")
    await other.ask("EXPUNGE")
    responses = await fetched(session, f"FETCH 1:3 {items}")
    assert [each.split(" (")[0] for each in responses] == ["* 1 FETCH", "* 3 FETCH", "NO [EXPUNGEISSUED]"]
    assert await fetched(session, f"FETCH 2 {items}") == ["NO [EXPUNGEISSUED]"]
    responses = await fetched(session, f"UID FETCH 1:3 {items}")
    assert [each.split(" (")[0] for each in responses] == ["* 1 FETCH", "* 3 FETCH", "* 2 EXPUNGE", "OK"]
    assert await fetched(session, "FETCH 2 UID") == ["* 2 FETCH (UID 3)", "OK"]


async def test_a_hurt_letter_is_left_out_and_the_others_are_told(post: Post, door: Door) -> None:
    words = [b"Subject: one\r\n\r\nfirst words\r\n", b"Subject: two\r\n\r\nhurt words\r\n", PLAIN]
    session = await door.filled(*words)
    hurt(post, b"hurt words")
    for item in ("BODY.PEEK[]", "BODY.PEEK[TEXT]", "BODYSTRUCTURE", "PREVIEW", "(UID BODY.PEEK[1])"):
        responses = await fetched(session, f"FETCH 1:3 {item}")
        heads = [each.split(" (")[0] for each in responses]
        assert heads == ["* 1 FETCH", "* 3 FETCH", "NO [CONTACTADMIN]"], item
        assert "words" not in "".join(responses).replace("first words", "")
    assert await fetched(session, "FETCH 2 (UID RFC822.SIZE)") == ["* 2 FETCH (UID 2 RFC822.SIZE 28)", "OK"]
    assert [each.split(" BODY")[0] for each in await fetched(session, "UID FETCH 1:3 BODY[]")] == [
        "* 1 FETCH (UID 1 FLAGS (\\Seen)",
        "* 3 FETCH (UID 3 FLAGS (\\Seen)",
        "* 2 FETCH (FLAGS (\\Seen))",
        "NO [CONTACTADMIN]",
    ]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM email_detail WHERE email = :email",
        "UPDATE email_detail SET summary = x'ff00' WHERE email = :email",
        "UPDATE email_detail SET prefix = x'00' WHERE email = :email",
    ],
)
async def test_a_letter_of_damaged_rows_is_left_out_and_the_others_are_told(
    post: Post, door: Door, statement: str
) -> None:
    session = await door.filled(PLAIN, PLAIN, PLAIN)

    def unit(tx: object) -> None:
        email = tx.rows("SELECT email FROM placement WHERE uid = 2")[0][0]  # type: ignore[attr-defined]
        tx.run(statement, email=email)  # type: ignore[attr-defined]

    await post.house.database.write(unit)
    item = "BODY.PEEK[]" if "prefix" in statement else "ENVELOPE"
    responses = await fetched(session, f"FETCH 1:3 ({item} UID)")
    assert [each.split(" (")[0] for each in responses] == ["* 1 FETCH", "* 3 FETCH", "NO [CONTACTADMIN]"]
    assert responses[1].endswith("UID 3)")


# --- many letters ---------------------------------------------------------------------------------


@pytest.mark.parametrize("items", ["(UID FLAGS)", "(UID ENVELOPE)", "(UID BODY.PEEK[])", "(UID BODY INTERNALDATE)"])
async def test_an_answer_of_many_pieces_is_whole(door: Door, monkeypatch: pytest.MonkeyPatch, items: str) -> None:
    for name in ("ROWS", "PAGE"):
        monkeypatch.setattr(fetching, name, 7)
    session = await door.filled(*[PLAIN] * 50)
    await session.ask("STORE 3,11:13,50 +FLAGS.SILENT (\\Deleted)")
    await session.ask("EXPUNGE")
    responses = await fetched(session, f"FETCH 1:* {items}")
    expected = [uid for uid in range(1, 50) if uid not in (3, 11, 12, 13)]
    found = [re.match(r"\* (\d+) FETCH \(UID (\d+) ", each) for each in responses[:-1]]
    assert [(int(each[1]), int(each[2])) for each in found if each] == list(enumerate(expected, 1))
    assert responses[-1] == "OK"


@pytest.mark.parametrize("limit", [1, 3, 7, 100])
def test_a_long_piece_is_cut_and_nothing_lost(limit: int) -> None:
    pieces: Pieces = [b"abc", memoryview(b"defghij"), b"", b"klmnopqrstuvw", memoryview(b"xyz")]
    parts = list(fetching.cut(pieces, limit))
    assert b"".join(b"".join(part) for part in parts) == b"abcdefghijklmnopqrstuvwxyz"
    assert {len(b"".join(part)) for part in parts[:-1]} <= {limit}
    assert len(b"".join(parts[-1])) <= limit


async def test_what_was_written_for_one_client_is_told_to_the_next(post: Post, door: Door) -> None:
    """ENVELOPE and structures are written once; UTF-8 between quotes is for those who have asked for it."""
    accented = b"Subject: caf\xc3\xa9\r\nContent-Type: text/plain; name=\xc3\xa9\r\n\r\nx"
    session = await door.filled(PLAIN, accented, PARTS)
    plain = await Imap.open(post, mailbox="INBOX")
    for items in ("(UID ENVELOPE)", "(BODY UID BODYSTRUCTURE)", "(ENVELOPE INTERNALDATE BODYSTRUCTURE)"):
        first, other = await fetched(session, f"FETCH 1:3 {items}"), await fetched(plain, f"FETCH 1:3 {items}")
        assert first[1] != other[1]
        assert first[0::2] == other[0::2]
        post.house.mailboxes.fetching.kept = KeptOctets()
        assert await fetched(session, f"FETCH 1:3 {items}") == await fetched(session, f"FETCH 1:3 {items}") == first
        assert await fetched(plain, f"FETCH 1:3 {items}") == other
    await session.ask("STORE 1 +FLAGS.SILENT (\\Deleted)")
    await session.ask("EXPUNGE")
    assert [each.split(" (")[0] for each in await fetched(plain, "FETCH 1:3 (UID ENVELOPE INTERNALDATE)")] == [
        "* 2 FETCH",
        "* 3 FETCH",
        "NO [EXPUNGEISSUED]",
    ]
    await plain.wire.hang_up()


async def test_a_large_letter_is_told_whole(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "PIECE", 70_000)
    large = b"Subject: large\r\n\r\n" + bytes(range(32, 127)) * 8_000
    session = await door.filled(PLAIN, large, PLAIN)
    responses, answer = await session.tell("FETCH 1:3 BODY.PEEK[]")
    assert answer.startswith("OK")
    assert [each.split(b"\r\n", 1)[1][:-1] for each in responses] == [PLAIN, large, PLAIN]
    assert await value(session, "BODY.PEEK[HEADER]", 2) == b"Subject: large\r\n\r\n"
    assert await value(session, "BODY.PEEK[]<500000.20>", 2, label="BODY[]<500000>") == large[500_000:500_020]


async def test_the_header_of_a_large_letter_is_told_though_its_body_is_hurt(door: Door) -> None:
    """It is not looked at; who asks for the body is not told anything of it."""
    body = b"0123456789abcdef" * 8_000
    session = await door.filled(b"Subject: large\r\n\r\n" + body)
    hurt(door.post, body)
    assert await value(session, "BODY.PEEK[HEADER.FIELDS (Subject)]") == b"Subject: large\r\n\r\n"
    assert await fetched(session, "FETCH 1 BODY.PEEK[TEXT]") == ["NO [CONTACTADMIN]"]


async def test_a_hurt_header_of_a_large_letter_is_told_to_nobody(door: Door) -> None:
    session = await door.filled(b"Subject: large letter\r\n\r\n" + b"0123456789abcdef" * 8_000)
    hurt(door.post, b"large letter")
    for item in ("BODY.PEEK[HEADER.FIELDS (Subject)]", "BODY.PEEK[HEADER]", "BODY.PEEK[]"):
        assert await fetched(session, f"FETCH 1 {item}") == ["NO [CONTACTADMIN]"]


async def test_what_happens_between_two_pieces_is_told_and_nothing_twice(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A letter that goes while others are told, and one whose flags change: the numbers stay what they were."""
    monkeypatch.setattr(fetching, "ROWS", 2)
    session = await door.filled(*[PLAIN] * 6)
    other = await door.open()
    told_before = fetching.Answer.__anext__
    pieces = 0

    async def piece(answer: fetching.Answer) -> object:
        nonlocal pieces
        pieces += 1
        if pieces == 2:
            await other.ask("STORE 5 +FLAGS.SILENT (\\Flagged)")
            await other.ask("STORE 4 +FLAGS.SILENT (\\Deleted)")
            await other.ask("EXPUNGE")
        return await told_before(answer)

    monkeypatch.setattr(fetching.Answer, "__anext__", piece)
    assert await fetched(session, "FETCH 1:6 (UID FLAGS)") == [
        "* 1 FETCH (UID 1 FLAGS ())",
        "* 2 FETCH (UID 2 FLAGS ())",
        "* 3 FETCH (UID 3 FLAGS ())",
        "* 5 FETCH (UID 5 FLAGS (\\Flagged))",
        "* 6 FETCH (UID 6 FLAGS ())",
        "NO [EXPUNGEISSUED]",
    ]
    assert await fetched(session, "NOOP") == ["* 4 EXPUNGE", "OK"]
