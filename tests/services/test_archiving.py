# SPDX-License-Identifier: Apache-2.0
"""Backups on the real store, without a server: what is copied, what is shared, and what an interruption leaves."""

from __future__ import annotations

import errno
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from posthouse.services import archiving
from posthouse.services.archive import DATABASES, FILES, MANIFESTS, PACKS, Archive, ArchiveFault
from posthouse.services.archiving import Archiving, Made, Source
from posthouse.services.restore import Unpacking, adopt
from posthouse.store.databases.sqlite import open_sqlite
from posthouse.store.settings import StoreSettings
from tests.services.test_compaction import SPOOLED, Store
from tests.store.machine import FaultyDisk, InlineWorkers, SeededEntropy


class Keeper:
    """A store and the backups of it."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store = store
        self.folder = folder
        self.disk = FaultyDisk()  # of the backups
        self.archive = Archive(folder, self.disk)
        self.beats = 0
        self.settings = store.folder / "posthouse.toml"
        self.settings.write_text('hostname = "mail.example.test"\n')

    async def source(self, house: str = "ours") -> Source:
        snapshot = self.store.folder / "backup" / "snapshot.sqlite3"
        await self.store.database.snapshot(snapshot)
        files = [("posthouse.toml", self.settings)]
        return Source(house, "mail.example.test", snapshot, self.store.clock.now, self.store.folder / "packs", files)

    def beat(self) -> None:
        self.beats += 1

    def make(self, source: Source, keep: int = 9) -> Made:
        self.store.clock.now += 60
        return Archiving(self.archive, self.store.disk, self.store.clock, self.beat).make(source, keep)

    async def back_up(self, keep: int = 9) -> Made:
        return self.make(await self.source(), keep)

    def problems(self) -> list[str]:
        return [problem for each in self.archive.verify(self.archive.generations()) for problem in each.problems]

    def files(self, part: str) -> dict[str, tuple[int, int]]:
        """Name to inode and time of change: the same when nobody wrote it again."""
        found = {}
        for path in (self.folder / part).iterdir():
            told = path.stat()
            found[path.name] = told.st_ino, told.st_mtime_ns
        return found

    async def restore(self, generation: str, target: Path, *, accepts_damage: bool = False) -> tuple[Store, list[str]]:
        FaultyDisk().make_folder(target)
        manifest = self.archive.load(generation)
        done = Unpacking(self.archive, manifest, FaultyDisk(), target, accepts_damage=accepts_damage).unpack()
        store = Store(target)
        store.account, store.inbox, store.clock = self.store.account, self.store.inbox, self.store.clock
        database, packs = open_sqlite(
            target,
            store.disk,
            InlineWorkers(),
            store.clock,
            SeededEntropy(9),
            settings=StoreSettings(reserve_octets=0, adopt=True),
        )
        await adopt(database, manifest, now=store.clock.now, is_queue_held=False)
        await database.close()
        await packs.close()
        return await store.open(), done.damage


@pytest.fixture
async def keeper(tmp_path: Path) -> Any:
    store = await Store(tmp_path / "data").open()
    yield Keeper(store, tmp_path / "backups")
    await store.close()


async def test_a_restored_house_has_every_letter_octet_for_octet(keeper: Keeper, tmp_path: Path) -> None:
    """Small letters in sealed packs and in the growing one, a spooled one in a pack of its own."""
    put = await keeper.store.deliver(30)
    put[await keeper.store.spool()] = SPOOLED
    made = await keeper.back_up()
    assert made.manifest.findings == []
    assert keeper.problems() == []
    await keeper.store.deliver(5, "later")
    restored, damage = await keeper.restore(made.manifest.generation, tmp_path / "new")
    assert damage == []
    assert await restored.contents() == put
    more = await restored.deliver(3, "after")
    assert await restored.contents() == put | more
    await restored.close()


async def test_clients_of_a_restored_house_are_told_that_they_know_nothing(keeper: Keeper, tmp_path: Path) -> None:
    """What they saw since the backup is gone, and its UIDs and mod-sequences are given to other letters."""
    await keeper.store.deliver(3)
    made = await keeper.back_up()
    await keeper.store.deliver(2, "since")
    sql = "SELECT mailbox.id, uid_validity, account.modseq FROM mailbox JOIN account ON account.id = account ORDER BY 1"
    before = await keeper.store.database.read(lambda reader: reader.rows(sql))
    restored, _ = await keeper.restore(made.manifest.generation, tmp_path / "new")
    after = await restored.database.read(lambda reader: reader.rows(sql))
    assert [row[0] for row in after] == [row[0] for row in before]
    assert all(new[1] > old[1] and new[2] > old[2] for old, new in zip(before, after, strict=True))
    await restored.close()


async def test_a_restored_house_never_removes_the_pack_that_it_writes_to(keeper: Keeper, tmp_path: Path) -> None:
    """The pack that grew when the backup was made is sealed in the restored house: once its letters are dead it goes,
    and a letter that comes then must not be written to a file that has no name any more."""
    put = await keeper.store.deliver(3)
    made = await keeper.back_up()
    restored, _ = await keeper.restore(made.manifest.generation, tmp_path / "new")
    await restored.expunge(*put)
    restored.clock.now += 40 * 86_400
    await restored.compaction().run()
    later = await restored.deliver(2, "later")
    await restored.again()
    assert await restored.contents() == later
    await restored.close()


async def test_what_is_copied_once_is_never_copied_again(keeper: Keeper) -> None:
    """A second backup adds stretches for what is new; no file of the first is written again, sealed pack or not."""
    await keeper.store.deliver(30)
    await keeper.store.spool()
    first = await keeper.back_up()
    before = {part: keeper.files(part) for part in (DATABASES, FILES, PACKS)}
    await keeper.store.deliver(10, "later")
    second = await keeper.back_up()
    for part, files in before.items():
        now = keeper.files(part)
        assert {name: now[name] for name in files} == files, part
    assert len(keeper.files(FILES)) == 1
    sealed = {pack.number: pack for pack in first.manifest.packs[:-1]}
    assert len(sealed) > 3
    shared = {pack.number: pack for pack in second.manifest.packs if pack.number in sealed}
    assert {number: pack.stretches[0] for number, pack in shared.items()} == {
        number: pack.stretches[0] for number, pack in sealed.items()
    }
    third = await keeper.back_up()
    assert third.new_stretches == 0
    assert third.manifest.copied == third.manifest.database.size
    assert keeper.problems() == []


async def test_a_growing_pack_is_copied_from_where_the_last_backup_ended(keeper: Keeper, tmp_path: Path) -> None:
    """Octets behind the tail of the snapshot belong to nobody yet and stay out."""
    put = await keeper.store.deliver(2)
    first = await keeper.back_up()
    source = await keeper.source()
    later = await keeper.store.deliver(2, "later")
    second = keeper.make(source)
    assert second.new_stretches == 0, "nothing was in the snapshot that was not there before"
    third = await keeper.back_up()
    stretches = third.manifest.packs[0].stretches
    assert [each.offset for each in stretches] == [0, first.manifest.packs[0].size]
    restored, _ = await keeper.restore(third.manifest.generation, tmp_path / "new")
    assert await restored.contents() == put | later
    await restored.close()


async def test_copies_are_private_and_no_links(keeper: Keeper) -> None:
    await keeper.store.deliver(30)
    await keeper.back_up()
    for path in [keeper.folder, *keeper.folder.rglob("*")]:
        told = path.stat()
        assert stat.S_IMODE(told.st_mode) == (0o700 if path.is_dir() else 0o600), path
        assert path.is_dir() or told.st_nlink == 1, path


async def test_compaction_after_the_first_backup_leaves_both_restorable(keeper: Keeper, tmp_path: Path) -> None:
    """Packs go and letters move in the house; a backup goes on holding what its own database refers to."""
    put = await keeper.store.deliver(30)
    first = await keeper.back_up()
    gone = list(put)[:25]
    await keeper.store.expunge(*gone)
    keeper.store.clock.now += 40 * 86_400
    await keeper.store.compaction().run()
    second = await keeper.back_up()
    assert not {pack.number for pack in first.manifest.packs} <= {pack.number for pack in second.manifest.packs}
    old, _ = await keeper.restore(first.manifest.generation, tmp_path / "old")
    new, _ = await keeper.restore(second.manifest.generation, tmp_path / "new")
    assert await old.contents() == put
    assert await new.contents() == {email: octets for email, octets in put.items() if email not in gone}
    await old.close()
    await new.close()


async def test_only_the_newest_are_kept_with_what_they_need(keeper: Keeper, tmp_path: Path) -> None:
    put = await keeper.store.deliver(30)
    made = [await keeper.back_up(keep=2)]
    await keeper.store.expunge(*list(put)[:25])
    keeper.store.clock.now += 40 * 86_400
    await keeper.store.compaction().run()
    made += [await keeper.back_up(keep=2), await keeper.back_up(keep=2)]
    assert made[-1].forgotten == [made[0].manifest.generation]
    names = [each.manifest.generation for each in made[1:]]
    assert keeper.archive.generations() == names
    wanted = {stretch.name for each in made[1:] for pack in each.manifest.packs for stretch in pack.stretches}
    assert set(keeper.files(PACKS)) == wanted
    assert set(keeper.files(DATABASES)) == {f"{name}.sqlite3" for name in names}
    assert keeper.problems() == []
    restored, _ = await keeper.restore(names[0], tmp_path / "new")
    assert len(await restored.contents()) == 5
    await restored.close()


# --- interruptions ----------------------------------------------------------------------------------


class Killed(BaseException):
    """As if the process had been taken away."""


class _NumberedDisk(FaultyDisk):
    """Does `deed` at the step with this number."""

    def __init__(self, number: int, deed: Callable[[], None]) -> None:
        super().__init__()
        self.left = number
        self.deed = deed

    def step(self, name: str) -> None:
        if self.left == 0:
            self.deed()
        self.left -= 1


def kill() -> None:
    raise Killed


def fill_up() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("deed", [kill, fill_up])
async def test_interrupted_at_any_step_the_former_backup_stays_and_no_half_one_appears(
    keeper: Keeper, tmp_path: Path, deed: Callable[[], None]
) -> None:
    """Killed, or the disk full, at every write, sync, rename and removal of a backup that also forgets an old one."""
    put = await keeper.store.deliver(8)
    first = await keeper.back_up()
    put |= await keeper.store.deliver(12, "later")
    source = await keeper.source()
    pristine = tmp_path / "pristine"
    shutil.copytree(keeper.folder, pristine)
    outcomes = set()
    for number in range(200):
        shutil.rmtree(keeper.folder)
        shutil.copytree(pristine, keeper.folder)
        keeper.archive.disk = _NumberedDisk(number, deed)
        try:
            keeper.make(source, keep=1)
            assert keeper.archive.disk.left >= 0
            break
        except (ArchiveFault, Killed) as fault:
            outcomes.add(type(fault))
            keeper.archive.disk = FaultyDisk()
        assert keeper.problems() == []
        generations = keeper.archive.generations()
        # Once the manifest of the new one is there, the old one may go.
        assert generations[0] == first.manifest.generation or len(generations) == 1
        keeper.make(source)
        assert keeper.problems() == []
        assert not list(keeper.folder.rglob("*.new"))
    else:
        pytest.fail("the backup never ended")
    assert outcomes == {Killed if deed is kill else ArchiveFault}
    assert number > 20
    restored, _ = await keeper.restore(keeper.archive.generations()[-1], tmp_path / "new")
    assert await restored.contents() == put
    await restored.close()


async def test_a_backup_that_was_interrupted_is_not_copied_anew_from_the_beginning(keeper: Keeper) -> None:
    await keeper.store.deliver(30)
    source = await keeper.source()
    keeper.archive.disk = _NumberedDisk(30, kill)
    with pytest.raises(Killed):
        keeper.make(source)
    keeper.archive.disk = FaultyDisk()
    there = keeper.files(PACKS)
    finished = [name for name in there if not name.endswith(".new")]
    assert finished
    made = keeper.make(source)
    now = keeper.files(PACKS)
    assert {name: now[name] for name in finished} == {name: there[name] for name in finished}
    assert made.new_stretches == len(made.manifest.packs) - len(finished)


async def test_too_little_room_is_told_before_anything_is_copied(keeper: Keeper) -> None:
    await keeper.store.deliver(30)
    await keeper.back_up()
    await keeper.store.deliver(30, "later")
    before = {part: keeper.files(part) for part in (DATABASES, PACKS)}
    keeper.disk.free = 1_000_000
    with pytest.raises(ArchiveFault, match=r"octets are needed and 1,000,000 are free; make room, or keep fewer"):
        await keeper.back_up()
    assert {part: keeper.files(part) for part in (DATABASES, PACKS)} == before


async def test_a_disk_that_fails_is_told_by_name(keeper: Keeper) -> None:
    await keeper.store.deliver(3)
    keeper.disk.fail["sync"] = errno.EIO
    with pytest.raises(ArchiveFault, match=r"backups: the backup cannot be written: Input/output error$"):
        await keeper.back_up()
    keeper.disk.fail = {"write": errno.ENOSPC}
    with pytest.raises(ArchiveFault, match="the disk is full: make room"):
        await keeper.back_up()
    assert keeper.archive.generations() == []


async def test_a_copy_that_reads_differently_is_no_copy(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    await keeper.store.deliver(3)
    map_truly = keeper.disk.map

    def map_wrongly(path: Path) -> memoryview:
        octets = bytearray(map_truly(path))
        if path.name.endswith(".new"):
            octets[-1] ^= 1
        return memoryview(octets)

    monkeypatch.setattr(keeper.disk, "map", map_wrongly)
    with pytest.raises(ArchiveFault, match="cannot be trusted"):
        await keeper.back_up()
    assert keeper.archive.generations() == []


# --- damage -----------------------------------------------------------------------------------------


def flip(path: Path, place: int = -100) -> None:
    octets = bytearray(path.read_bytes())
    octets[place] ^= 1
    path.write_bytes(octets)


async def test_every_flipped_octet_in_a_backup_is_found(keeper: Keeper, tmp_path: Path) -> None:
    await keeper.store.deliver(12)
    made = await keeper.back_up()
    damaged = [
        path for part in (MANIFESTS, DATABASES, FILES, PACKS) for path in sorted((keeper.folder / part).iterdir())
    ]
    assert len(damaged) > 4
    for path in damaged:
        whole = path.read_bytes()
        flip(path, -20)
        assert keeper.problems(), path
        if path.parent.name != MANIFESTS:
            with pytest.raises(ArchiveFault, match="--generation"):
                await keeper.restore(made.manifest.generation, tmp_path / path.name)
        path.unlink()
        assert keeper.problems() or path.parent.name == MANIFESTS, path
        path.write_bytes(whole)
    assert keeper.problems() == []


async def test_a_damaged_backup_gives_what_it_has_when_asked(keeper: Keeper, tmp_path: Path) -> None:
    put = await keeper.store.deliver(30)
    made = await keeper.back_up()
    packs = sorted((keeper.folder / PACKS).iterdir())
    flip(packs[1])
    packs[2].unlink()
    restored, damage = await keeper.restore(made.manifest.generation, tmp_path / "new", accepts_damage=True)
    assert len(damage) == 2
    rows = await restored.database.read(lambda reader: reader.rows("SELECT pack, hash, pack_offset, length FROM blob"))
    names = {int(path.name.split("-")[0]) for path in packs[1:3]}
    whole = [row for row in rows if row[0] not in names]
    assert len(whole) > len(put) // 2
    await restored.close()


async def test_a_damaged_copy_that_is_removed_is_copied_anew(keeper: Keeper) -> None:
    """The remedy that `--verify` tells: it heals older backups too, for the copy has the same name."""
    await keeper.store.deliver(12)
    await keeper.back_up()
    path = sorted((keeper.folder / PACKS).iterdir())[0]
    flip(path)
    assert keeper.problems()
    path.unlink()
    await keeper.back_up()
    assert keeper.problems() == []


async def test_a_hurt_house_is_backed_up_as_it_is_and_nothing_older_goes(keeper: Keeper, tmp_path: Path) -> None:
    """A pack lost in the house is taken from the backup before; one damaged since is told; both are findings."""
    put = await keeper.store.deliver(30)
    await keeper.back_up()
    packs = sorted((keeper.store.folder / "packs").glob("*.pack"))
    packs[0].unlink()
    made = await keeper.back_up(keep=1)
    assert made.manifest.findings == [
        f"pack {int(packs[0].stem)} is missing in the house; an earlier backup still has it"
    ]
    assert made.forgotten == []
    assert keeper.problems() == []
    restored, _ = await keeper.restore(made.manifest.generation, tmp_path / "new")
    assert await restored.contents() == put
    await restored.close()


@pytest.mark.parametrize("place", [20, -20])
async def test_a_whole_copy_is_never_replaced_by_a_damaged_one(keeper: Keeper, tmp_path: Path, place: int) -> None:
    """What a pack's beginning and end are compared for is another life of it; where it is damage, the copy that is
    whole stays, and is told of with each backup, however few are kept."""
    put = await keeper.store.deliver(30)
    await keeper.back_up()
    pack = min((keeper.store.folder / "packs").glob("*.pack"))
    octets = bytearray(pack.read_bytes())
    octets[place] ^= 1
    pack.write_bytes(octets)
    for _ in range(3):
        made = await keeper.back_up(keep=1)
        assert [text for text in made.manifest.findings if f"pack {int(pack.stem)}" in text]
        assert made.new_stretches == 0
    assert keeper.problems() == []
    restored, _ = await keeper.restore(made.manifest.generation, tmp_path / "new")
    assert await restored.contents() == put
    await restored.close()


async def test_what_the_house_lost_before_its_first_backup_is_told(keeper: Keeper) -> None:
    await keeper.store.deliver(30)
    packs = sorted((keeper.store.folder / "packs").glob("*.pack"))
    packs[0].unlink()
    flip(packs[1])
    keeper.settings.unlink()
    made = await keeper.back_up()
    missing, damaged, settings = sorted(
        made.manifest.findings, key=lambda text: ("missing" not in text, "pack" not in text)
    )
    assert missing.startswith(f"pack {int(packs[0].stem)}: ")
    assert "content is damaged" in damaged
    assert "posthouse.toml is not in the backup" in settings
    assert [problem for problem in keeper.problems() if "lost before the backup" in problem]


async def test_two_lives_of_one_pack_are_kept_apart(keeper: Keeper, tmp_path: Path) -> None:
    """A house put back by its file system's own snapshot grows the same pack anew, with other letters."""
    await keeper.store.deliver(2)
    copy = tmp_path / "copy"
    shutil.copytree(keeper.store.folder, copy)
    one = await keeper.store.deliver(2, "one")
    first = await keeper.back_up()
    await keeper.store.close()
    shutil.rmtree(keeper.store.folder)
    shutil.copytree(copy, keeper.store.folder)
    await keeper.store.open()
    other = await keeper.store.deliver(2, "two")
    second = await keeper.back_up()
    assert first.manifest.packs[0].size == second.manifest.packs[0].size
    assert keeper.problems() == []
    old, _ = await keeper.restore(first.manifest.generation, tmp_path / "old")
    new, _ = await keeper.restore(second.manifest.generation, tmp_path / "new")
    assert set(one.values()) <= set((await old.contents()).values())
    assert set(other.values()) <= set((await new.contents()).values())
    await old.close()
    await new.close()


async def test_another_house_has_its_own_folder(keeper: Keeper) -> None:
    await keeper.store.deliver(1)
    await keeper.back_up()
    source = await keeper.source(house="theirs")
    with pytest.raises(ArchiveFault, match="backups of another house"):
        keeper.make(source)


async def test_generations_are_in_order_though_the_clock_was_set_back(keeper: Keeper) -> None:
    await keeper.store.deliver(1)
    made = [await keeper.back_up()]
    keeper.store.clock.now -= 1e6
    made += [await keeper.back_up(), await keeper.back_up(keep=2)]
    names = [each.manifest.generation for each in made]
    assert names == sorted(names)
    assert keeper.archive.generations() == names[1:]


async def test_the_one_who_copies_is_heard_while_it_copies(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """`beat` comes for every piece: a hold is renewed during one large pack too, and a refusal ends the work."""
    monkeypatch.setattr(archiving, "steps", lambda view: _pieces(view, 100))
    await keeper.store.deliver(12)
    await keeper.back_up()
    assert keeper.beats > 50


def _pieces(view: memoryview, size: int) -> Iterator[memoryview]:
    for start in range(0, len(view), size):
        yield view[start : start + size]


async def test_a_sector_that_cannot_be_read_ends_neither_backup_nor_restore(
    keeper: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that meets one through a map is killed without a word, so all is read before it is mapped: in the
    house it costs the letter that lies there, in the backup it is told by name."""
    put = await keeper.store.deliver(30)
    bad: list[Path] = [min((keeper.store.folder / "packs").glob("*.pack"))]
    place = bad[0].read_bytes().find(b"letter 2 ")
    read = FaultyDisk.read

    def fails(self: FaultyDisk, path: Path, offset: int, length: int) -> bytes:
        if path in bad and offset <= place < offset + length:
            raise OSError(errno.EIO, "Input/output error")
        return read(self, path, offset, length)

    monkeypatch.setattr("posthouse.store.blobs.inspection.BLOCK", 16)
    monkeypatch.setattr(FaultyDisk, "read", fails)
    made = await keeper.back_up()
    number = int(bad[0].stem)
    assert f"pack {number}: the disk cannot read octets {place // 16 * 16} to {place // 16 * 16 + 16}" in (
        made.manifest.findings
    )
    assert keeper.problems() == [], "it is what the house still had"
    bad[:] = [keeper.archive.stretch_path(made.manifest.packs[1].stretches[0])]
    [problem] = keeper.problems()
    assert "the disk cannot read octets" in problem
    with pytest.raises(ArchiveFault, match="has changed since the backup; use another generation"):
        await keeper.restore(made.manifest.generation, tmp_path / "no")
    restored, damage = await keeper.restore(made.manifest.generation, tmp_path / "new", accepts_damage=True)
    assert len(damage) == 1
    rows = await restored.database.read(
        lambda reader: reader.rows("SELECT email.id, pack, pack_offset, length FROM email JOIN blob ON blob.id = blob")
    )
    whole = [email for email, *at in rows if bytes(restored.packs.shelf.read(*at)) == put[email]]
    assert len(whole) == len(put) - 2
    await restored.close()
