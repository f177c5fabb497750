# SPDX-License-Identifier: Apache-2.0
"""LIST in all its forms, LSUB and STATUS with the whole server, over TLS."""

from __future__ import annotations

import re
from functools import partial

import pytest

from posthouse.services.mailbox import listing
from posthouse.store import mailboxes
from tests.system.imap import BOB, Imap
from tests.system.post import Post

CAROL = "carol@bob.test"
LETTER = b"From: bob@bob.test\r\nSubject: Draft\r\n\r\nHello.\r\n"
FIRST = ("Drafts", "Sent", "Archive", "Junk", "Trash")
FRUIT = ("Fruit", "Fruit/Apple", "Fruit/Banana", "Fruit/Peach", "Tofu", "Vegetable", "Vegetable/Broccoli")
SUBSCRIBED = ("Fruit/Banana", "Fruit/Peach", "Vegetable", "Vegetable/Broccoli")


async def told(session: Imap, command: str) -> list[str]:
    """Untagged responses of a command that succeeds, without their stars."""
    responses, answer = await session.tell(command)
    assert answer.startswith("OK"), answer
    return [each.decode().removeprefix("* ") for each in responses]


async def listed(session: Imap, arguments: str) -> list[str]:
    """What LIST tells, without the attributes about children and the hierarchy's delimiter."""
    responses = await told(session, f"LIST {arguments}")
    rows = [re.sub(r"\\Has(No)?Children ?", "", each.removeprefix("LIST ")) for each in responses]
    return [row.replace(' "/"', "").replace(" )", ")") for row in rows]


async def bob_of(post: Post, *, subscribed: tuple[str, ...] = SUBSCRIBED, names: tuple[str, ...] = FRUIT) -> Imap:
    """Bob with mailboxes as in the examples of RFC 9051 §6.3.9.8 and INBOX alone of the first ones."""
    bob = await Imap.open(post, BOB)
    for name in FIRST:
        await bob.ask(f"UNSUBSCRIBE {name}")
        await bob.ask(f"DELETE {name}")
    for name in names:
        await bob.ask(f"CREATE {name}")
    for name in subscribed:
        await bob.ask(f"SUBSCRIBE {name}")
    await bob.ask("DELETE Fruit/Peach")
    return bob


async def test_the_examples_of_the_standard(post: Post) -> None:
    """RFC 9051 §6.3.9.8, examples 1 to 6."""
    async with await bob_of(post) as bob:
        assert await told(bob, 'LIST "" ""') == ['LIST (\\Noselect) "/" ""']
        assert await listed(bob, '"" "*"') == [
            *("() Fruit", "() Fruit/Apple", "() Fruit/Banana", "() INBOX", "() Tofu"),
            *("() Vegetable", "() Vegetable/Broccoli"),
        ]
        assert await listed(bob, '(SUBSCRIBED) "" "*"') == [
            *("(\\Subscribed) Fruit/Banana", "(\\Subscribed) INBOX", "(\\Subscribed) Vegetable"),
            *("(\\Subscribed) Vegetable/Broccoli", "(\\NonExistent \\Noselect \\Subscribed) Fruit/Peach"),
        ]
        assert await told(bob, 'LIST () "" "%" RETURN (CHILDREN)') == [
            'LIST (\\HasChildren) "/" Fruit',
            'LIST (\\HasNoChildren) "/" INBOX',
            'LIST (\\HasNoChildren) "/" Tofu',
            'LIST (\\HasChildren) "/" Vegetable',
        ]
        assert await listed(bob, '(REMOTE) "" "V%" RETURN (SUBSCRIBED)') == ["(\\Subscribed) Vegetable"]
        assert await listed(bob, '(REMOTE) "" "F*" RETURN (SUBSCRIBED)') == [
            *("() Fruit", "() Fruit/Apple", "(\\Subscribed) Fruit/Banana"),
        ]


async def test_parents_of_what_is_subscribed(post: Post) -> None:
    """RFC 9051 §6.3.9.8, example 7: the difference between children and children that are looked for."""
    names = ("Foo/Bar", "Foo/Baz", "Moo")
    recursive = '(SUBSCRIBED RECURSIVEMATCH) "" "%"'
    async with await bob_of(post, names=names, subscribed=()) as bob:
        await bob.ask("UNSUBSCRIBE INBOX")
        assert await listed(bob, recursive) == [], "B: Foo has children, but none of them is subscribed"
        await bob.ask("SUBSCRIBE Foo/Baz")
        assert await listed(bob, '(SUBSCRIBED) "" "*"') == ["(\\Subscribed) Foo/Baz"]
        assert await listed(bob, '(SUBSCRIBED) "" "%"') == []
        assert await listed(bob, recursive) == ['() Foo (CHILDINFO ("SUBSCRIBED"))']
        await bob.ask("SUBSCRIBE Foo")
        assert await listed(bob, recursive) == ['(\\Subscribed) Foo (CHILDINFO ("SUBSCRIBED"))'], "A1"
        for name in ("Foo/Bar", "Foo/Baz", "Foo"):
            await bob.ask(f"DELETE {name}")
        await bob.ask("UNSUBSCRIBE Foo")
        assert await listed(bob, recursive) == ['(\\NonExistent \\Noselect) Foo (CHILDINFO ("SUBSCRIBED"))'], "A2"
        await bob.ask("UNSUBSCRIBE Foo/Baz")
        await bob.ask("CREATE Foo/Bar")
        await bob.ask("SUBSCRIBE Foo")
        await bob.ask("SUBSCRIBE Moo")
        assert await told(bob, f"LIST {recursive} RETURN (CHILDREN)") == [
            'LIST (\\HasChildren \\Subscribed) "/" Foo',
            'LIST (\\HasNoChildren \\Subscribed) "/" Moo',
        ], "C"


async def test_parents_are_told_for_the_sake_of_children_that_are_not(post: Post) -> None:
    """RFC 9051 §6.3.9.8, examples 8 and 9: what does not match the pattern counts; what is told already does not."""
    names = ("foo2/bar1", "foo2/bar2", "baz2/bar2", "baz2/bar22", "baz2/bar222", "eps2/mamba", "qux2/bar2")
    subscribed = ("foo2/bar1", "foo2/bar2", "baz2/bar2", "baz2/bar22", "baz2/bar222", "eps2", "eps2/mamba", "qux2/bar2")
    async with await bob_of(post, names=names, subscribed=subscribed) as bob:
        assert await listed(bob, '(RECURSIVEMATCH SUBSCRIBED) "" "*2"') == [
            *("(\\Subscribed) baz2/bar2", "(\\Subscribed) baz2/bar22", "(\\Subscribed) baz2/bar222"),
            '(\\Subscribed) eps2 (CHILDINFO ("SUBSCRIBED"))',
            *("(\\Subscribed) foo2/bar2", "(\\Subscribed) qux2/bar2", '() foo2 (CHILDINFO ("SUBSCRIBED"))'),
        ]


async def test_special_uses_are_selected_and_combined(post: Post) -> None:
    """RFC 6154 §5.2; options hold together (RFC 9051 §6.3.9)."""
    async with await bob_of(post, names=(), subscribed=()) as bob:
        await bob.ask("CREATE Mail/Gone (USE (\\Trash))")
        await bob.ask("CREATE Mail/Sent (USE (\\Sent))")
        await bob.ask("SUBSCRIBE Mail/Gone")
        assert await listed(bob, '(SPECIAL-USE) "" *') == ["(\\Trash) Mail/Gone", "(\\Sent) Mail/Sent"]
        assert await listed(bob, '"" Mail% RETURN (SPECIAL-USE)') == ["() Mail"]
        assert await listed(bob, '(SPECIAL-USE RECURSIVEMATCH) "" %') == ['() Mail (CHILDINFO ("SPECIAL-USE"))']
        assert await listed(bob, '(SPECIAL-USE SUBSCRIBED) "" *') == ["(\\Subscribed \\Trash) Mail/Gone"]
        assert await listed(bob, '(SPECIAL-USE SUBSCRIBED RECURSIVEMATCH) "" %') == [
            '() Mail (CHILDINFO ("SUBSCRIBED" "SPECIAL-USE"))'
        ]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ('"" inbox', ["INBOX"]),
        ('"" iN%', ["INBOX"]),
        ('"inb" ox', ["INBOX"]),
        ('"" inbox/%', ["INBOX/Below"]),
        ('"" (Tofu "" Tofu inbox)', ["INBOX", "Tofu"]),
        ('"Fruit/" %', ["Fruit/Apple", "Fruit/Banana"]),
        ('"Fru" it/A%', ["Fruit/Apple"]),
        ('"" F*p*', ["Fruit/Apple"]),
        ('"" %/%', ["Fruit/Apple", "Fruit/Banana", "INBOX/Below", "Vegetable/Broccoli"]),
        ('"" *li', ["Vegetable/Broccoli"]),
        ('"" "Cafe\u0301"', ['"Caf\u00e9"']),
        ('"" tofu', []),
        ('"" //', []),
        ('() "" ("")', []),
        ('() "" ""', []),
    ],
)
async def test_patterns(post: Post, arguments: str, names: list[str]) -> None:
    async with await bob_of(post) as bob:
        await bob.ask("ENABLE UTF8=ACCEPT")
        for name in ("INBOX/Below", '"Caf\u00e9"'):
            assert (await bob.ask(f"CREATE {name}")).startswith("OK")
        assert [row.partition(") ")[2] for row in await listed(bob, arguments)] == names


async def test_a_long_list_is_told_in_pieces(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "PAGE", 2)
    monkeypatch.setattr(listing, "STEPS", 5)
    async with await bob_of(post) as bob:
        assert len(await listed(bob, '"" "*"')) == 7
        assert await listed(bob, '"" "No*"') == []


# --- STATUS ---------------------------------------------------------------------------------------

ITEMS = "MESSAGES RECENT UIDNEXT UNSEEN DELETED DELETED-STORAGE SIZE APPENDLIMIT"


async def fill(post: Post) -> Imap:
    """Bob with three letters in Work: one seen, two deleted."""
    bob = await bob_of(post, names=("Work", "Empty"), subscribed=())
    await bob.append("Work", LETTER)
    await bob.append("Work", LETTER, before="(\\Seen \\Deleted) ")
    await bob.append("Work", LETTER, before="(\\Deleted) ")
    return bob


async def test_status_tells_every_figure(post: Post) -> None:
    size = len(LETTER)
    limit = post.house.settings.smtp.max_message
    async with await fill(post) as bob:
        account = await post.house.directory.account(BOB)
        assert account is not None
        work = await post.house.database.read(partial(mailboxes.by_name, account=account.id, name="Work"))
        assert work is not None
        figures = (
            f"(MESSAGES 3 RECENT 3 UIDNEXT 4 UNSEEN 2 DELETED 2 DELETED-STORAGE {2 * size} SIZE {3 * size}"
            f" APPENDLIMIT {limit})"
        )
        assert await told(bob, f"STATUS Work ({ITEMS})") == [f"STATUS Work {figures}"]
        assert await told(bob, "STATUS Work (UIDVALIDITY HIGHESTMODSEQ MAILBOXID)") == [
            f"STATUS Work (UIDVALIDITY {work.uid_validity} HIGHESTMODSEQ {work.modseq} MAILBOXID (m{work.id:x}))"
        ]
        empty = f"(MESSAGES 0 RECENT 0 UIDNEXT 1 UNSEEN 0 DELETED 0 DELETED-STORAGE 0 SIZE 0 APPENDLIMIT {limit})"
        assert await told(bob, f'LIST "" (Work Empty) RETURN (STATUS ({ITEMS}))') == [
            'LIST (\\HasNoChildren) "/" Empty',
            f"STATUS Empty {empty}",
            'LIST (\\HasNoChildren) "/" Work',
            f"STATUS Work {figures}",
        ]
        for name, answer in (("Nothing", "NO [NONEXISTENT]"), ("Shared/Work", "NO [NONEXISTENT]")):
            assert (await bob.ask(f"STATUS {name} (MESSAGES)")).startswith(answer)


async def test_status_of_the_selected_mailbox_and_what_it_enables(post: Post) -> None:
    """RFC 7162 §3.1: whoever asks for HIGHESTMODSEQ knows CONDSTORE, and is told so from then on."""
    async with await fill(post) as bob, await Imap.open(post, BOB) as other:
        await other.ask("SELECT Work")
        await bob.ask("SELECT Work")
        await bob.tell("FETCH 1:3 FLAGS")
        responses = await told(bob, "STATUS Work (MESSAGES HIGHESTMODSEQ)")
        assert any(each.startswith("STATUS Work (MESSAGES 3 HIGHESTMODSEQ") for each in responses)
        await other.ask("STORE 1 +FLAGS (\\Flagged)")
        [row] = await told(bob, "NOOP")
        assert "MODSEQ" in row
        await other.append("Work", LETTER)
        responses = await told(bob, "STATUS Work (MESSAGES)")
        assert responses[0] == "STATUS Work (MESSAGES 4)"
        assert "4 EXISTS" in responses


async def test_unseen_is_each_persons_own(post: Post) -> None:
    async with await fill(post) as bob, await Imap.open(post, CAROL) as carol:
        await bob.ask(f"SETACL Work {CAROL} lrs")
        name = '"Other Users/bob@bob.test/Work"'
        unseen = [f"STATUS {name} (UNSEEN 3)"]
        assert await told(carol, f"STATUS {name} (UNSEEN)") == unseen
        await carol.ask(f"SELECT {name}")
        assert (await carol.ask("STORE 1:2 +FLAGS.SILENT (\\Seen)")).startswith("OK")
        unseen = [f"STATUS {name} (UNSEEN 1)"]
        assert await told(carol, f"STATUS {name} (UNSEEN)") == unseen
        assert (await told(carol, 'LIST "" Oth* RETURN (STATUS (UNSEEN))'))[1:] == unseen
        assert await told(bob, "STATUS Work (UNSEEN)") == ["STATUS Work (UNSEEN 2)"]
