# SPDX-License-Identifier: Apache-2.0
"""Disk images obey their own rules: what is synced survives, the rest by chance, in the ways that exist."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from posthouse.sim.disklog import (
    ROOT,
    Created,
    Entry,
    FolderSynced,
    MadeFolder,
    Renamed,
    Synced,
    SyncFailed,
    Truncated,
    Unlinked,
    Written,
)
from posthouse.sim.image import DiskState, Image, Luck, Rule

OLD, NEW = b"a" * 8192, b"b" * 8192
FILE = 1
MADE: list[Entry] = [Created(ROOT, "file", FILE), FolderSynced(ROOT)]
WRITTEN: list[Entry] = [*MADE, Written(FILE, 0, OLD), Synced(FILE)]

both = pytest.mark.parametrize("rule", list(Rule))


def cut(log: Sequence[Entry], rule: Rule, luck: Luck) -> Image:
    disk = DiskState(rule)
    for entry in log:
        disk.apply(entry)
    return disk.image(luck)


def cuts(log: Sequence[Entry], rule: Rule, count: int = 200) -> list[Image]:
    """What many cuts at the end of the log leave."""
    return [cut(log, rule, Luck.drawn(Random(seed))) for seed in range(count)]


def contents(log: Sequence[Entry], rule: Rule, name: str = "file") -> set[bytes | None]:
    return {image.files.get(name) for image in cuts(log, rule)}


def names(log: Sequence[Entry], rule: Rule) -> set[tuple[str, ...]]:
    return {tuple(sorted([*image.folders, *image.files])) for image in cuts(log, rule)}


# --- data -------------------------------------------------------------------------------------------


@both
def test_a_synced_write_always_survives(rule: Rule) -> None:
    assert contents(WRITTEN, rule) == {OLD}


@both
def test_an_unsynced_write_may_survive_be_lost_or_be_torn(rule: Rule) -> None:
    found = contents([*WRITTEN, Written(FILE, 0, NEW)], rule)
    assert {OLD, NEW} < found
    torn = found - {OLD, NEW}
    assert torn
    for octets in torn:
        assert octets is not None
        assert len(octets) == len(OLD)
        sectors = [octets[start : start + 512] for start in range(0, len(octets), 512)]
        assert all(sector in (OLD[:512], NEW[:512]) for sector in sectors)


@both
@pytest.mark.parametrize("block", [512, 4096])
def test_a_block_is_never_torn_within(rule: Rule, block: int) -> None:
    for seed in range(100):
        found = cut([*WRITTEN, Written(FILE, 0, NEW)], rule, Luck(Random(seed), 0.5, block)).files["file"]
        for start in range(0, len(found), block):
            assert found[start : start + block] in (OLD[:block], NEW[:block])


@both
def test_without_luck_nothing_unsynced_is_left_and_with_all_luck_everything(rule: Rule) -> None:
    log = [*WRITTEN, Written(FILE, 100, b"new"), Created(ROOT, "other", 2), Written(2, 0, b"x"), Unlinked(ROOT, "file")]
    assert cut(log, rule, Luck(Random(1), 0.0, 512)).files == {"file": OLD}
    assert cut(log, rule, Luck(Random(1), 1.0, 512)).files == {"other": b"x"}


@both
def test_octets_beside_a_write_in_the_same_block_stay_as_they_were(rule: Rule) -> None:
    """SQLite counts on it (powersafe overwrite)."""
    found = contents([*WRITTEN, Written(FILE, 100, b"new")], rule)
    assert found == {OLD, OLD[:100] + b"new" + OLD[103:]}


@both
def test_two_unsynced_writes_to_one_block_survive_in_their_order(rule: Rule) -> None:
    log = [*WRITTEN, Written(FILE, 0, b"1"), Written(FILE, 1, b"2")]
    assert contents(log, rule) == {OLD, b"1" + OLD[1:], b"12" + OLD[2:]}


@both
def test_a_later_write_may_survive_an_earlier_one_that_is_lost(rule: Rule) -> None:
    """Within a file and between files: only a sync makes an order."""
    log = [*WRITTEN, Written(FILE, 0, NEW[:4096]), Written(FILE, 4096, NEW[4096:])]
    assert OLD[:4096] + NEW[4096:] in contents(log, rule)
    other = [*MADE, Created(ROOT, "other", 2), Written(2, 0, OLD), Synced(2), FolderSynced(ROOT)]
    two = [*other, Written(FILE, 0, OLD), Synced(FILE), Written(FILE, 0, NEW), Written(2, 0, NEW)]
    assert (OLD, NEW) in {(image.files["file"], image.files["other"]) for image in cuts(two, rule)}


def test_by_posix_a_file_may_have_grown_by_its_end_and_not_by_its_middle() -> None:
    """A frame of a log without the frames before it."""
    log = [*WRITTEN, Written(FILE, len(OLD), NEW[:4096]), Written(FILE, len(OLD) + 4096, NEW[4096:])]
    assert any(octets and octets.endswith(NEW[4096:]) and NEW not in octets for octets in contents(log, Rule.POSIX))


@both
def test_an_unsynced_cut_may_be_lost(rule: Rule) -> None:
    log = [*WRITTEN, Truncated(FILE, 100)]
    assert {OLD, OLD[:100]} <= contents(log, rule)
    assert contents([*log, Synced(FILE)], rule) == {OLD[:100]}


def test_a_journal_never_makes_a_file_longer_than_what_of_it_was_written() -> None:
    log = [*WRITTEN, Written(FILE, len(OLD), NEW), Written(FILE, len(OLD) + len(NEW), b"end")]
    found = contents(log, Rule.JOURNAL)
    assert all(octets is not None and (OLD + NEW + b"end").startswith(octets) for octets in found)
    assert len(found) > 3


def test_posix_may_show_zeros_or_old_octets_where_a_file_has_grown() -> None:
    found = contents([*WRITTEN, Written(FILE, len(OLD), NEW)], Rule.POSIX)
    grown = {octets[len(OLD) :] for octets in found if octets and len(octets) == len(OLD) + len(NEW)}
    assert NEW in grown
    assert any(piece[:512] == bytes(512) for piece in grown)
    assert any(piece[:512] not in (bytes(512), NEW[:512]) for piece in grown)


@both
def test_after_a_failed_sync_the_next_one_does_not_bring_back_what_it_dropped(rule: Rule) -> None:
    """fsyncgate: the kernel may take the pages for clean. What is written again afterwards counts."""
    log = [*WRITTEN, Written(FILE, 0, NEW[:4096]), SyncFailed(FILE), Synced(FILE)]
    assert contents(log, rule) >= {OLD, NEW[:4096] + OLD[4096:]}
    again = [*log[:-1], Written(FILE, 0, NEW[:4096]), Synced(FILE)]
    assert contents(again, rule) == {NEW[:4096] + OLD[4096:]}


# --- names ------------------------------------------------------------------------------------------


def test_by_posix_a_synced_file_without_a_synced_folder_may_have_no_name() -> None:
    log: list[Entry] = [Created(ROOT, "file", FILE), Written(FILE, 0, OLD), Synced(FILE)]
    assert names(log, Rule.POSIX) == {(), ("file",)}
    assert names([*log, FolderSynced(ROOT)], Rule.POSIX) == {("file",)}


def test_a_journal_brings_the_name_of_a_new_file_along_with_its_sync() -> None:
    log: list[Entry] = [Created(ROOT, "file", FILE), Written(FILE, 0, OLD), Synced(FILE)]
    assert names(log, Rule.JOURNAL) == {("file",)}


def test_a_journal_that_has_nothing_to_write_for_a_synced_file_brings_nothing_along() -> None:
    """The file's name is in the journal by its folder's sync; what happened since may be lost."""
    log = [*MADE, Created(ROOT, "late", 2), Synced(FILE)]
    assert names(log, Rule.JOURNAL) == {("file",), ("file", "late")}
    grown = [*MADE, Created(ROOT, "late", 2), Written(FILE, 0, OLD), Synced(FILE)]
    assert names(grown, Rule.JOURNAL) == {("file", "late")}


@both
def test_a_renaming_without_a_synced_folder_may_be_lost(rule: Rule) -> None:
    """And with it the file that it was to replace stays, whatever of the new one is durable."""
    log = [*WRITTEN, Created(ROOT, "new", 2), FolderSynced(ROOT), Written(2, 0, NEW), Synced(2)]
    log += [Renamed(ROOT, "new", ROOT, "file"), Written(2, 0, NEW), Synced(2)]
    assert contents(log, rule) == {OLD, NEW}


@both
def test_a_new_name_may_come_to_the_disk_before_its_octets(rule: Rule) -> None:
    """Written, not synced, renamed over the old one: nothing, or a part, may be all that is left."""
    log = [
        *WRITTEN,
        Created(ROOT, "new", 2),
        Written(2, 0, NEW),
        Renamed(ROOT, "new", ROOT, "file"),
        FolderSynced(ROOT),
    ]
    assert {b"", NEW} < contents(log, rule)


@both
def test_a_renaming_is_atomic(rule: Rule) -> None:
    log = [*WRITTEN, Created(ROOT, "new", 2), Written(2, 0, NEW), Synced(2), FolderSynced(ROOT)]
    log.append(Renamed(ROOT, "new", ROOT, "file"))
    assert {(image.files.get("file"), image.files.get("new")) for image in cuts(log, rule)} == {
        (OLD, NEW),
        (NEW, None),
    }
    assert contents([*log, FolderSynced(ROOT)], rule) == {NEW}


def test_a_journal_keeps_the_order_of_names_and_posix_does_not() -> None:
    log = [*MADE, Created(ROOT, "a", 2), Created(ROOT, "b", 3)]
    assert names(log, Rule.JOURNAL) == {("file",), ("a", "file"), ("a", "b", "file")}
    assert names(log, Rule.POSIX) == {("file",), ("a", "file"), ("b", "file"), ("a", "b", "file")}


@both
def test_a_removed_file_may_be_there_again_with_what_it_had(rule: Rule) -> None:
    assert contents([*WRITTEN, Unlinked(ROOT, "file")], rule) == {OLD, None}
    assert contents([*WRITTEN, Unlinked(ROOT, "file"), FolderSynced(ROOT)], rule) == {None}


def test_a_folder_whose_name_is_lost_takes_its_files_along() -> None:
    log: list[Entry] = [MadeFolder(ROOT, "packs", 7), Created(7, "one", 8), FolderSynced(7)]
    assert names(log, Rule.POSIX) == {(), ("packs", "packs/one")}
    assert names([*log, FolderSynced(ROOT)], Rule.POSIX) == {("packs", "packs/one")}


def test_between_two_folders_each_has_to_be_synced() -> None:
    log: list[Entry] = [MadeFolder(ROOT, "stage", 7), FolderSynced(ROOT), Created(7, "file", 8), FolderSynced(7)]
    log.append(Renamed(7, "file", ROOT, "file"))
    assert names(log, Rule.POSIX) == {("stage", "stage/file"), ("file", "stage")}
    log.append(FolderSynced(ROOT))
    assert names(log, Rule.POSIX) == {("file", "stage", "stage/file"), ("file", "stage")}
    assert names([*log, FolderSynced(7)], Rule.POSIX) == {("file", "stage")}


def test_an_image_is_written_as_it_is(tmp_path: Path) -> None:
    Image(["packs"], {"packs/one": b"1", "two": b"2"}).write(tmp_path / "data")
    assert (tmp_path / "data" / "packs" / "one").read_bytes() == b"1"
    assert (tmp_path / "data" / "two").read_bytes() == b"2"
