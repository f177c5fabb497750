# SPDX-License-Identifier: Apache-2.0
"""`posthouse check --store`: damage of every kind is found, named, and mended where something still tells the truth."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

import pytest

from posthouse.outcome import Refusal
from posthouse.ports import DamagedContent, StoreFault
from posthouse.services.findings import Finding
from posthouse.services.store_check import StoreCheck
from posthouse.store import letters
from posthouse.store.blobs.record import Damage, RecordKind
from tests.services.world import InstantBus
from tests.store.drill import BOB, CAROL, DAY, Drill, text


@pytest.fixture
async def drill(tmp_path: Path) -> Any:
    opened = await (await Drill(tmp_path / "data").open()).fill()
    yield opened
    await opened.close()


def check_of(drill: Drill) -> StoreCheck:
    return StoreCheck(
        drill.database,
        drill.packs,
        drill.workers,
        drill.clock,
        InstantBus(),
        hostname="mail.bob.test",
        keep_history=90 * DAY,
        verify=drill.database.verify,
    )


async def look(drill: Drill) -> list[Finding]:
    found = await check_of(drill).run()
    assert all(each.remedy for each in found if each.level not in ("ok", "mended"))
    return found


async def mend(drill: Drill, source: Path | None = None) -> list[Finding]:
    return await check_of(drill).run(repair=True, source=source)


def levels(found: list[Finding]) -> set[str]:
    return {each.level for each in found}


def named(found: list[Finding], *wanted: str) -> set[str]:
    """Ids of the letters, and queue ids, that findings of these levels are about."""
    about = [each.letter for each in found if each.level in (wanted or ("error",)) and each.letter is not None]
    return {each.letter or each.queue_id for each in about}


async def sound(drill: Drill) -> None:
    found = await look(drill)
    assert [each.text for each in found if each.level != "ok"] == []


async def test_a_store_without_damage_has_no_findings(drill: Drill) -> None:
    """With letters for several, large ones, a queue and removed letters whose octets are still there."""
    await sound(drill)
    await drill.again()
    await sound(drill)


async def test_looking_changes_nothing(drill: Drill) -> None:
    await drill.tell("UPDATE mailbox SET total = 77")
    path, place = drill.find(text(2)[-40:])
    drill.flip(path, place)
    await drill.close()
    before = {each: each.read_bytes() for each in drill.folder.rglob("*.pack")}
    await drill.open()
    assert levels(await look(drill)) == {"error"}
    assert {each: each.read_bytes() for each in drill.folder.rglob("*.pack")} == before
    assert {row[0] for row in await drill.rows("SELECT total FROM mailbox")} == {77}


# --- octets ---------------------------------------------------------------------------------------


async def test_a_hurt_letter_is_named_as_its_reader_knows_it_and_never_served(drill: Drill) -> None:
    emails = [email for email, octets in drill.kept.items() if octets.endswith(text(5))]
    assert len(emails) == 2  # bob's and carol's
    path, place = drill.find(text(5)[-60:])
    drill.flip(path, place + 7)
    found = await look(drill)
    assert named(found) == {f"e{email:x}" for email in emails}
    told = {each.letter.owner: each for each in found if each.letter is not None}
    assert set(told) == {BOB, CAROL}
    hurt = told[CAROL].letter
    assert hurt is not None
    assert (hurt.mailbox, hurt.uid, hurt.subject, hurt.message_id) == ("INBOX", 1, "letter 5", "<5@alice.test>")
    assert "Alice" in hurt.sender
    assert hurt.date.startswith("Mon, 2 Nov 2026")
    assert "carol@bob.test, INBOX, UID 1" in told[CAROL].text
    for email in emails:
        stored = await drill.database.read(lambda reader, email=email: letters.retrieve(reader, email))
        assert stored is not None
        with pytest.raises(DamagedContent):
            await drill.packs.open(stored.location)


async def test_a_hurt_letter_in_the_queue_is_named_with_its_recipients(drill: Drill) -> None:
    [queue_id] = drill.queued
    path, place = drill.find(drill.queued[queue_id][-60:])
    drill.flip(path, place + 7)
    [found] = await look(drill)
    assert found.letter is not None
    assert found.letter.queue_id == str(queue_id)
    assert found.letter.recipients == ("dave@elsewhere.test", "erin@elsewhere.test")
    assert "dave@elsewhere.test, erin@elsewhere.test" in found.text


async def test_a_missing_pack_hurts_the_letters_in_it_and_no_other(drill: Drill) -> None:
    path, _ = drill.find(text(2)[-40:])
    octets = path.read_bytes()
    inside = {email for email, whole in drill.kept.items() if whole.partition(b"Date: ")[2] in octets}
    assert 0 < len(inside) < len(drill.kept)
    path.unlink()
    drill.packs.forget_checked()
    drill.packs._maps.clear()
    found = await look(drill)
    assert named(found) >= {f"e{email:x}" for email in inside}
    assert named(found) & {f"e{email:x}" for email in drill.kept.keys() - inside} == set()
    assert any("is missing" in each.text and each.letter is None for each in found)


async def test_a_pack_that_was_cut_hurts_what_was_cut_off(drill: Drill) -> None:
    path, place = drill.find(text(3)[-60:])
    octets = path.read_bytes()
    path.write_bytes(octets[: place + 10])
    drill.packs.forget_checked()
    drill.packs._maps.clear()
    hurt = {
        f"e{email:x}"
        for email, whole in drill.kept.items()
        if whole[-60:] in octets and octets.find(whole[-60:]) + 60 > place + 10
    }
    found = await look(drill)
    assert named(found) - {str(each) for each in drill.queued} == hurt


async def test_a_sector_that_cannot_be_read_is_no_end_of_the_check(
    drill: Drill, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk gives EIO for the block in which a letter lies; the others of the pack are found whole."""
    import errno

    path, place = drill.find(text(3)[-60:])
    email = next(email for email, whole in drill.kept.items() if whole.endswith(text(3)))
    read = type(drill.disk).read

    def bad(self: Any, where: Path, offset: int, length: int) -> bytes:
        if where == path and offset <= place < offset + length:
            raise OSError(errno.EIO, "Input/output error")
        return read(self, where, offset, length)

    monkeypatch.setattr("posthouse.store.blobs.inspection.BLOCK", 64)
    monkeypatch.setattr(type(drill.disk), "read", bad)
    drill.packs.forget_checked()
    found = await look(drill)
    assert named(found) == {f"e{email:x}"}
    assert any("the disk cannot read" in each.text for each in found)


@pytest.mark.slow
async def test_any_single_flipped_bit_is_seen_and_hurts_exactly_the_letter_it_lies_in(drill: Drill) -> None:
    """Every octet of every pack, one bit each: whatever is hurt is named, and nothing else is."""
    homes: dict[int, set[str]] = {}
    rows = await drill.rows(
        "SELECT blob.id, blob.pack, pack_offset, length, email.id FROM blob LEFT JOIN email ON email.blob = blob.id"
    )
    queued = dict(await drill.rows("SELECT blob, id FROM queue_letter"))
    spans: dict[int, list[tuple[int, int, int]]] = {}
    for blob, pack, offset, length, email in rows:
        if email is not None or blob in queued:
            homes.setdefault(blob, set()).add(str(queued[blob]) if blob in queued else f"e{email:x}")
            spans.setdefault(pack, []).append((offset, offset + length, blob))
    whole = {path: path.read_bytes() for path in drill.pack_files}
    step = 13  # with records of some 600 octets every region is met, at another place in each record
    for path, octets in whole.items():
        pack = int(path.stem)
        for place in range(0, len(octets), step):
            drill.flip(path, place, place % 8)
            found = await look(drill)
            inside = {blob for start, end, blob in spans.get(pack, []) if start <= place < end}
            assert named(found) == set().union(*(homes[blob] for blob in inside), set()), (path, place)
            assert levels(found) - {"ok"}, f"nobody saw the flip at {place} of {path.name}"
            drill.flip(path, place, place % 8)
    await sound(drill)


@pytest.mark.parametrize("region", ["content", "large", "note", "trailer", "reference", "header"])
async def test_repair_makes_right_what_a_copy_or_the_rows_tell(drill: Drill, tmp_path: Path, region: str) -> None:
    """A hurt content comes from the backup, a hurt note is written anew, and the store is sound again."""
    backup = tmp_path / "backup"
    shutil.copytree(drill.folder, backup)
    path, place = drill.find(text(3)[-60:])
    large, large_place = drill.find(text(99, 5_000)[-400:])
    pieces = list(drill.packs.records(int(path.stem)))
    record = next(each for each in pieces if each.start < place < each.end)
    reference = next(
        each
        for pack in drill.packs.numbers()
        for each in drill.packs.records(pack)
        if each.kind is RecordKind.REFERENCE
    )
    match region:
        case "content":
            drill.flip(path, place)
        case "large":
            drill.flip(large, large_place)
        case "note":
            drill.flip(path, record.start + 60)
        case "trailer":
            drill.flip(large, large.stat().st_size - 10)
        case "reference":
            assert not isinstance(reference, Damage)
            holder = next(each for each in drill.pack_files if bytes(reference.content) in each.read_bytes()[64:])
            drill.flip(holder, holder.read_bytes().find(bytes(reference.content)))
        case _:
            drill.flip(path, 3)
    before = await look(drill)
    assert levels(before) - {"ok"} == ({"error"} if region in ("content", "large") else {"warning"})
    found = await mend(drill, backup)
    assert "mended" in levels(found)
    assert "error" not in levels(found)
    assert await drill.contents() == drill.kept
    after = await look(drill)
    assert named(after, "error", "warning") == set()
    assert all("no letter lies there" in each.text or "header" in each.text for each in after if each.level != "ok")
    await drill.again()
    assert await drill.contents() == drill.kept


async def test_a_hurt_letter_without_a_copy_stays_listed_and_can_be_deleted(drill: Drill) -> None:
    path, place = drill.find(text(3)[-60:])
    drill.flip(path, place)
    email = next(email for email, whole in drill.kept.items() if whole.endswith(text(3)))
    assert named(await mend(drill)) == {f"e{email:x}"}
    assert named(await look(drill)) == {f"e{email:x}"}
    await drill.expunge(email)
    assert "error" not in levels(await look(drill))
    assert await drill.contents() == drill.kept


async def test_repair_never_shows_a_letter_to_another_reader(drill: Drill) -> None:
    """Packs of one letter do not say whose they are. Files that changed their names, a file that stands twice, and a
    row that points at another pack: each letter is its reader's own, or damaged."""
    for kind, whole in (("names", 2), ("row", 2), ("twice", 1)):
        first, second = drill.count + 1, drill.count + 2
        [one] = await drill.deliver(BOB, octets=text(70 + first, 5_000), is_large=True)
        [two] = await drill.deliver(CAROL, octets=text(70 + second, 5_000), is_large=True)
        mine, theirs = (drill.find(text(70 + number, 5_000)[-400:])[0] for number in (first, second))
        match kind:
            case "names":
                mine.rename(drill.folder / "aside")
                theirs.rename(mine)
                (drill.folder / "aside").rename(theirs)
            case "row":
                await drill.tell(
                    "UPDATE blob SET pack = :two WHERE pack = :one", one=int(mine.stem), two=int(theirs.stem)
                )
            case _:
                shutil.copy(theirs, mine)
        drill.packs.forget_checked()
        drill.packs._maps.clear()
        assert f"e{one:x}" in named(await look(drill)), kind
        hurt = named(await mend(drill))
        assert len({f"e{one:x}", f"e{two:x}"} - hurt) == whole, kind
        for email in (one, two):
            stored = await drill.database.read(lambda reader, email=email: letters.retrieve(reader, email))
            assert stored is not None
            if f"e{email:x}" in hurt:
                with pytest.raises(DamagedContent):
                    await drill.packs.open(stored.location)
            else:
                assert stored.prefix + bytes(await drill.packs.open(stored.location)) == drill.kept[email], kind


async def test_a_source_without_packs_is_refused(drill: Drill, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="holds no packs"):
        await mend(drill, tmp_path)


# --- rows -----------------------------------------------------------------------------------------

WRONG_ROWS = {
    "mailbox total": "UPDATE mailbox SET total = total + 1 WHERE name = 'INBOX'",
    "mailbox unseen": "UPDATE mailbox SET unseen = unseen + 5",
    "mailbox octets": "UPDATE mailbox SET octets = octets * 2 + 1",
    "account octets": "UPDATE account SET used_octets = 1",
    "account letters": "UPDATE account SET used_letters = used_letters - 1",
    "uid_next": "UPDATE mailbox SET uid_next = 1 WHERE name = 'INBOX'",
    "account modseq": "UPDATE account SET modseq = 1",
    "mailbox modseq": "UPDATE mailbox SET modseq = 0",
    "journal floor": "UPDATE account SET journal_floor = modseq + 9",
    "two with one uid_validity": "UPDATE mailbox SET uid_validity = (SELECT MIN(uid_validity) FROM mailbox)",
    "uid_validity of the future": "UPDATE mailbox SET uid_validity = uid_validity + 1000000000",
    "no uid_validity": "UPDATE mailbox SET uid_validity = 0 WHERE name = 'Junk'",
    "no INBOX": "UPDATE mailbox SET name = 'INBOY' WHERE name = 'INBOX'",
    "account state": "UPDATE account SET state = 'actixe'",
    "account without address": "DELETE FROM address WHERE account = (SELECT MIN(id) FROM account)",
    "recipient state": "UPDATE queue_recipient SET state = 'dve'",
    "claimed by nobody": "UPDATE queue_recipient SET state = 'claimed'",
    "an owner of a due one": "UPDATE queue_recipient SET owner = 'x'",
    "finished without result": "UPDATE queue_recipient SET state = 'delivered' WHERE address LIKE 'dave%'",
    "deadline": "UPDATE queue_recipient SET deadline_at = deadline_at + 1e6",
    "open recipients": "UPDATE queue_letter SET open_recipients = 7",
    "destination gone": "DELETE FROM queue_destination",
    "destination asleep": "UPDATE queue_destination SET ready_at = NULL",
    "recipients gone": "DELETE FROM queue_recipient",
    "one recipient gone": "DELETE FROM queue_recipient WHERE address LIKE 'erin%'",
    "queue letter gone": "DELETE FROM queue_letter",
    "email gone": "DELETE FROM email WHERE id = (SELECT MIN(id) FROM email)",
    "emails gone": "DELETE FROM email",
    "detail gone": "DELETE FROM email_detail WHERE email = (SELECT MIN(email) FROM email_detail)",
    "placement gone": "DELETE FROM placement WHERE uid = 2",
    "placements gone": "DELETE FROM placement",
    "blob gone": "DELETE FROM blob WHERE id = (SELECT MIN(id) FROM blob)",
    "blobs gone": "DELETE FROM blob",
    "blob hash": "UPDATE blob SET hash = x'00'",
    "blob length": "UPDATE blob SET length = length - 1",
    "email size": "UPDATE email SET size = size + 1",
    "placement size": "UPDATE placement SET size = size + 1",
    "retention of nothing": "INSERT INTO retention (blob, reason) VALUES (5, 'hold')",
    "right on a mailbox that is gone": (
        "INSERT INTO mailbox_right (mailbox, person, is_negative, rights) SELECT 5, id, 0, 'lr' FROM account"
    ),
    "right of nobody": (
        "INSERT INTO mailbox_right (mailbox, person, is_negative, rights) SELECT id, 5, 0, 'lr' FROM mailbox"
    ),
    "right of the owner": (
        "INSERT INTO mailbox_right (mailbox, person, is_negative, rights) SELECT id, account, 1, 'lr' FROM mailbox"
    ),
    "seen in a mailbox that is gone": (
        "INSERT INTO visitor_seen (mailbox, person, uid, is_seen, modseq) SELECT 5, id, 1, 1, 1 FROM account"
    ),
    "seen by nobody": (
        "INSERT INTO visitor_seen (mailbox, person, uid, is_seen, modseq) SELECT id, 5, 1, 1, 1 FROM mailbox"
    ),
    "seen and gone": (
        "INSERT INTO visitor_seen (mailbox, person, uid, is_seen, modseq)"
        " SELECT mailbox.id, account.id, 99, 1, 1 FROM mailbox JOIN account ON account.id <> mailbox.account"
    ),
    "subscription of nobody": "INSERT INTO subscribed_name (person, owner, name) SELECT 5, id, 'x' FROM account",
    "subscription to nobody": "INSERT INTO subscribed_name (person, owner, name) SELECT id, 5, 'x' FROM account",
    "subscription beside the mailbox": (
        "INSERT INTO subscribed_name (person, owner, name) SELECT account, account, name FROM mailbox"
    ),
    "keyword of nobody": "INSERT INTO keyword_spelling (account, keyword, spelling) VALUES (5, 'x', 'X')",
    "pack row gone": "DELETE FROM pack WHERE number = (SELECT MIN(number) FROM pack)",
}


@pytest.mark.parametrize("harm", WRONG_ROWS)
async def test_wrong_rows_are_found_and_mended_and_every_letter_is_as_it_was(drill: Drill, harm: str) -> None:
    await drill.tell(WRONG_ROWS[harm])
    found = await look(drill)
    assert "error" in levels(found), [each.text for each in found]
    mended = await mend(drill)
    assert "mended" in levels(mended)
    assert [each.text for each in mended if each.level == "error"] == []
    await sound(drill)
    assert await drill.contents() == drill.kept
    rows = await drill.rows("SELECT address, state FROM queue_recipient ORDER BY address")
    assert [row[0] for row in rows] == ["dave@elsewhere.test", "erin@elsewhere.test"]
    await drill.again()
    assert await drill.contents() == drill.kept
    await sound(drill)
    [new] = await drill.deliver(BOB)
    assert (await drill.contents())[new] == drill.kept[new]


async def test_a_start_removes_no_pack_that_letters_lie_in_whatever_became_of_its_own_row(drill: Drill) -> None:
    """A file without a row was never acknowledged, except where damage took the row."""
    await drill.tell("DELETE FROM pack")
    await drill.again()
    assert any("had no row" in each for each in drill.packs.recovery.findings)
    assert await drill.contents() == drill.kept
    await sound(drill)


async def test_queued_letters_whose_rows_were_lost_come_back_on_hold(drill: Drill) -> None:
    await drill.tell("DELETE FROM queue_recipient")
    await drill.tell("DELETE FROM queue_letter")
    [found] = [each for each in await look(drill) if each.level == "error"]
    assert found.letter is not None
    assert found.letter.recipients == ("dave@elsewhere.test", "erin@elsewhere.test")
    await mend(drill)
    assert await drill.rows("SELECT DISTINCT state FROM queue_recipient") == [("held",)]
    await sound(drill)


async def test_a_whole_letter_without_any_row_comes_back_to_its_place(drill: Drill) -> None:
    """Its email, detail, placement and blob rows are all gone; the journal still says that it came."""
    email = list(drill.kept)[1]
    for statement in (
        "DELETE FROM blob WHERE id = (SELECT blob FROM email WHERE id = :id)",
        "DELETE FROM email_detail WHERE email = :id",
        "DELETE FROM placement WHERE email = :id",
        "DELETE FROM email WHERE id = :id",
    ):
        await drill.tell(statement, id=email)
    found = await look(drill)
    assert f"e{email:x}" in named(found)
    await mend(drill)
    await sound(drill)
    assert await drill.contents() == drill.kept
    placed = drill.placed[email]
    assert await drill.rows("SELECT mailbox, uid FROM placement WHERE email = :id", id=email) == [
        (placed.mailbox, placed.uid)
    ]


async def test_removed_letters_and_removed_accounts_are_no_findings(drill: Drill) -> None:
    """Also after the tombstones are forgotten, and when the octets are still there."""
    from posthouse.store import directory, journal

    await drill.expunge(*list(drill.kept)[:2])
    await sound(drill)
    account = drill.accounts[BOB]
    await drill.database.write(lambda tx: journal.purge(tx, account, drill.clock.now + 1))
    await sound(drill)
    carol = drill.accounts[CAROL]
    await drill.database.write(lambda tx: directory.remove_account(tx, carol))
    await sound(drill)


@pytest.mark.parametrize("step", ["write", "sync"])
async def test_what_a_failed_write_left_in_a_pack_is_no_damage_and_comes_to_no_mailbox(drill: Drill, step: str) -> None:
    """The disk failed once, the letter was refused, and the server went on in another pack: until the next start a
    torn record, or after a failed sync a whole one, lies behind what counts of the old pack."""
    drill.disk.fail, drill.disk.torn = {step: errno.EIO}, 200
    with pytest.raises(StoreFault):
        await drill.deliver(BOB)
    drill.disk.fail.clear()
    await drill.deliver(BOB)
    await sound(drill)
    await mend(drill)
    assert await drill.contents() == drill.kept
    await drill.again()
    await sound(drill)
    assert await drill.contents() == drill.kept


async def test_a_letter_that_nobody_can_place_is_put_where_it_is_seen(drill: Drill) -> None:
    """Its pack's note is gone with the placement: it goes to the INBOX."""
    email = next(iter(drill.kept))
    content = drill.kept[email].partition(b"Date: ")[2]
    path, place = drill.find(content[:40])
    drill.flip(path, path.read_bytes().rfind(path.read_bytes()[32:40], 0, place) + 40)
    await drill.tell("DELETE FROM placement WHERE email = :id", id=email)
    assert "error" in levels(await look(drill))
    await mend(drill)
    assert email in await drill.contents()
    assert named(await look(drill), "error", "warning") == set()


async def test_somebody_elses_letter_in_a_mailbox_is_taken_out_of_it(drill: Drill) -> None:
    carols = next(each for each in drill.kept if drill.placed[each].account == drill.accounts[CAROL])
    bobs = next(each for each in drill.kept if drill.placed[each].account == drill.accounts[BOB])
    await drill.tell("UPDATE placement SET email = :carol WHERE email = :bob", carol=carols, bob=bobs)
    assert any("somebody else's" in each.text for each in await look(drill))
    await mend(drill)
    await sound(drill)
    assert await drill.contents() == drill.kept
    rows = await drill.rows(
        "SELECT 1 FROM placement JOIN mailbox ON mailbox.id = mailbox WHERE email = :id AND account = :bob",
        id=carols,
        bob=drill.accounts[BOB],
    )
    assert rows == []


async def test_a_mailbox_and_an_account_that_are_lost_come_back_by_their_letters(drill: Drill) -> None:
    await drill.database.write(lambda tx: tx.run("DELETE FROM mailbox WHERE name = 'Junk'"))
    found = await look(drill)
    assert any("letters lie in it" in each.text for each in found)
    await mend(drill)
    await sound(drill)
    assert await drill.contents() == drill.kept
    await drill.close()
    carol = drill.accounts[CAROL]
    drill.sqlite(lambda connection: connection.execute("DELETE FROM account WHERE id = ?", (carol,)).fetchall())
    await drill.open()
    assert any(f"account {carol} is gone" in each.text for each in await look(drill))
    await mend(drill)
    await sound(drill)
    assert await drill.contents() == drill.kept


async def test_an_index_that_disagrees_with_its_table_is_built_anew(drill: Drill) -> None:
    await drill.close()

    schema = "UPDATE sqlite_master SET sql = REPLACE(sql, ?, ?) WHERE name = 'email_by_blob'"
    narrow = ("(blob)", "(blob) WHERE blob < 0")

    def rewrite(connection: Any, old: str, new: str) -> None:
        connection.execute("PRAGMA writable_schema = ON").fetchall()
        connection.execute(schema, (old, new)).fetchall()

    drill.sqlite(lambda connection: rewrite(connection, *narrow))
    drill.sqlite(lambda connection: connection.execute("REINDEX email_by_blob").fetchall())
    drill.sqlite(lambda connection: rewrite(connection, *reversed(narrow)))
    await drill.open()
    assert any("index" in each.text for each in await look(drill))
    found = await mend(drill)
    assert "mended" in levels(found)
    await sound(drill)


async def test_a_database_that_is_broken_inside_is_said_with_the_command_that_helps(drill: Drill) -> None:
    await drill.close()
    [(root,)] = drill.sqlite(
        lambda connection: list(connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'email_detail'"))
    )
    octets = bytearray(drill.database_file.read_bytes())
    octets[(root - 1) * 4096 : root * 4096] = b"\x55" * 4096
    drill.database_file.write_bytes(octets)
    await drill.open()
    found = await look(drill)
    assert any("posthouse rebuild" in each.remedy for each in found if each.level == "error")
