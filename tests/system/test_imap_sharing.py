# SPDX-License-Identifier: Apache-2.0
"""Mailboxes that several people use, and quota, with the whole server, over TLS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from posthouse.store import rules
from tests.system.imap import BOB, Imap
from tests.system.post import Post

CAROL = "carol@bob.test"
ALICE = "alice@alice.test"
WORK = '"Other Users/bob@bob.test/Work"'
PLANS = '"Other Users/bob@bob.test/Work/Plans"'
LETTER = b"From: bob@bob.test\r\nSubject: Draft\r\n\r\nHello.\r\n"
EVERY = "lrswipkxteacd"


async def told(session: Imap, command: str) -> list[str]:
    """Untagged responses of a command that succeeds, without their stars."""
    responses, answer = await session.tell(command)
    assert answer.startswith("OK"), answer
    return [each.decode().removeprefix("* ") for each in responses]


async def names(session: Imap, pattern: str = "*") -> list[str]:
    return [row.rpartition(' "/" ')[2] for row in await told(session, f'LIST "" "{pattern}"')]


async def people(post: Post) -> tuple[Imap, Imap]:
    """Bob, who has Work with a letter and Work/Plans; Carol."""
    bob, carol = await Imap.open(post, BOB), await Imap.open(post, CAROL)
    await bob.ask("CREATE Work/Plans")
    await bob.append("Work", LETTER)
    return bob, carol


# --- rights ---------------------------------------------------------------------------------------


async def test_rights_are_given_told_and_taken(post: Post) -> None:
    bob, carol = await people(post)
    async with bob, carol:
        assert await told(bob, "GETACL Work") == [f"ACL Work {BOB} {EVERY}"]
        assert await told(bob, f"SETACL Work {CAROL} rl") == []
        await told(bob, "SETACL Work anyone l")
        await told(bob, f"SETACL Work {CAROL} +dsk")
        await told(bob, f"SETACL Work {CAROL} -t")
        await told(bob, f"SETACL Work -{CAROL} w")
        assert await told(bob, "GETACL Work") == [f"ACL Work {BOB} {EVERY} anyone l {CAROL} lrskecd -{CAROL} w"], (
            "c and d for programs of the time before (RFC 4314 §2.1.1)"
        )
        assert await told(carol, f"MYRIGHTS {WORK}") == [f"MYRIGHTS {WORK} lrskecd"]
        assert await told(bob, "MYRIGHTS Work") == [f"MYRIGHTS Work {EVERY}"]
        await told(bob, f"DELETEACL Work {CAROL}")
        await told(bob, f"DELETEACL Work {CAROL}")
        assert await told(bob, "GETACL Work") == [f"ACL Work {BOB} {EVERY} anyone l -{CAROL} w"]
        assert await told(carol, f"MYRIGHTS {WORK}") == [f"MYRIGHTS {WORK} l"]
        await told(bob, f"SETACL Work -{CAROL} l")
        assert (await carol.ask(f"MYRIGHTS {WORK}")).startswith("NO [NONEXISTENT]")


async def test_which_rights_can_be_given(post: Post) -> None:
    """RFC 4314 §3.4, §3.7: the identifier comes back as it was said."""
    bob, carol = await people(post)
    async with bob, carol:
        each = " ".join(EVERY)
        assert await told(bob, "LISTRIGHTS Work Carol@BOB.test") == [f'LISTRIGHTS Work Carol@BOB.test "" {each}']
        assert await told(bob, "LISTRIGHTS Work -anyone") == [f'LISTRIGHTS Work -anyone "" {each}']
        assert await told(bob, f"LISTRIGHTS Work {BOB}") == [f"LISTRIGHTS Work {BOB} {EVERY}"]


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("SETACL Work carol@bob.test lz", "BAD [CLIENTBUG]"),
        ("SETACL Work carol@bob.test LR", "BAD [CLIENTBUG]"),
        ('SETACL Work "" lr', "BAD [CLIENTBUG]"),
        ('SETACL Work "-" lr', "BAD [CLIENTBUG]"),
        ("SETACL Work nobody@bob.test lr", "NO [NONEXISTENT]"),
        ("SETACL Work not-an-address lr", "NO [NONEXISTENT]"),
        ("SETACL Work bob@bob.test lr", "NO [CANNOT]"),
        ("SETACL Work -bob@bob.test lr", "NO [CANNOT]"),
        ("DELETEACL Work bob@bob.test", "NO [CANNOT]"),
        ("DELETEACL Work nobody@bob.test", "NO [NONEXISTENT]"),
        ("SETACL Nothing carol@bob.test lr", "NO [NONEXISTENT]"),
        ("GETACL Nothing", "NO [NONEXISTENT]"),
        ("LISTRIGHTS Work nobody@bob.test", "NO [NONEXISTENT]"),
        ("MYRIGHTS Nothing", "NO [NONEXISTENT]"),
    ],
)
async def test_what_cannot_be_granted(post: Post, command: str, answer: str) -> None:
    async with await Imap.open(post, BOB) as bob:
        await bob.ask("CREATE Work")
        assert (await bob.ask(command)).startswith(answer)
        assert await told(bob, "GETACL Work") == [f"ACL Work {BOB} {EVERY}"]


# What each command needs (RFC 4314 §4), said of Work by somebody who has all other rights.
NEEDED = [
    ("r", "SELECT {}"),
    ("r", "EXAMINE {}"),
    ("r", "STATUS {} (MESSAGES)"),
    ("r", "GETQUOTAROOT {}"),
    ("k", "CREATE {}/New"),
    ("k", "RENAME {}/Plans {}/New"),
    ("x", "RENAME {}/Plans {}/New"),
    ("x", "DELETE {}/Plans"),
    ("a", "GETACL {}"),
    ("a", "SETACL {} alice@alice.test lr"),
    ("a", "DELETEACL {} alice@alice.test"),
    ("a", "LISTRIGHTS {} alice@alice.test"),
]


@pytest.mark.parametrize(("right", "command"), NEEDED)
async def test_every_command_needs_its_right(post: Post, right: str, command: str) -> None:
    bob, carol = await people(post)
    verb, _, rest = command.partition(" ")
    words = [word.replace("{}", "Other Users/bob@bob.test/Work") for word in rest.split(" ")]
    quoted = [f'"{word}"' if " " in word else word for word in words]
    said = " ".join((verb, *quoted))
    async with bob, carol:
        for name in ("Work", "Work/Plans"):
            await told(bob, f"SETACL {name} {CAROL} lrswipkxtea")
            await told(bob, f"SETACL {name} {CAROL} -{right}")
        assert (await carol.ask(said)).startswith("NO [NOPERM]")
        for name in ("Work", "Work/Plans"):
            await told(bob, f"SETACL {name} {CAROL} -l")
        assert (await carol.ask(said)).startswith(("NO [NONEXISTENT]", "NO [CANNOT]")), "not there for her"
        for name in ("Work", "Work/Plans"):
            await told(bob, f"SETACL {name} {CAROL} l{right}" + ("kx" if "RENAME" in command else ""))
        assert (await carol.ask(said)).startswith("OK")


# --- other users ----------------------------------------------------------------------------------


async def test_the_mailboxes_of_others_have_their_own_place(post: Post) -> None:
    bob, carol = await people(post)
    async with bob, carol:
        own = await names(carol)
        assert await told(carol, "NAMESPACE") == ['NAMESPACE (("" "/")) (("Other Users/" "/")) (("Shared/" "/"))']
        await told(bob, f"SETACL Work/Plans {CAROL} lr")
        assert await names(carol) == [*own, PLANS]
        assert await told(carol, 'LIST "" Oth%') == ['LIST (\\Noselect \\HasChildren) "/" "Other Users"']
        assert await told(carol, 'LIST "Other Users/" %') == [
            'LIST (\\Noselect \\HasChildren) "/" "Other Users/bob@bob.test"'
        ]
        assert await told(carol, 'LIST () "" "Other Users/bob@bob.test/%"') == [
            f'LIST (\\NonExistent \\Noselect \\HasChildren) "/" {WORK}'
        ], "RFC 4314 §4: a superior without right l behaves as if it were not there"
        assert (await carol.ask(f"SELECT {PLANS}")).startswith("OK [READ-ONLY]")
        assert (await carol.ask(f"SELECT {WORK}")).startswith("NO [NONEXISTENT]")
        await told(bob, f"SETACL Work/Plans {CAROL} lri")
        assert await told(carol, f'LIST "" {PLANS} RETURN (MYRIGHTS)') == [
            f'LIST (\\HasNoChildren) "/" {PLANS}',
            f"MYRIGHTS {PLANS} lri",
        ], "RFC 8440"


async def test_what_is_made_below_belongs_to_the_owner(post: Post) -> None:
    """RFC 4314 §4: with the rights of the mailbox above."""
    bob, carol = await people(post)
    async with bob, carol:
        await told(bob, f"SETACL Work {CAROL} lrik")
        new = WORK.removesuffix('"') + '/Carol/Here"'
        assert (await carol.ask(f"CREATE {new}")).startswith("OK [MAILBOXID (")
        assert await names(bob, "Work/C*") == ["Work/Carol", "Work/Carol/Here"]
        assert await told(carol, f"MYRIGHTS {new}") == [f"MYRIGHTS {new} lrikc"]
        assert (await carol.append(new, LETTER)).startswith("OK")
        assert await told(bob, "STATUS Work/Carol/Here (MESSAGES)") == ["STATUS Work/Carol/Here (MESSAGES 1)"]
        assert (await carol.ask(f"CREATE {new}")).startswith("NO [ALREADYEXISTS]")
        assert (await carol.ask(f"CREATE {PLANS}")).startswith("NO [ALREADYEXISTS]"), (
            "there, although she does not see it"
        )
        new = new.removesuffix('"')
        assert (await carol.ask(f'CREATE {new}2" (USE (\\Archive))')).startswith("NO [USEATTR]")


async def test_mailboxes_do_not_go_from_one_person_to_another(post: Post) -> None:
    bob, carol = await people(post)
    async with bob, carol, await Imap.open(post, ALICE) as alice:
        for session, name in ((bob, "Work"), (bob, "INBOX"), (alice, "INBOX")):
            await told(session, f"SETACL {name} {CAROL} lrswipkxtea")
        alices = '"Other Users/alice@alice.test/INBOX/Work"'
        bobs_inbox = '"Other Users/bob@bob.test/INBOX"'
        for command in (
            f"RENAME {WORK} Mine",
            f"RENAME {WORK} {alices}",
            f"RENAME Sent {alices}",
            f'RENAME {bobs_inbox} {WORK[:-1]}/Letters"',
            f"DELETE {bobs_inbox}",
            'CREATE "Other Users/bob@bob.test/New"',
            f'RENAME {WORK} "Other Users/bob@bob.test/New"',
        ):
            assert (await carol.ask(command)).startswith("NO [CANNOT]"), command
        assert (await carol.ask(f"RENAME {WORK} {WORK}")).startswith("NO [ALREADYEXISTS]")
        assert await names(bob, "Work*") == ["Work", "Work/Plans"]


async def test_a_visitor_renames_and_deletes_within_what_is_shared(post: Post) -> None:
    bob, carol = await people(post)
    async with bob, carol:
        for name in ("Work", "Work/Plans"):
            await told(bob, f"SETACL {name} {CAROL} lrkx")
        await told(bob, "CREATE Work/Plans/Secret")
        await told(bob, f"SETACL Work/Plans/Secret {CAROL} l")
        new = WORK[:-1] + '/Ideas"'
        assert (await carol.ask(f"RENAME {PLANS} {new}")).startswith("NO [NOPERM]"), "Secret would go with it"
        await told(bob, "DELETE Work/Plans/Secret")
        assert (await carol.ask(f"RENAME {PLANS} {new}")).startswith("OK")
        assert await names(bob, "Work*") == ["Work", "Work/Ideas"]
        assert (await carol.ask(f"DELETE {WORK}")).startswith("NO [HASCHILDREN]")
        assert (await carol.ask(f"DELETE {new}")).startswith("OK")
        assert await names(bob, "Work*") == ["Work"]


async def test_who_may_no_longer_read_a_mailbox_does_not_keep_it_selected(post: Post) -> None:
    bob, carol = await people(post)
    async with bob, carol:
        await told(bob, f"SETACL Work {CAROL} lrs")
        await carol.ask(f"SELECT {WORK}")
        await carol.tell("FETCH 1 FLAGS")
        await told(bob, f"SETACL Work {CAROL} -s")
        assert await told(carol, "NOOP") == []
        await carol.tell("STORE 1 +FLAGS (\\Seen)")
        assert await told(carol, f"STATUS {WORK} (UNSEEN)") == [f"STATUS {WORK} (UNSEEN 1)"], "the right was taken away"
        await told(bob, f"DELETEACL Work {CAROL}")
        await carol.say("NOOP")
        assert (await carol.response()).startswith(b"* BYE")


async def test_subscribing_to_mailboxes_of_others(post: Post) -> None:
    bob, carol = await people(post)
    async with bob, carol:
        assert (await carol.ask(f"SUBSCRIBE {WORK}")).startswith("NO [NONEXISTENT]")
        await told(bob, f"SETACL Work {CAROL} lr")
        assert await told(carol, 'LIST (SUBSCRIBED) "" Oth*') == []
        await told(carol, f"SUBSCRIBE {WORK}")
        there = [f'LIST (\\HasNoChildren \\Subscribed) "/" {WORK}']
        assert await told(carol, 'LIST (SUBSCRIBED) "" Oth*') == there
        assert await told(carol, 'LIST "" Oth* RETURN (SUBSCRIBED)') == there
        assert await told(carol, 'LSUB "" Oth*') == [f'LSUB () "/" {WORK}']
        assert await told(carol, 'LSUB "" Oth%') == ['LSUB (\\Noselect) "/" "Other Users"']
        assert await told(bob, 'LSUB "" W*') == [], "hers, not his"
        await told(bob, "RENAME Work Play")
        play = '"Other Users/bob@bob.test/Play"'
        assert await told(carol, 'LSUB "" Oth*') == [f'LSUB () "/" {play}'], "it goes where its owner puts it"
        await told(bob, f"DELETEACL Play {CAROL}")
        assert await told(carol, 'LIST (SUBSCRIBED) "" Oth*') == [
            f'LIST (\\NonExistent \\Noselect \\HasNoChildren \\Subscribed) "/" {play}'
        ]
        await told(carol, f"UNSUBSCRIBE {play}")
        assert await told(carol, 'LIST (SUBSCRIBED) "" Oth*') == []


# --- the shared ones --------------------------------------------------------------------------------


async def test_the_mailboxes_of_the_house_are_everybodys_as_they_were_granted(post: Post) -> None:
    """Those of shared@ of the own domain, under Shared/."""
    await post.house.administration.add_account("shared@bob.test", "secret")
    bob, carol = await people(post)
    async with bob, carol, await Imap.open(post, "shared@bob.test") as keeper, await Imap.open(post, ALICE) as alice:
        await told(keeper, "CREATE Sales/2026")
        for name in ("Sales", "Sales/2026"):
            await told(keeper, f"SETACL {name} anyone lrs")
        await told(keeper, f"SETACL Sales {CAROL} lrswitek")
        assert await names(carol, "Shared*") == ["Shared/Sales", "Shared/Sales/2026"]
        assert await names(carol, "Other*") == []
        assert await names(alice, "Shared*") == [], "her domain has none"
        assert await names(alice, "Other*") == [
            '"Other Users/shared@bob.test/Sales"',
            '"Other Users/shared@bob.test/Sales/2026"',
        ]
        assert await names(keeper, "Sales*") == ["Sales", "Sales/2026"]
        for wrong in ('"Other Users/shared@bob.test/Sales"', "Shared", "Shared/"):
            assert (await carol.ask(f"SELECT {wrong}")).startswith("NO [NONEXISTENT]"), wrong
        assert (await carol.append("Shared/Sales", LETTER)).startswith("OK")
        assert (await carol.ask("CREATE Shared/Sales/Old")).startswith("OK")
        assert (await bob.ask("CREATE Shared/Sales/New")).startswith("NO [NOPERM]")
        assert (await bob.ask("CREATE Shared/New")).startswith("NO [CANNOT]")
        assert (await bob.ask("SELECT Shared/Sales")).startswith("OK")
        assert await told(bob, "GETQUOTAROOT Shared/Sales") == [
            "QUOTAROOT Shared/Sales shared@bob.test",
            "QUOTA shared@bob.test (MESSAGE 1 4294967295)",
        ]


async def test_a_house_may_have_no_shared_mailboxes(opener: Callable[..., Any]) -> None:
    post = await opener(imap={"shared": ""})
    async with await Imap.open(post, BOB) as bob:
        assert await told(bob, "NAMESPACE") == ['NAMESPACE (("" "/")) (("Other Users/" "/")) NIL']
        assert (await bob.ask("SELECT Shared/INBOX")).startswith("NO [NONEXISTENT]")


# --- quota ----------------------------------------------------------------------------------------


async def test_quota(post: Post) -> None:
    """RFC 9208: one root for each account, told with what is used and what there is."""
    async with await Imap.open(post, "small@bob.test") as small, await Imap.open(post, BOB) as bob:
        await small.append("INBOX", LETTER)
        quota = "QUOTA small@bob.test (STORAGE 1 1 MESSAGE 1 4294967295)"
        assert await told(small, "GETQUOTAROOT INBOX") == ["QUOTAROOT INBOX small@bob.test", quota]
        assert await told(small, "GETQUOTAROOT Future/Mailbox") == ["QUOTAROOT Future/Mailbox small@bob.test", quota]
        assert await told(small, 'GETQUOTA ""') == await told(small, "GETQUOTA small@bob.test") == [quota]
        assert await told(bob, "GETQUOTA bob@bob.test") == ["QUOTA bob@bob.test (MESSAGE 0 4294967295)"]
        assert (await bob.ask("GETQUOTA small@bob.test")).startswith("NO [NONEXISTENT]")
        assert (await bob.ask("GETQUOTA nobody")).startswith("NO [NONEXISTENT]")
        assert (await bob.ask("GETQUOTAROOT Shared/INBOX")).startswith("NO [NONEXISTENT]")
        assert (await bob.ask("GETQUOTAROOT a//b")).startswith("NO [CANNOT]")
        await told(small, f"SETACL INBOX {BOB} lr")
        assert await told(bob, "GETQUOTA small@bob.test") == [quota]
        assert (await small.ask('SETQUOTA "" (STORAGE 9999)')).startswith("NO [NOPERM]")


# --- people that go -------------------------------------------------------------------------------


async def test_nothing_is_left_of_people_that_go(post: Post) -> None:
    bob, carol = await people(post)
    async with bob, carol:
        await told(bob, f"SETACL Work {CAROL} lrs")
        await told(carol, f"SETACL INBOX {BOB} lrs")
        await told(carol, f"SUBSCRIBE {WORK}")
        await told(bob, f'SUBSCRIBE "Other Users/{CAROL}/INBOX"')
        await carol.ask(f"SELECT {WORK}")
        await carol.tell("STORE 1 +FLAGS (\\Seen)")
        await post.house.administration.remove_account(CAROL)
        assert await told(bob, "GETACL Work") == [f"ACL Work {BOB} {EVERY}"]
        assert await told(bob, 'LSUB "" Other*') == []
        assert await names(bob, "Other*") == []

        def leftovers(reader: Any) -> Any:
            tables = ("mailbox_right", "visitor_seen", "subscribed_name")
            return [row for table in tables for row in reader.rows(f"SELECT '{table}', COUNT(*) FROM {table}")]

        assert dict(await post.house.database.read(leftovers)) == {
            "mailbox_right": 0,
            "visitor_seen": 0,
            "subscribed_name": 0,
        }
        for rule in rules.RULES:
            page = await post.house.database.read(lambda reader, rule=rule: rules.look(reader, rule, 0, 0.0))
            assert page.wrong == (), rule.says
