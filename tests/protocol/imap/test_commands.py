# SPDX-License-Identifier: Apache-2.0
"""The grammar of commands: what each says, and what is refused. Whole commands, through the table."""

from __future__ import annotations

from datetime import date

import pytest

from posthouse.mail import search as key
from posthouse.mail.name_pattern import name_pattern
from posthouse.mail.number_set import NumberSet
from posthouse.mail.search import PartialRange, ReturnOption, SortCriterion, SortKey, ThreadAlgorithm
from posthouse.protocol.imap import events as ev
from posthouse.protocol.imap import limits
from posthouse.protocol.imap.fetch_items import (
    MACROS,
    Attribute,
    BinarySection,
    BinarySize,
    BodySection,
    Partial,
    Preview,
    Section,
    SectionKind,
)
from posthouse.protocol.imap.parse_message import Appending
from posthouse.protocol.imap.table import COMMANDS
from posthouse.protocol.imap.tokens import NO_NAME, CommandFault, Cursor


def parse(command: bytes, *literals: bytes, is_utf8: bool = False) -> ev.Event:
    verb, _, rest = command.partition(b" ")
    by_uid = verb == b"UID"
    if by_uid:
        word, _, rest = rest.partition(b" ")
        verb = b"UID " + word
    cursor = Cursor(b" " + rest if rest else b"", literals, is_utf8=is_utf8, by_uid=by_uid)
    found = COMMANDS[verb].parse(cursor)
    assert not isinstance(found, Appending)
    return found


def numbers(*ranges: tuple[int, int]) -> NumberSet:
    return NumberSet(ranges)


ONE = numbers((1, 1))
SEEN = key.HasFlag("\\Seen")


@pytest.mark.parametrize(
    ("command", "event"),
    [
        (b'LOGIN alice "se\\"cr\\\\et"', ev.Login("alice", 'se"cr\\et')),
        (b'LOGIN "" ""', ev.Login("", "")),
        (b"LOGIN a]b c", ev.Login("a]b", "c")),
        ('LOGIN "j\u00fcrgen" x'.encode(), ev.Login("j\u00fcrgen", "x")),
        (b"ENABLE condstore X-FOO CONDSTORE", ev.Enable(("CONDSTORE", "X-FOO"))),
        (b"ID NIL", ev.Id(None)),
        (b"ID nil", ev.Id(None)),
        (b"ID ()", ev.Id(())),
        (b'ID ("name" "x" "version" NIL)', ev.Id((("name", "x"), ("version", None)))),
        (b"SELECT inbox", ev.Select("INBOX", is_read_only=False)),
        (b'EXAMINE "a b" (CONDSTORE)', ev.Select("a b", is_read_only=True, condstore=True)),
        (
            b"SELECT x (QRESYNC (67890007 20050715194045000 41,43:211,214:541))",
            ev.Select(
                "x",
                is_read_only=False,
                qresync=ev.Qresync(67890007, 20050715194045000, numbers((41, 41), (43, 211), (214, 541))),
            ),
        ),
        (
            b"SELECT x (QRESYNC (1 2 (1,3 10,20)) CONDSTORE)",
            ev.Select(
                "x",
                is_read_only=False,
                condstore=True,
                qresync=ev.Qresync(1, 2, None, numbers((1, 1), (3, 3)), numbers((10, 10), (20, 20))),
            ),
        ),
        ('SELECT "\u0131nbox"'.encode(), ev.Select("\u0131nbox", is_read_only=False)),
        (b"CREATE Archive/2024", ev.Create("Archive/2024")),
        (b"CREATE x (USE (\\drafts \\SENT))", ev.Create("x", ("\\Drafts", "\\Sent"))),
        (b"CREATE x (USE ())", ev.Create("x")),
        (b"DELETE x", ev.Delete("x")),
        (b"RENAME InBoX old", ev.Rename("INBOX", "old")),
        (b"SUBSCRIBE x", ev.Subscribe("x")),
        (b"UNSUBSCRIBE x", ev.Unsubscribe("x")),
        (b"STATUS x (messages UIDNEXT)", ev.Status("x", (ev.StatusItem.MESSAGES, ev.StatusItem.UIDNEXT))),
        (
            b"STATUS x (MAILBOXID DELETED-STORAGE HIGHESTMODSEQ APPENDLIMIT SIZE)",
            ev.Status(
                "x",
                (
                    ev.StatusItem.MAILBOXID,
                    ev.StatusItem.DELETED_STORAGE,
                    ev.StatusItem.HIGHESTMODSEQ,
                    ev.StatusItem.APPENDLIMIT,
                    ev.StatusItem.SIZE,
                ),
            ),
        ),
        (b'LIST "" *', ev.List("", ("*",))),
        (b'LIST "" ""', ev.List("", ("",))),
        (b"LIST ref/ %a*]", ev.List("ref/", ("%a*]",))),
        (b'LIST () "" %', ev.List("", ("%",), is_extended=True)),
        (b'LIST "" (a "b c" INBOX)', ev.List("", ("a", "b c", "INBOX"), is_extended=True)),
        (
            b'LIST (SUBSCRIBED RECURSIVEMATCH REMOTE) "" * RETURN (CHILDREN SPECIAL-USE MYRIGHTS STATUS (UNSEEN))',
            ev.List(
                "",
                ("*",),
                is_extended=True,
                only_subscribed=True,
                with_remote=True,
                recursive_match=True,
                tell_children=True,
                tell_special_use=True,
                tell_my_rights=True,
                status=(ev.StatusItem.UNSEEN,),
            ),
        ),
        (
            b'LIST (SPECIAL-USE) "" * RETURN ()',
            ev.List("", ("*",), is_extended=True, only_special_use=True),
        ),
        (b'LSUB "" *', ev.Lsub("", "*")),
        (b"GETACL x", ev.GetAcl("x")),
        (b"SETACL x bob +lrs", ev.SetAcl("x", "bob", ev.RightsChange.ADD, "lrs")),
        (b'SETACL x bob ""', ev.SetAcl("x", "bob", ev.RightsChange.SET, "")),
        (b"SETACL x -bob -ll", ev.SetAcl("x", "-bob", ev.RightsChange.REMOVE, "l")),
        (b"DELETEACL x anyone", ev.DeleteAcl("x", "anyone")),
        (b"LISTRIGHTS x bob", ev.ListRights("x", "bob")),
        (b"MYRIGHTS x", ev.MyRights("x")),
        (b'GETQUOTA ""', ev.GetQuota("")),
        (b"GETQUOTAROOT INBOX", ev.GetQuotaRoot("INBOX")),
        (b"SETQUOTA r (STORAGE 512 message 9)", ev.SetQuota("r", (("STORAGE", 512), ("MESSAGE", 9)))),
        (b"SETQUOTA r ()", ev.SetQuota("r", ())),
        (b"EXPUNGE", ev.Expunge()),
        (b"EXPUNGE ", ev.Expunge()),
        (b"UID EXPUNGE 3:4", ev.Expunge(numbers((3, 4)))),
        (b"COPY 1 x", ev.Copy(ONE, by_uid=False, mailbox="x")),
        (b"UID MOVE $ Trash", ev.Move(NumberSet((), has_saved=True), by_uid=True, mailbox="Trash")),
        (b"STORE 1 FLAGS ()", ev.Store(ONE, by_uid=False, mode=ev.StoreMode.SET, flags=())),
        (
            b"UID STORE 1 -flags.silent \\seen $x \\Seen",
            ev.Store(ONE, by_uid=True, mode=ev.StoreMode.REMOVE, flags=("\\Seen", "$x"), is_silent=True),
        ),
        (
            b"STORE 1 (UNCHANGEDSINCE 0) +FLAGS (\\Deleted)",
            ev.Store(ONE, by_uid=False, mode=ev.StoreMode.ADD, flags=("\\Deleted",), unchanged_since=0),
        ),
        (b"FETCH 1 ALL", ev.Fetch(ONE, by_uid=False, items=MACROS[b"ALL"])),
        (b"FETCH 1 fast", ev.Fetch(ONE, by_uid=False, items=MACROS[b"FAST"])),
        (b"FETCH 1 FULL", ev.Fetch(ONE, by_uid=False, items=MACROS[b"FULL"])),
        (
            b"UID FETCH 1:* (FLAGS flags MODSEQ) (CHANGEDSINCE 12345 VANISHED)",
            ev.Fetch(numbers((1, 0)), True, (Attribute.FLAGS, Attribute.MODSEQ), 12345, tell_vanished=True),
        ),
        (
            b"UID FETCH 1:* FLAGS (PARTIAL -1:-30)",
            ev.Fetch(numbers((1, 0)), True, (Attribute.FLAGS,), partial=PartialRange(-1, -30)),
        ),
        (
            b"UID SEARCH RETURN (MIN MAX COUNT SAVE ALL) UNSEEN",
            ev.Search(key.Not(SEEN), True, frozenset(ReturnOption)),
        ),
        (b"SEARCH RETURN () ALL", ev.Search(key.All(), False, frozenset({ReturnOption.ALL}))),
        (
            b"SEARCH RETURN (PARTIAL 10:1 COUNT) ALL",
            ev.Search(key.All(), False, frozenset({ReturnOption.COUNT}), PartialRange(10, 1)),
        ),
        (
            b"SORT (REVERSE DATE SUBJECT displayfrom) utf-8 SEEN",
            ev.Sort(
                (
                    SortKey(SortCriterion.DATE, True),
                    SortKey(SortCriterion.SUBJECT),
                    SortKey(SortCriterion.DISPLAY_FROM),
                ),
                SEEN,
                False,
            ),
        ),
        (
            b"UID SORT RETURN (COUNT) (ARRIVAL) US-ASCII ALL",
            ev.Sort((SortKey(SortCriterion.ARRIVAL),), key.All(), True, frozenset({ReturnOption.COUNT})),
        ),
        (b"THREAD references UTF-8 SEEN", ev.Thread(ThreadAlgorithm.REFERENCES, SEEN, False)),
        (b"UID THREAD ORDEREDSUBJECT UTF-8 ALL", ev.Thread(ThreadAlgorithm.ORDERED_SUBJECT, key.All(), True)),
    ],
)
def test_commands(command: bytes, event: ev.Event) -> None:
    assert parse(command) == event


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"ALL", key.All()),
        (b"answered", key.HasFlag("\\Answered")),
        (b"UNDRAFT", key.Not(key.HasFlag("\\Draft"))),
        (b"NEW", key.And((key.IsRecent(), key.Not(SEEN)))),
        (b"OLD", key.Not(key.IsRecent())),
        (b"RECENT", key.IsRecent()),
        (b"KEYWORD $Junk", key.HasFlag("$Junk")),
        (b"UNKEYWORD $Junk", key.Not(key.HasFlag("$Junk"))),
        (b'FROM "a b"', key.InAddress(key.AddressField.FROM, "a b")),
        (b"TO x", key.InAddress(key.AddressField.TO, "x")),
        (b"CC x", key.InAddress(key.AddressField.CC, "x")),
        (b"BCC x", key.InAddress(key.AddressField.BCC, "x")),
        (b"SUBJECT x", key.InSubject("x")),
        (b"BODY x", key.InBody("x")),
        (b"TEXT x", key.InText("x")),
        (b'HEADER X-Y ""', key.InHeader("X-Y", "")),
        (b"BEFORE 1-Feb-1994", key.DateIs(key.DateKind.RECEIVED, key.Relation.BEFORE, date(1994, 2, 1))),
        (b'SENTON "01-feb-1994"', key.DateIs(key.DateKind.SENT, key.Relation.ON, date(1994, 2, 1))),
        (b"SAVEDSINCE 1-Feb-1994", key.DateIs(key.DateKind.SAVED, key.Relation.SINCE, date(1994, 2, 1))),
        (b"SAVEDATESUPPORTED", key.HasSaveDate()),
        (b"LARGER 9223372036854775807", key.Larger(9223372036854775807)),
        (b"SMALLER 0", key.Smaller(0)),
        (b"OLDER 5", key.Older(5)),
        (b"YOUNGER 259200", key.Younger(259200)),
        (b"MODSEQ 0", key.ModSeqSince(0)),
        (b'MODSEQ "/flags/\\\\draft" all 620162338', key.ModSeqSince(620162338, "\\Draft")),
        (b'MODSEQ "/flags/$x" priv 1', key.ModSeqSince(1, "$x", key.EntryType.PRIVATE)),
        (b"EMAILID M6d99ac3275bb4e", key.EmailIdIs("M6d99ac3275bb4e")),
        (b"THREADID T-1_x", key.ThreadIdIs("T-1_x")),
        (b"2,4:7,*:9", key.InSequence(numbers((2, 2), (4, 7), (0, 9)))),
        (b"$", key.InSequence(NumberSet((), has_saved=True))),
        (b"UID 5,$", key.InUids(NumberSet(((5, 5),), has_saved=True))),
        (b"NOT SEEN", key.Not(SEEN)),
        (b"OR SEEN NOT 1", key.Or(SEEN, key.Not(key.InSequence(ONE)))),
        (b"(SEEN)", SEEN),
        (b"(SEEN 1) ALL", key.And((key.And((SEEN, key.InSequence(ONE))), key.All()))),
        (b"CHARSET utf-8 SEEN", SEEN),
        (b"SEEN ", SEEN),
    ],
)
def test_search_keys(text: bytes, found: key.SearchKey) -> None:
    assert parse(b"SEARCH " + text) == ev.Search(found, by_uid=False)


@pytest.mark.parametrize(
    ("charset", "octets", "text"),
    [
        ("ISO-8859-1", b"\xe9", "\u00e9"),
        ("utf-8", b"\xc3\xa9", "\u00e9"),
        ("GB2312", b"\xc4\xe3", "\u4f60"),
        ("ISO-2022-JP", b"\x1b$B$\x22\x1b(B", "\u3042"),
        ("koi8-r", b"\xc1", "\u0430"),
    ],
)
def test_search_texts_are_decoded_by_their_charset(charset: str, octets: bytes, text: str) -> None:
    command = f"SEARCH CHARSET {charset} TEXT {{{len(octets)}}}\r\n"
    assert parse(command.encode(), octets) == ev.Search(key.InText(text), by_uid=False)


def test_an_unknown_charset_is_no_with_badcharset() -> None:
    with pytest.raises(CommandFault) as fault:
        parse(b"SEARCH CHARSET klingon TEXT x")
    assert fault.value.is_no
    assert fault.value.code.startswith("BADCHARSET (")
    with pytest.raises(CommandFault) as fault:
        parse(b"SEARCH CHARSET ISO-8859-1 ALL", is_utf8=True)
    assert fault.value.code.startswith("BADCHARSET (")
    assert parse(b"SEARCH CHARSET UTF-8 ALL", is_utf8=True) == ev.Search(key.All(), by_uid=False)


@pytest.mark.parametrize(
    ("text", "item"),
    [
        (b"BODY", Attribute.BODY),
        (b"BODY[]", BodySection(Section((), SectionKind.ALL), b"BODY[]")),
        (b"body.peek[]", BodySection(Section((), SectionKind.ALL), b"BODY[]", is_peek=True)),
        (b"BODY[]<0.1>", BodySection(Section((), SectionKind.ALL), b"BODY[]<0>", Partial(0, 1))),
        (b"BODY[TEXT]", BodySection(Section((), SectionKind.TEXT), b"BODY[TEXT]")),
        (b"BODY[1]", BodySection(Section((1,), SectionKind.ALL), b"BODY[1]")),
        (b"BODY[1.2.3]", BodySection(Section((1, 2, 3), SectionKind.ALL), b"BODY[1.2.3]")),
        (b"BODY[4.1.mime]", BodySection(Section((4, 1), SectionKind.MIME), b"BODY[4.1.MIME]")),
        (b"BODY[2.HEADER]", BodySection(Section((2,), SectionKind.HEADER), b"BODY[2.HEADER]")),
        (b"BODY[2.TEXT]<5.7>", BodySection(Section((2,), SectionKind.TEXT), b"BODY[2.TEXT]<5>", Partial(5, 7))),
        (
            b'BODY.PEEK[HEADER.FIELDS (From "To" "X-%s")]',
            BodySection(
                Section((), SectionKind.FIELDS, (b"From", b"To", b"X-%s")),
                b'BODY[HEADER.FIELDS (From To "X-%s")]',
                is_peek=True,
            ),
        ),
        (
            b"BODY[3.header.fields.not (A)]",
            BodySection(Section((3,), SectionKind.FIELDS_NOT, (b"A",)), b"BODY[3.HEADER.FIELDS.NOT (A)]"),
        ),
        (b"RFC822", BodySection(Section((), SectionKind.ALL), b"RFC822")),
        (b"RFC822.HEADER", BodySection(Section((), SectionKind.HEADER), b"RFC822.HEADER", is_peek=True)),
        (b"RFC822.TEXT", BodySection(Section((), SectionKind.TEXT), b"RFC822.TEXT")),
        (b"RFC822.SIZE", Attribute.RFC822_SIZE),
        (b"BINARY[1]", BinarySection((1,), b"BINARY[1]")),
        (b"BINARY.PEEK[]<3.4>", BinarySection((), b"BINARY[]<3>", Partial(3, 4), is_peek=True)),
        (b"BINARY.SIZE[1.2]", BinarySize((1, 2), b"BINARY.SIZE[1.2]")),
        (b"PREVIEW", Preview()),
        (b"PREVIEW (LAZY)", Preview(is_lazy=True)),
        (b"SAVEDATE", Attribute.SAVEDATE),
        (b"emailid", Attribute.EMAILID),
    ],
)
def test_fetch_items(text: bytes, item: object) -> None:
    event = parse(b"FETCH 1 (" + text + b")")
    assert isinstance(event, ev.Fetch)
    assert event.items == (item,)


def test_a_preview_alone_is_told_from_fetch_modifiers() -> None:
    event = parse(b"UID FETCH 1 PREVIEW (LAZY) (CHANGEDSINCE 5)")
    assert event == ev.Fetch(ONE, True, (Preview(is_lazy=True),), 5)
    assert parse(b"FETCH 1 PREVIEW (CHANGEDSINCE 5)") == ev.Fetch(ONE, False, (Preview(),), 5)


def test_what_sets_seen() -> None:
    def sets_seen(items: bytes) -> bool:
        event = parse(b"FETCH 1 (" + items + b")")
        assert isinstance(event, ev.Fetch)
        return event.sets_seen

    assert all(map(sets_seen, (b"BODY[]", b"RFC822", b"RFC822.TEXT", b"BINARY[1]", b"FLAGS BODY[1]")))
    assert not any(map(sets_seen, (b"BODY", b"BODY.PEEK[]", b"RFC822.HEADER", b"BINARY.PEEK[1]", b"ENVELOPE")))


NOT_WELL_FORMED = (
    b"LOGIN alice",
    b"LOGIN  alice x",
    b"LOGIN alice x y",
    b'LOGIN "alice x',
    b'LOGIN "a\\x" y',
    b"LOGIN al*ce x",
    b"LOGIN \xe9 x",
    b"LOGIN {3}x y",
    b"ENABLE",
    b"ENABLE ",
    b"ID",
    b"ID (name x)",
    b'ID ("name")',
    b'ID "x"',
    b"SELECT",
    b"SELECT a b",
    b"SELECT x (FOO)",
    b"SELECT x (CONDSTORE CONDSTORE)",
    b"SELECT x (QRESYNC (0 1))",
    b"SELECT x (QRESYNC (1 0))",
    b"SELECT x (QRESYNC (1 1 1:*))",
    b"SELECT x (QRESYNC (1 1 $))",
    b"SELECT x (QRESYNC (1 1 (1,2 3)))",
    b"CREATE x (USE \\Sent)",
    b"CREATE x (FOO)",
    b"CREATE x (USE (Sent))",
    b"FETCH 1 FLAGS (FOO)",
    b"RENAME x",
    b"STATUS x ()",
    b"STATUS x MESSAGES",
    b"STATUS x (FOO)",
    b"LIST",
    b'LIST ""',
    b'LIST (RECURSIVEMATCH) "" *',
    b'LIST (FOO) "" *',
    b'LIST "" * RETURN (FOO)',
    b'LIST "" * RETURN STATUS',
    b'LIST "" ()',
    b"SETACL x bob L",
    b"SETACL x bob",
    b"SETQUOTA r (STORAGE)",
    b"SETQUOTA r STORAGE 1",
    b"EXPUNGE 1",
    b"UID EXPUNGE",
    b"COPY x 1",
    b"COPY 0 x",
    b"COPY 1,,2 x",
    b"COPY 1: x",
    b"COPY 1:2:3 x",
    b"COPY 4294967296 x",
    b"COPY 99999999999999999999 x",
    b"COPY 1",
    b"STORE 1 FLAGS",
    b"STORE 1 FLAGS \\Recent",
    b"STORE 1 FLAGS \\Foo",
    b"STORE 1 FLAGS (a",
    b"STORE 1 FOO (a)",
    b"STORE 1 (FOO 1) FLAGS ()",
    b"STORE 1 (UNCHANGEDSINCE x) FLAGS ()",
    b"FETCH 1",
    b"FETCH 1 ()",
    b"FETCH 1 FOO",
    b"FETCH 1 (ALL)",
    b"FETCH 1 (FLAGS",
    b"FETCH 1 FLAGS FLAGS",
    b"FETCH 1 BODY[",
    b"FETCH 1 BODY[0]",
    b"FETCH 1 BODY[1.]",
    b"FETCH 1 BODY[.1]",
    b"FETCH 1 BODY[MIME]",
    b"FETCH 1 BODY[FOO]",
    b"FETCH 1 BODY[1.HEADER.FIELDS]",
    b"FETCH 1 BODY[HEADER.FIELDS ()]",
    b"FETCH 1 BODY[HEADER.FIELDS (a:b)]",
    b'FETCH 1 BODY[HEADER.FIELDS ("")]',
    b"FETCH 1 BODY[]<1>",
    b"FETCH 1 BODY[]<1.0>",
    b"FETCH 1 (PREVIEW (FOO))",
    b"FETCH 1 (PREVIEW (LAZY FOO))",
    b"FETCH 1 BINARY[1.MIME]",
    b"FETCH 1 BINARY[HEADER]",
    b"FETCH 1 BINARY.SIZE[1]<0.1>",
    b"FETCH 1 ENVELOPE[]",
    b"FETCH 1 FLAGS (CHANGEDSINCE)",
    b"FETCH 1 FLAGS (CHANGEDSINCE 9223372036854775808)",
    b"FETCH 1 FLAGS (CHANGEDSINCE 1 VANISHED)",
    b"UID FETCH 1 FLAGS (VANISHED)",
    b"FETCH 1 FLAGS (PARTIAL 1:2)",
    b"UID FETCH 1 FLAGS (PARTIAL 1:-2)",
    b"UID FETCH 1 FLAGS (PARTIAL 0:2)",
    b"SEARCH",
    b"SEARCH ",
    b"SEARCH FOO",
    b"SEARCH ()",
    b"SEARCH NOT",
    b"SEARCH OR SEEN",
    b"SEARCH (SEEN",
    b"SEARCH SEEN)",
    b"SEARCH FROM",
    b"SEARCH KEYWORD \\Seen",
    b"SEARCH BEFORE yesterday",
    b"SEARCH BEFORE 30-Feb-2000",
    b"SEARCH BEFORE 1-Foo-2000",
    b'SEARCH BEFORE "1-Feb-2000',
    b"SEARCH OLDER 0",
    b"SEARCH LARGER -1",
    b'SEARCH MODSEQ "/flags/" all 1',
    b'SEARCH MODSEQ "/flags/x" some 1',
    b"SEARCH EMAILID (x)",
    b"SEARCH RETURN (FOO) ALL",
    b"SEARCH RETURN (PARTIAL) ALL",
    b"SEARCH RETURN (PARTIAL 1:5 ALL) ALL",
    b"SEARCH RETURN (PARTIAL 1:5 PARTIAL 6:9) ALL",
    b"SEARCH RETURN ALL ALL",
    b"SEARCH CHARSET UTF-8",
    b"SEARCH CHARSET US-ASCII TEXT \xe9",
    b"SORT DATE UTF-8 ALL",
    b"SORT (FOO) UTF-8 ALL",
    b"SORT (REVERSE) UTF-8 ALL",
    b"SORT () UTF-8 ALL",
    b"SORT (DATE) ALL",
    b"THREAD FOO UTF-8 ALL",
    b"THREAD REFERENCES UTF-8",
    b"COMPRESS GZIP",
    b"COMPRESS",
    b"NAMESPACE x",
    b"CLOSE x",
)


@pytest.mark.parametrize("command", NOT_WELL_FORMED)
def test_what_is_not_well_formed_is_refused(command: bytes) -> None:
    with pytest.raises(CommandFault):
        parse(command)


@pytest.mark.parametrize(
    "command",
    [
        b"COPY " + b"1," * limits.MAX_RANGES + b"1 x",
        b"DELETE " + b"x" * (limits.MAX_MAILBOX_NAME + 1),
        b"STORE 1 FLAGS " + b"x" * (limits.MAX_FLAG + 1),
        b"STORE 1 FLAGS (" + b" ".join(b"f%d" % n for n in range(limits.MAX_FLAGS + 1)) + b")",
        b"STORE 1 FLAGS " + b" ".join(b"f%d" % n for n in range(limits.MAX_FLAGS + 1)),
        b"FETCH 1 (" + b" ".join([b"FLAGS"] * (limits.MAX_FETCH_ITEMS + 1)) + b")",
        b"FETCH 1 BODY[" + b".".join([b"1"] * (limits.MAX_PART_DEPTH + 1)) + b"]",
        b"FETCH 1 BODY[HEADER.FIELDS (" + b" ".join([b"a"] * (limits.MAX_HEADER_NAMES + 1)) + b")]",
        b"SEARCH " + b"NOT " * (limits.MAX_SEARCH_DEPTH + 1) + b"ALL",
        b"SEARCH " + b"(" * (limits.MAX_SEARCH_DEPTH + 1) + b"ALL" + b")" * (limits.MAX_SEARCH_DEPTH + 1),
        b"SEARCH " + b"OR ALL " * (limits.MAX_SEARCH_DEPTH + 1) + b"ALL",
        b"SEARCH" + b" ALL" * (limits.MAX_SEARCH_KEYS + 1),
        b'LIST "" (' + b" ".join([b"a"] * (limits.MAX_PATTERNS + 1)) + b")",
        b"ENABLE" + b" X" * (limits.MAX_ENABLE + 1),
        b"ID (" + b" ".join([b'"a" "b"'] * (limits.MAX_ID_PAIRS + 1)) + b")",
        b'ID ("' + b"n" * (limits.MAX_ID_NAME + 1) + b'" NIL)',
        b'ID ("n" "' + b"v" * (limits.MAX_ID_VALUE + 1) + b'")',
        b"SORT (" + b" ".join([b"DATE"] * (limits.MAX_SORT_KEYS + 1)) + b") UTF-8 ALL",
        b"SETQUOTA r (" + b" ".join([b"STORAGE 1"] * (limits.MAX_QUOTA_RESOURCES + 1)) + b")",
    ],
    ids=lambda command: command[:12].decode(),
)
def test_every_limit_has_its_code(command: bytes) -> None:
    with pytest.raises(CommandFault) as fault:
        parse(command)
    assert fault.value.code == "LIMIT"


@pytest.mark.parametrize("name", [b'"a\x01b"', b'"a\x7fb"', b"&AAk-", '"a\u2028b"'.encode(), '"a\u0085b"'.encode()])
def test_names_have_no_control_characters(name: bytes) -> None:
    """RFC 6855 §3."""
    with pytest.raises(CommandFault) as fault:
        parse(b"CREATE " + name)
    assert (fault.value.code, fault.value.is_no) == ("CANNOT", True)


@pytest.mark.parametrize("pattern", [b"&*", b"&AAk-", b'"a\x01b"', b'("&*")'])
def test_a_pattern_that_can_match_no_name_is_no_error(pattern: bytes) -> None:
    """RFC 9051 §6.3.9: it is ignored. LIST "" "&*" was refused as no modified UTF-7."""
    event = parse(b'LIST "" ' + pattern)
    assert isinstance(event, ev.List)
    assert event.patterns == (NO_NAME,)
    assert not name_pattern(NO_NAME).matches("a/b")


def test_literals_have_no_nul() -> None:
    with pytest.raises(CommandFault):
        parse(b"LOGIN {1}\r\n x", b"\0")


def test_a_password_is_not_shown() -> None:
    assert "secret" not in repr(parse(b"LOGIN alice secret"))


@pytest.mark.parametrize("octets", [b"\xe9", b"\xff\xfe"])
def test_a_text_that_is_not_in_its_charset(octets: bytes) -> None:
    for charset in (b"US-ASCII", b"UTF-8"):
        with pytest.raises(CommandFault):
            parse(b"SEARCH CHARSET %b TEXT {%d}\r\n" % (charset, len(octets)), octets)


def test_identifiers_have_a_limit() -> None:
    with pytest.raises(CommandFault) as fault:
        parse(b"SETACL x " + b"i" * (limits.MAX_MAILBOX_NAME + 1) + b" l")
    assert fault.value.code == "LIMIT"


@pytest.mark.parametrize(
    "text", [b'"01-Feb-1994 25:00:00 +0000"', b'"01-Feb-1994 00:00:00 +9900"', b'"01-Foo-1994 00:00:00 +0000"', b'"x"']
)
def test_times_that_are_none(text: bytes) -> None:
    with pytest.raises(CommandFault):
        Cursor(text).date_time()


def test_a_leap_second_is_the_last_one_of_its_minute() -> None:
    assert Cursor(b'"31-Dec-2016 23:59:60 +0000"').date_time().second == 59
