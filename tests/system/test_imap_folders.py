# SPDX-License-Identifier: Apache-2.0
"""CREATE, DELETE, RENAME, SUBSCRIBE and UNSUBSCRIBE with the whole server, over TLS."""

from __future__ import annotations

import pytest

from posthouse.store import mailboxes
from tests.system.imap import Imap
from tests.system.post import Post

ALICE = "alice@alice.test"
CAROL = "carol@bob.test"
LETTER = b"From: bob@bob.test\r\nSubject: Draft\r\n\r\nHello.\r\n"


async def names(session: Imap, pattern: str = "*") -> list[str]:
    """Names that LIST tells, as they stand in the response."""
    told, answer = await session.tell(f'LIST "" "{pattern}"')
    assert answer.startswith("OK")
    return [row.decode().rpartition(' "/" ')[2] for row in told]


async def test_making_renaming_and_deleting(post: Post) -> None:
    async with await Imap.open(post) as bob:
        assert (await bob.ask("CREATE Work/Plans/")).startswith("OK [MAILBOXID (m")
        assert await names(bob, "Work*") == ["Work", "Work/Plans"], "superiors are made with it (RFC 9051 §6.3.4)"
        assert (await bob.ask("CREATE work")).startswith("OK"), "only INBOX has no case"
        assert (await bob.ask("RENAME Work Play")).startswith("OK")
        assert await names(bob, "P*") == ["Play", "Play/Plans"]
        assert (await bob.ask("DELETE Play")).startswith("NO [HASCHILDREN]")
        assert (await bob.ask("DELETE Play/Plans")).startswith("OK")
        assert (await bob.ask("DELETE Play")).startswith("OK")
        assert await names(bob, "P*") == []


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("CREATE inbox", "NO [ALREADYEXISTS]"),
        ("CREATE Sent", "NO [ALREADYEXISTS]"),
        ("CREATE a//b", "NO [CANNOT]"),
        ("CREATE #news", "NO [CANNOT]"),
        ("CREATE Shared", "NO [CANNOT]"),
        ("CREATE Shared/Mine", "NO [CANNOT]"),
        ('CREATE "Other Users/alice@alice.test/Mine"', "NO [CANNOT]"),
        ("CREATE a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/r/s/t/u", "NO [CANNOT]"),
        ("CREATE Drafts2 (USE (\\Drafts))", "NO [USEATTR]"),
        ("CREATE Everything (USE (\\All))", "NO [USEATTR]"),
        ("CREATE Both (USE (\\Sent \\Junk))", "NO [USEATTR]"),
        ("DELETE INBOX", "NO [CANNOT]"),
        ("DELETE Nothing", "NO [NONEXISTENT]"),
        ("RENAME Nothing Something", "NO [NONEXISTENT]"),
        ("RENAME Sent Trash", "NO [ALREADYEXISTS]"),
        ("RENAME Sent Sent/Below", "NO [CANNOT]"),
        ("RENAME Sent Shared/Sent", "NO [CANNOT]"),
        ("RENAME Sent a//b", "NO [CANNOT]"),
        ("SUBSCRIBE Nothing", "NO [NONEXISTENT]"),
        ("UNSUBSCRIBE Nothing", "OK"),
    ],
)
async def test_what_cannot_be_is_refused_and_changes_nothing(post: Post, command: str, answer: str) -> None:
    async with await Imap.open(post) as bob:
        before = await names(bob)
        assert (await bob.ask(command)).startswith(answer)
        assert await names(bob) == before


async def told(session: Imap, command: str) -> list[str]:
    """Untagged responses of a command that succeeds."""
    responses, answer = await session.tell(command)
    assert answer.startswith("OK"), answer
    return [each.decode() for each in responses]


async def validity(session: Imap, name: str) -> int:
    [row] = await told(session, f"STATUS {name} (UIDVALIDITY)")
    return int(row.rpartition(" ")[2].rstrip(")"))


async def test_a_name_that_comes_again_has_a_higher_uidvalidity(post: Post) -> None:
    """RFC 9051 §2.3.1.1."""
    async with await Imap.open(post) as bob:
        await bob.ask("CREATE Work")
        first = await validity(bob, "Work")
        await bob.ask("DELETE Work")
        await bob.ask("CREATE Work")
        assert await validity(bob, "Work") > first


async def test_names_are_utf7_or_utf8_as_enabled(post: Post) -> None:
    async with await Imap.open(post) as old, await Imap.open(post, enable="IMAP4rev2") as new:
        assert (await old.ask("CREATE &ZeVnLIqe-")).startswith("OK")
        assert await names(old, "&ZeVnLIqe-") == ["&ZeVnLIqe-"]
        assert await names(new, "日本%") == ['"日本語"']
        assert (await new.ask('RENAME "日本語" "日記"')).startswith("OK")
        assert (await names(old, "%"))[-1] == "&ZeWKGA-"
        assert await names(old, "&*") == [], "half a letter is the name of nothing (RFC 9051 §6.3.9)"


async def test_a_client_of_rev2_is_told_the_name_that_a_mailbox_got(post: Post) -> None:
    """RFC 9051 §6.3.9.7: names are kept in NFC, and INBOX in capitals."""
    async with await Imap.open(post, enable="IMAP4rev2") as bob, await Imap.open(post) as old:
        spelled = '"Cafe\u0301"'
        assert await told(bob, f"CREATE {spelled}") == [f'* LIST () "/" "Caf\u00e9" (OLDNAME ({spelled}))']
        assert await told(bob, "CREATE Plain/") == []
        opened = f'* LIST () "/" "Caf\u00e9" (OLDNAME ({spelled}))'
        assert opened in await told(bob, f"SELECT {spelled}"), "RFC 9051 §6.3.2"
        assert '* LIST () "/" Plain' in await told(bob, "SELECT Plain")
        assert await told(bob, 'RENAME "Caf\u00e9" Tea') == ['* LIST () "/" Tea (OLDNAME ("Caf\u00e9"))']
        assert await told(bob, "CREATE inbox/Below") == ['* LIST () "/" INBOX/Below (OLDNAME (inbox/Below))']
        assert await told(bob, "DELETE inbox/Below") == [
            '* LIST (\\NonExistent) "/" INBOX/Below (OLDNAME (inbox/Below))'
        ]
        assert await told(old, "CREATE inbox/Below") == [], "it would not know what that means"


async def test_renaming_inbox_moves_its_letters_and_leaves_it_there(post: Post) -> None:
    """RFC 9051 §6.3.6; who looks at it sees them go."""
    async with await Imap.open(post) as bob, await Imap.open(post) as other:
        await bob.append("INBOX", LETTER, LETTER)
        await bob.ask("CREATE INBOX/Below")
        await bob.ask("SELECT INBOX")
        await other.ask("SELECT INBOX")
        await other.tell("FETCH 1:2 FLAGS")
        assert await told(bob, "RENAME INBOX Old/2026") == ["* 2 EXPUNGE", "* 1 EXPUNGE"]
        assert await names(bob, "INBOX*") == ["INBOX", "INBOX/Below"]
        assert await told(bob, "STATUS Old/2026 (MESSAGES)") == ["* STATUS Old/2026 (MESSAGES 2)"]
        assert "* 1 EXPUNGE" in await told(other, "NOOP")


async def test_who_deletes_the_selected_mailbox_goes_on_without_and_others_are_sent_away(post: Post) -> None:
    async with (
        await Imap.open(post) as bob,
        await Imap.open(post) as looks,
        await Imap.open(post) as reads,
        await Imap.open(post) as waits,
    ):
        await bob.ask("CREATE Work")
        await bob.append("Work", LETTER)
        for session in (bob, looks, reads, waits):
            assert (await session.ask("SELECT Work")).startswith("OK")
        await reads.tell("FETCH 1 FLAGS")
        await waits.idle()
        responses = await told(bob, "DELETE Work")
        assert responses == ["* OK [CLOSED] The mailbox has been deleted"]
        assert (await bob.ask("FETCH 1 FLAGS")).startswith("BAD"), "nothing is selected"
        assert (await bob.ask("SELECT INBOX")).startswith("OK")
        for session in (looks, reads):
            await session.say("NOOP")
            assert (await session.response()).startswith(b"* BYE")
        assert (await waits.response()).startswith(b"* BYE")


async def test_a_selected_mailbox_may_be_renamed(post: Post) -> None:
    async with await Imap.open(post) as bob, await Imap.open(post) as other:
        await bob.ask("CREATE Work/Plans")
        await bob.append("Work/Plans", LETTER)
        for session in (bob, other):
            await session.ask("SELECT Work/Plans")
        assert await told(bob, "RENAME Work Play") == []
        assert await told(bob, "FETCH 1 UID") == ["* 1 FETCH (UID 1)"]
        assert await told(other, "FETCH 1 UID") == ["* 1 FETCH (UID 1)"]
        # A name that a younger mailbox once had is another epoch: the session cannot go on (RFC 9051 §2.3.1.1).
        await bob.ask("CREATE Young")
        await bob.ask("DELETE Young")
        assert await told(bob, "RENAME Play/Plans Young") == ["* OK [CLOSED] The mailbox has been deleted"]
        await other.say("NOOP")
        assert (await other.response()).startswith(b"* BYE")


async def test_a_special_use_is_given_with_the_mailbox(post: Post) -> None:
    """RFC 6154 §3, and of another mailbox only after it has gone there."""
    async with await Imap.open(post) as bob:
        assert (await bob.ask("DELETE Sent")).startswith("OK")
        assert (await bob.ask("CREATE Gesendet (USE (\\SENT))")).startswith("OK")
        assert await told(bob, 'LIST (SPECIAL-USE) "" Ges*') == ['* LIST (\\HasNoChildren \\Sent) "/" Gesendet']
        assert (await bob.ask("CREATE Plain (USE ())")).startswith("OK")


async def test_there_are_not_more_mailboxes_than_can_be_listed(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailboxes, "MAX_MAILBOXES", 8)
    async with await Imap.open(post) as bob:
        assert (await bob.ask("CREATE 7")).startswith("OK")
        assert (await bob.ask("CREATE 8/9")).startswith("NO [LIMIT]")
        assert await names(bob, "8*") == [], "nothing half-done"


# --- subscriptions --------------------------------------------------------------------------------


async def test_subscriptions_come_and_go(post: Post) -> None:
    async with await Imap.open(post) as bob:
        await bob.ask("CREATE Work/Plans")
        assert await told(bob, 'LSUB "" Wo*') == []
        assert (await bob.ask("SUBSCRIBE Work/Plans")).startswith("OK")
        assert (await bob.ask("SUBSCRIBE Work/Plans")).startswith("OK")
        assert await told(bob, 'LSUB "" Wo*') == ['* LSUB () "/" Work/Plans']
        assert await told(bob, 'LSUB "" Wo%') == ['* LSUB (\\Noselect) "/" Work'], "RFC 3501 §6.3.9"
        assert (await bob.ask("UNSUBSCRIBE Work/Plans")).startswith("OK")
        assert (await bob.ask("UNSUBSCRIBE Work/Plans")).startswith("OK"), "RFC 9051 §6.3.8"
        assert await told(bob, 'LSUB "" Wo*') == []


async def test_a_name_stays_subscribed_until_its_person_says_otherwise(post: Post) -> None:
    """RFC 9051 §6.3.7."""
    async with await Imap.open(post) as bob:
        await bob.ask("CREATE Alerts")
        await bob.ask("SUBSCRIBE Alerts")
        await bob.ask("RENAME Alerts Notices")
        await bob.ask("DELETE Notices")
        gone = ['* LIST (\\NonExistent \\Noselect \\HasNoChildren \\Subscribed) "/" Notices']
        assert await told(bob, 'LIST (SUBSCRIBED) "" (A* N*)') == [
            '* LIST (\\HasNoChildren \\Subscribed \\Archive) "/" Archive',
            *gone,
        ]
        assert await told(bob, 'LIST "" N* RETURN (SUBSCRIBED)') == [], "it is no mailbox (RFC 9051 §6.3.9.2)"
        assert await told(bob, 'LSUB "" N*') == ['* LSUB () "/" Notices']
        await bob.ask("CREATE Notices")
        assert await told(bob, 'LIST (SUBSCRIBED) "" N*') == ['* LIST (\\HasNoChildren \\Subscribed) "/" Notices']
        await bob.ask("DELETE Notices")
        assert (await bob.ask("UNSUBSCRIBE Notices/")).startswith("OK")
        assert await told(bob, 'LIST (SUBSCRIBED) "" N*') == []
        assert (await bob.ask("UNSUBSCRIBE a//b")).startswith("OK"), "no name, so not subscribed"
