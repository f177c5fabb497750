# SPDX-License-Identifier: Apache-2.0
"""The database made anew from a snapshot and the packs: every acknowledged letter is there, octet by octet."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from posthouse.ports import DamagedContent, StoreFault
from posthouse.store import integrity
from posthouse.store.bringing import Rebuilt
from posthouse.store.databases.sqlite_rebuild import ASIDE, Rebuilder
from tests.store.drill import BOB, CAROL, DAY, Drill, text
from tests.store.machine import SeededEntropy


def rebuilt(drill: Drill) -> Rebuilt:
    return Rebuilder(drill.folder, drill.disk, drill.clock, SeededEntropy(2), hostname="mail.bob.test").run()


def lose_database(drill: Drill) -> None:
    for path in drill.folder.glob("posthouse.sqlite3*"):
        path.unlink()


async def sound(drill: Drill) -> None:
    """Nothing in the rows contradicts anything else."""
    for (account,) in await drill.rows("SELECT id FROM account"):
        assert await drill.database.read(lambda reader, a=account: integrity.check_account(reader, a)) == []
    assert await drill.database.read(integrity.check_rest) == []
    assert await drill.rows("PRAGMA integrity_check") == [("ok",)]


@pytest.fixture
async def drill(tmp_path: Path) -> Any:
    return await (await Drill(tmp_path / "data").open()).fill()


async def test_letters_newer_than_the_snapshot_come_back_to_where_they_were(drill: Drill) -> None:
    await drill.snapshot()
    drill.clock.now += 60
    new = [*await drill.deliver(BOB, CAROL), *await drill.deliver(BOB, octets=text(7, 4_000), is_large=True)]
    waiting = await drill.submit("frank@elsewhere.test")
    await drill.close()
    lose_database(drill)
    done = rebuilt(drill)
    assert (done.letters, done.queued, done.damaged) == (2, 1, 0)
    assert done.made == []
    await drill.open()
    assert await drill.contents() == drill.kept
    rows = await drill.rows("SELECT mailbox, uid, email FROM placement ORDER BY email")
    assert {row[2]: (row[0], row[1]) for row in rows} == {
        email: (placed.mailbox, placed.uid) for email, placed in drill.placed.items() if email in drill.kept
    }
    assert all(email in drill.kept for email in new)
    states = await drill.rows("SELECT letter, address, state FROM queue_recipient ORDER BY id")
    assert {row[2] for row in states} == {"held"}
    assert [row[1] for row in states if row[0] == waiting] == ["frank@elsewhere.test"]
    await sound(drill)
    await drill.close()


async def test_clients_are_told_that_they_know_nothing_and_uidls_stay(drill: Drill) -> None:
    await drill.snapshot()
    before = dict(await drill.rows("SELECT id, uid_validity FROM mailbox"))
    modseqs = dict(await drill.rows("SELECT id, modseq FROM account"))
    await drill.close()
    lose_database(drill)
    rebuilt(drill)
    await drill.open()
    after = dict(await drill.rows("SELECT id, uid_validity FROM mailbox"))
    assert before.keys() == after.keys()
    assert min(after.values()) > max(before.values())
    assert len(set(after.values())) == len(after)
    assert all(row[1] > modseqs[row[0]] + 100_000 for row in await drill.rows("SELECT id, modseq FROM account"))
    assert set(await drill.contents()) == set(drill.kept)  # email ids are UIDLs
    [new] = await drill.deliver(BOB)
    assert new not in before
    await drill.close()


async def test_what_was_removed_before_the_snapshot_stays_removed_and_what_was_removed_later_comes_back(
    drill: Drill,
) -> None:
    await drill.snapshot()
    gone = next(iter(drill.kept))
    octets = drill.kept[gone]
    await drill.expunge(gone)
    await drill.close()
    lose_database(drill)
    rebuilt(drill)
    await drill.open()
    assert await drill.contents() == {**drill.kept, gone: octets}
    await drill.close()


async def test_without_a_snapshot_accounts_get_their_names_from_the_notes(drill: Drill) -> None:
    """Two people who share a name's letters are told apart by what each got alone."""
    await drill.close()
    lose_database(drill)
    done = rebuilt(drill)
    assert done.snapshot == ""
    assert sorted(text.split(":")[0] for text in done.made) == [f"account {BOB}", f"account {CAROL}"]
    await drill.open()
    rows = await drill.rows("SELECT id, name, state FROM account ORDER BY name")
    assert rows == [(drill.accounts[BOB], BOB, "active"), (drill.accounts[CAROL], CAROL, "active")]
    found = await drill.contents()
    assert {email: found.get(email) for email in drill.kept} == drill.kept
    assert await drill.rows("SELECT COUNT(*) FROM credential") == [(0,)]
    boxes = await drill.rows(
        "SELECT mailbox.name, placement.email FROM placement JOIN mailbox ON mailbox.id = placement.mailbox"
    )
    assert {name for name, email in boxes if drill.placed[email].account == drill.accounts[CAROL]} == {"INBOX", "Junk"}
    await sound(drill)
    await drill.close()


async def test_an_account_whose_name_nobody_tells_and_a_folder_made_since_get_names_to_be_found_by(
    drill: Drill,
) -> None:
    await drill.snapshot()
    await drill.add_account("eve@bob.test")
    number = drill.accounts["eve@bob.test"]
    plain = await drill.place("eve@bob.test")
    from posthouse.store import letters, mailboxes

    bare = type(plain)(plain.account, plain.mailbox, b"")
    letter = drill.letter(text(50))
    await drill.database.write(lambda tx: letters.accept(tx, letter, [bare]))
    made = await drill.database.write(
        lambda tx: mailboxes.create(tx, drill.accounts[BOB], "Projects/2026", drill.clock.now)
    )
    await drill.deliver(BOB, box="Projects/2026")
    await drill.close()
    lose_database(drill)
    done = rebuilt(drill)
    assert len(done.made) == 2
    await drill.open()
    [(name,)] = await drill.rows("SELECT name FROM account WHERE id = :id", id=number)
    assert name == f"recovered-{number:x}@bob.test"
    [(folder,)] = await drill.rows("SELECT name FROM mailbox WHERE id = :id", id=made.id)
    assert folder.startswith("Recovered/made 2023-11-14")
    assert set(drill.kept) <= set(await drill.contents())
    await sound(drill)
    await drill.close()


@pytest.mark.parametrize("steps", [1, 3, 6])
async def test_the_inbox_is_found_also_when_its_id_does_not_tell(tmp_path: Path, steps: int) -> None:
    """A millisecond ended while the account was made, so the ids of its mailboxes are no run: the one that letters
    came into by mail is the INBOX, or else the oldest. POP3 shows no other."""
    drill = Drill(tmp_path / "data")
    still = drill.clock

    class Ticking:
        """Goes on by a millisecond after so many looks."""

        looks = 0
        now = still.now

        def wall(self) -> float:
            self.looks += 1
            return self.now + (self.looks // steps) / 1000

        def monotonic(self) -> float:
            return 0.0

    drill.clock = Ticking()  # type: ignore[assignment]  # it is set back before it is moved by hand
    await (await drill.open()).close()
    drill.clock = still
    drill.clock.now += 60
    await drill.open()
    await drill.deliver(BOB)
    await drill.deliver(BOB, box="Archive")
    await drill.deliver(BOB)
    from posthouse.store import letters

    bare = letters.Place(drill.accounts[CAROL], await drill.mailbox(CAROL), b"")
    imported = drill.letter(text(50))
    await drill.database.write(lambda tx: letters.accept(tx, imported, [bare]))
    inboxes = {await drill.mailbox(name) for name in (BOB, CAROL)}
    await drill.close()
    lose_database(drill)
    rebuilt(drill)
    await drill.open()
    assert {row[0] for row in await drill.rows("SELECT id FROM mailbox WHERE name = 'INBOX'")} == inboxes
    assert {email: (await drill.contents()).get(email) for email in drill.kept} == drill.kept
    await sound(drill)
    await drill.close()


@pytest.mark.parametrize("harm", ["truncated", "garbage", "flipped", "empty"])
async def test_a_broken_database_is_put_aside_and_said_at_open(drill: Drill, harm: str) -> None:
    await drill.snapshot()
    await drill.close()
    octets = drill.database_file.read_bytes()
    broken = {
        "truncated": octets[: len(octets) // 2],
        "garbage": b"not a database at all, " * 500,
        "flipped": octets[:4096] + bytes(4096) + octets[8192:],
        "empty": b"",
    }[harm]
    drill.database_file.write_bytes(broken)
    if harm != "flipped":  # that one is met when its page is read
        with pytest.raises(StoreFault, match="posthouse rebuild"):
            await drill.open()
    lost = drill.database_file.read_bytes()
    done = rebuilt(drill)
    aside = Path(done.put_aside)
    assert aside.parent == drill.folder / ASIDE
    assert (aside / drill.database_file.name).read_bytes() == lost
    await drill.open()
    assert await drill.contents() == drill.kept
    await drill.close()


async def test_an_unsound_snapshot_is_passed_over_for_an_older_one(drill: Drill) -> None:
    old = await drill.snapshot()
    drill.clock.now += DAY
    new = await drill.snapshot()
    assert new > old
    octets = bytearray(new.read_bytes())
    octets[4096:12288] = bytes(8192)
    new.write_bytes(octets)
    await drill.deliver(BOB)
    await drill.close()
    lose_database(drill)
    done = rebuilt(drill)
    assert done.snapshot == old.name
    assert [text.split(":")[0] for text in done.refused] == [new.name]
    await drill.open()
    assert await drill.contents() == drill.kept
    await drill.close()


async def test_a_rebuild_that_fails_changes_nothing(drill: Drill, monkeypatch: pytest.MonkeyPatch) -> None:
    await drill.snapshot()
    await drill.deliver(BOB)
    await drill.close()
    before = {path: path.read_bytes() for path in drill.folder.rglob("*") if path.is_file()}

    def fail(*_: Any, **__: Any) -> None:
        raise StoreFault("at the worst moment")

    with monkeypatch.context() as patch:
        patch.setattr("posthouse.store.databases.sqlite_rebuild.integrity.mend_counters", fail)
        with pytest.raises(StoreFault, match="worst"):
            rebuilt(drill)
    after = {path: path.read_bytes() for path in drill.folder.rglob("*") if path.is_file()}
    assert after == before
    await drill.open()
    assert await drill.contents() == drill.kept
    await drill.close()


@pytest.mark.parametrize("region", ["header", "mark", "note", "content", "large", "trailer", "reference"])
async def test_damage_in_the_packs_costs_the_rebuild_that_letter_alone(drill: Drill, region: str) -> None:
    """Without any snapshot; what a note does not tell any more is lost, a hurt content is shown as damaged."""
    victim = list(drill.kept)[1]
    content = drill.kept[victim][-300:]
    path, place = drill.find(content[-40:])
    large_path, large_place = drill.find(text(99, 5_000)[-400:])
    large = next(email for email, octets in drill.kept.items() if len(octets) > 3_000)
    record = path.read_bytes().rfind(path.read_bytes()[32:40], 0, place)  # where the pack's mark is last
    match region:
        case "header":
            drill.flip(path, 20)
        case "mark":
            drill.flip(path, record + 2)
        case "note":
            drill.flip(path, record + 50)
        case "content":
            drill.flip(path, place + 5)
        case "large":
            drill.flip(large_path, large_place + 5)
        case "trailer":
            drill.flip(large_path, large_path.stat().st_size - 20)
        case _:
            number = int(large_path.stem).to_bytes(8, "little")
            other, offset = next(
                (each, each.read_bytes().find(number + (64).to_bytes(8, "little")))
                for each in drill.pack_files
                if each.read_bytes().find(number + (64).to_bytes(8, "little")) >= 0
            )
            drill.flip(other, offset)
    await drill.close()
    lose_database(drill)
    done = rebuilt(drill)
    await drill.open()
    lost = {"mark": {victim}, "note": {victim}, "reference": {large}}.get(region, set())
    hurt = {"content": {victim}, "large": {large}}.get(region, set())
    emails = {row[0] for row in await drill.rows("SELECT DISTINCT email FROM placement")}
    assert set(drill.kept) - emails == lost
    assert done.damaged == len(hurt)
    from posthouse.store import letters

    for email in drill.kept.keys() - lost:
        stored = await drill.database.read(lambda reader, email=email: letters.retrieve(reader, email))
        assert stored is not None
        if email in hurt:
            with pytest.raises(DamagedContent):
                await drill.packs.open(stored.location)
        else:
            assert stored.prefix + bytes(await drill.packs.open(stored.location)) == drill.kept[email]
    await sound(drill)
    await drill.close()


@pytest.mark.parametrize("snapshot", [False, True])
async def test_files_that_changed_their_names_show_nobody_anothers_letter(drill: Drill, *, snapshot: bool) -> None:
    """A pack of one letter does not say whose it is; under another's name it is damage, and not even its subject is
    told."""
    if snapshot:
        await drill.snapshot()
    [one] = await drill.deliver(BOB, octets=text(71, 5_000), is_large=True)
    [two] = await drill.deliver(CAROL, octets=text(72, 5_000), is_large=True)
    mine, theirs = (drill.find(text(number, 5_000)[-400:])[0] for number in (71, 72))
    await drill.close()
    lose_database(drill)
    mine.rename(drill.folder / "aside")
    theirs.rename(mine)
    (drill.folder / "aside").rename(theirs)
    done = rebuilt(drill)
    assert done.damaged == 2
    assert len([each for each in done.unreadable if "the file holds pack" in each]) == 2
    await drill.open()
    from posthouse.store import letters

    for email in (one, two):
        stored = await drill.database.read(lambda reader, email=email: letters.retrieve(reader, email))
        assert stored is not None
        with pytest.raises(DamagedContent):
            await drill.packs.open(stored.location)
    summaries = [bytes(row[0]) for row in await drill.rows("SELECT summary FROM email_detail")]
    assert not [each for each in summaries if b"letter 71" in each or b"letter 72" in each]
    await drill.close()


async def test_letters_that_compaction_moved_since_the_snapshot_are_found_where_they_are(drill: Drill) -> None:
    from posthouse.services.compaction import Compaction

    for _ in range(6):
        await drill.deliver(BOB)
    await drill.snapshot()
    await drill.expunge(*list(drill.kept)[:3])
    kept = dict(drill.kept)
    compaction = Compaction(drill.database, drill.packs, drill.workers, drill.clock, days=0)
    before = drill.pack_files
    drill.clock.now += DAY
    await compaction.run()
    assert len(set(drill.pack_files) - set(before)) + len(set(before) - set(drill.pack_files)) > 0
    await drill.close()
    lose_database(drill)
    rebuilt(drill)
    await drill.open()
    found = {}
    for email in kept:
        from posthouse.store import letters

        stored = await drill.database.read(lambda reader, email=email: letters.retrieve(reader, email))
        assert stored is not None
        found[email] = stored.prefix + bytes(await drill.packs.open(stored.location))
    assert found == kept
    await drill.close()


async def test_a_missing_lineage_is_no_obstacle(drill: Drill) -> None:
    await drill.snapshot()
    await drill.close()
    lose_database(drill)
    (drill.folder / "packs" / "lineage").unlink()
    rebuilt(drill)
    await drill.open()
    assert await drill.contents() == drill.kept
    await drill.close()
    shutil.rmtree(drill.folder)


@pytest.mark.parametrize("step", range(5))
async def test_a_rebuild_that_dies_between_two_files_is_begun_again(drill: Drill, step: int) -> None:
    """At whichever rename the machine stops, no start takes an old database without its log for the newest: it finds
    the old one whole, or none and is refused. The next rebuild ends it."""
    await drill.snapshot()
    await drill.deliver(BOB)
    await drill.close()
    for suffix in ("-wal", "-shm"):
        drill.disk.append(drill.database_file.with_name(drill.database_file.name + suffix)).close()
    done = 0
    real = drill.disk.rename

    def rename(old: Path, new: Path) -> None:
        nonlocal done
        if done == step:
            raise KeyboardInterrupt
        done += 1
        real(old, new)

    drill.disk.rename = rename  # type: ignore[method-assign]
    if step < 4:  # three old files aside, then the new one in its place
        with pytest.raises(KeyboardInterrupt):
            rebuilt(drill)
    else:
        rebuilt(drill)
    drill.disk.rename = real  # type: ignore[method-assign]
    if 0 < step < 4:
        with pytest.raises(StoreFault, match="posthouse rebuild"):
            await drill.open()
        rebuilt(drill)
    await drill.open()
    assert await drill.contents() == drill.kept
    await drill.close()
