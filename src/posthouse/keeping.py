# SPDX-License-Identifier: Apache-2.0
"""Backups of a data directory and houses made of them: what the command line's `backup` and `restore` do.

Invariant: the data directory is read beside a running server, which is asked only to hold its packs still; a new one
is made in full before anything of it stands in its place, and posthouse.toml comes last: where it is, there is a house.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from posthouse import access, config, telemetry
from posthouse.access import LOG_LEVEL
from posthouse.composing.ground import SECRET_FILE, real_machine
from posthouse.config import Settings
from posthouse.edges.cli.asking import Api
from posthouse.edges.cli.backend import BackedUp, Restoring, Stop
from posthouse.founding import private_files
from posthouse.net.certificate import ISSUED_FOLDER
from posthouse.net.disk import PosixDisk
from posthouse.net.lock import LOCK_FILE, DirectoryLock
from posthouse.ports import Clock
from posthouse.running import CONFIG_MODE
from posthouse.services import backups
from posthouse.services.archive import Archive, ArchiveFault, Manifest, Verdict
from posthouse.services.archiving import Archiving, Made, Source
from posthouse.services.restore import Unpacked, Unpacking, adopt
from posthouse.store.databases.sqlite import PACK_FOLDER, open_sqlite
from posthouse.store.settings import StoreSettings

STAGE = ".restore-"  # the folder within DIR where the house is made before it is moved to its place
REPLACED = "replaced-"  # the folder within DIR where the house that was there is put aside
TLS_FOLDER = "tls"
ISSUED_SUFFIXES = (".pem", ".json")  # of what is kept of an authority's certificates, complete files alone
# What may lie in a directory that is called empty: ours, and what a file system of its own has in its root.
HARMLESS = (LOCK_FILE, "lost+found")


# --- backup ---------------------------------------------------------------------------------------


def back_up(folder: Path, target: Path, keep: int | None) -> BackedUp:
    """A new generation of the house in `folder`, served or not. `keep` None: as many as the settings say.

    Raises Stop, ConfigError, StoreFault, OSError, ArchiveFault, DirectoryInUse.
    """
    telemetry.configure(as_json=False, level=LOG_LEVEL)
    settings = config.load(folder)
    _check_apart(folder, target)
    machine = real_machine()
    archive = Archive(target, machine.disk)
    began = machine.clock.monotonic()
    kept = keep or settings.store.backups_kept
    with private_files(), _own_archive(archive):
        hold = asyncio.run(_ask(folder, "POST"))
        try:
            beat = _Beat(machine.clock, lambda: asyncio.run(_ask(folder, "PATCH", hold["id"])))
            source = Source(
                house=_house(folder),
                hostname=settings.hostname,
                snapshot=folder / backups.FOLDER / hold["file"],
                taken_at=hold["taken_at"],
                packs=folder / PACK_FOLDER,
                files=_files(folder, settings),
            )
            made = Archiving(archive, machine.disk, machine.clock, beat).make(source, kept)
        finally:
            with contextlib.suppress(Stop):  # a server that is gone; the hold runs out
                asyncio.run(_ask(folder, "DELETE", hold["id"]))
        return _told(made, machine.clock.monotonic() - began, min(kept, len(archive.generations())))


def _told(made: Made, seconds: float, kept: int) -> BackedUp:
    manifest = made.manifest
    return BackedUp(
        generation=manifest.generation,
        accounts=manifest.accounts,
        letters=manifest.letters,
        octets=manifest.octets,
        copied=manifest.copied,
        packs=len(manifest.packs),
        new_stretches=made.new_stretches,
        seconds=seconds,
        kept=kept,
        forgotten=made.forgotten,
        findings=manifest.findings,
    )


class _Beat:
    """Called often while there is work: renews the hold when it is time."""

    def __init__(self, clock: Clock, renew: Callable[[], object]) -> None:
        self._clock = clock
        self._renew = renew
        self._last = clock.monotonic()

    def __call__(self) -> None:
        now = self._clock.monotonic()
        if now - self._last >= backups.RENEW_SECONDS:
            self._last = now
            self._renew()


async def _ask(folder: Path, verb: str, hold: str = "") -> Any:
    """Of the server, or of the house opened for this one question: what holds the packs is a row of the store."""
    async with access.client(folder) as client:
        api = Api(client)
        match verb:
            case "POST":
                return await api.post("backups")
            case "PATCH":
                return await api.patch("backups", hold)
            case _:
                return await api.delete("backups", hold)


def _check_apart(folder: Path, target: Path) -> None:
    """A backup within what it keeps would grow without end, and be lost together with it."""
    house, place = folder.resolve(), target.resolve()
    if house == place or house in place.parents:
        raise Stop(f"{target} lies in the data directory {folder}; name a place outside, best on another disk")
    if place in house.parents and (place / config.FILE_NAME).exists():
        raise Stop(f"{target} is a data directory itself; name another place")


@contextlib.contextmanager
def _own_archive(archive: Archive) -> Iterator[None]:
    """The folder of backups, made when it is missing, with its lock."""
    folder = archive.folder
    archive.disk.make_folder(folder)
    if not archive.exists:
        strange = [name for name in archive.disk.names(folder) if name not in HARMLESS]
        if strange:
            raise Stop(f"{folder} holds {_some(strange)} and no backups; name an empty or a new directory")
    lock = DirectoryLock(folder)
    try:
        yield
    finally:
        lock.release()


def _house(folder: Path) -> str:
    """Tells houses apart, whatever they are called: it follows from the secret key, and says nothing about it."""
    return hashlib.blake2b((folder / SECRET_FILE).read_bytes(), person=b"backup-of-house", digest_size=16).hexdigest()


def _files(folder: Path, settings: Settings) -> list[tuple[str, Path]]:
    """Settings, the secret key, certificates; also what the settings name outside of the data directory."""
    inside = [config.FILE_NAME, SECRET_FILE]
    inside += sorted(f"{TLS_FOLDER}/{each.name}" for each in (folder / TLS_FOLDER).glob("*") if each.is_file())
    issued = (folder / ISSUED_FOLDER).rglob("*")
    inside += sorted(each.relative_to(folder).as_posix() for each in issued if each.suffix in ISSUED_SUFFIXES)
    found = [(name, folder / name) for name in inside]
    for path in _named_files(settings):
        place = path.absolute()
        name = (
            place.relative_to(folder.absolute()).as_posix() if place.is_relative_to(folder.absolute()) else str(place)
        )
        if name not in [each for each, _ in found]:
            found.append((name, place))
    return found


def _named_files(settings: Settings) -> list[Path]:
    certificates = [path for each in settings.tls.certificates for path in (each.certificate, each.key)]
    secrets = [settings.acme.eab_key_file, settings.acme.ca_file, settings.dns_update.key_file]
    certificates += [path for path in secrets if path is not None]
    return certificates + [route.password_file for route in settings.routes.values() if route.password_file]


# --- looking --------------------------------------------------------------------------------------


def list_backups(target: Path) -> tuple[list[Manifest], list[str]]:
    """Oldest first, without the lists of what is in them: those are long. And what is wrong with those that cannot be
    read: nothing can be restored from them."""
    archive = _archive(target)
    found, damaged = [], []
    for generation in archive.generations():
        try:
            found.append(msgspec.structs.replace(archive.load(generation), files=[], packs=[]))
        except ArchiveFault as fault:
            damaged.append(f"{generation}: {fault}")
    return found, damaged


def verify(target: Path, generation: str | None) -> list[Verdict]:
    """Read every octet of one generation or of all; raises Stop, StoreFault."""
    archive = _archive(target)
    wanted = [_generation(archive, generation)] if generation else archive.generations()
    if not wanted:
        raise Stop(f"{target}: holds no whole backup: the first one did not end")
    with _still(archive):
        return list(archive.verify(wanted))


@contextlib.contextmanager
def _still(archive: Archive) -> Iterator[None]:
    """No backup is made, and none forgotten, while this one is read. Nobody writes to a read-only file system."""
    try:
        lock = DirectoryLock(archive.folder)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        yield
        return
    try:
        yield
    finally:
        lock.release()


def _archive(target: Path) -> Archive:
    archive = Archive(target, PosixDisk())
    if not archive.exists:
        raise Stop(f"{target}: no backups there")
    return archive


def _generation(archive: Archive, wanted: str | None) -> str:
    """The named one, or the newest."""
    known = archive.generations()
    if not known:
        raise Stop(f"{archive.folder}: holds no whole backup: the first one did not end")
    if wanted is None:
        return known[-1]
    if wanted not in known:
        raise Stop(f"{archive.folder}: no generation {wanted}; there are {', '.join(known)}")
    return wanted


# --- restore --------------------------------------------------------------------------------------


def restore(target: Path, folder: Path, how: Restoring) -> dict[str, Any]:
    """Make a house of a backup. Raises Stop, ConfigError, StoreFault, OSError, ArchiveFault, DirectoryInUse.

    Until the last step `folder` is as it was; what it held is put aside then, never removed.
    """
    telemetry.configure(as_json=False, level=LOG_LEVEL)
    archive = _archive(target)
    manifest = archive.load(_generation(archive, how.generation))
    clock = real_machine().clock
    _check_clock(clock, manifest)
    with private_files():
        PosixDisk().make_folder(folder)
        lock = DirectoryLock(folder)
        try:
            if folder.resolve() == target.resolve():
                raise Stop(f"{folder} is the folder of backups itself; name another directory")
            old = _occupants(folder)
            if old and not how.replaces:
                raise Stop(f"{folder} holds {_some(old)}; name a new directory, or put all of it aside with --replace")
            stage = Path(tempfile.mkdtemp(prefix=STAGE, dir=folder))
            try:
                with _still(archive):
                    done = Unpacking(archive, manifest, PosixDisk(), stage, accepts_damage=how.accepts_damage).unpack()
                waiting = asyncio.run(_adopt(stage, manifest, holds_queue=how.holds_queue))
                aside = _put_aside(folder, old, clock) if old else None
                _move(stage, folder)
            finally:
                shutil.rmtree(stage, ignore_errors=True)
            _give_to_owner(folder)
        finally:
            lock.release()
    return _report(manifest, folder, stage, done, waiting=waiting, aside=aside, holds_queue=how.holds_queue)


def _report(
    manifest: Manifest,
    folder: Path,
    stage: Path,
    done: Unpacked,
    *,
    waiting: int,
    aside: Path | None,
    holds_queue: bool,
) -> dict[str, Any]:
    outside = {name: str(folder / path.relative_to(stage)) for name, path in done.outside.items()}
    return {
        "data": str(folder.absolute()),
        "generation": manifest.generation,
        "hostname": manifest.hostname,
        "taken_at": manifest.taken_at,
        "accounts": manifest.accounts,
        "letters": manifest.letters,
        "waiting": waiting,
        "is_queue_held": holds_queue,
        "put_aside": None if aside is None else str(aside),
        "outside": outside,
        "missing": _missing(folder, outside),
        "damage": done.damage,
    }


def _missing(folder: Path, outside: Mapping[str, str]) -> dict[str, str | None]:
    """The files that the restored settings name and this machine does not have, each with its copy, where it is known:
    they lay outside, or within a data directory of another name."""
    found: dict[str, str | None] = {}
    for path in _named_files(config.load(folder)):
        if not path.exists():
            within = folder / path.name
            found[str(path)] = outside.get(str(path.absolute()), str(within) if within.exists() else None)
    return found


def _check_clock(clock: Clock, manifest: Manifest) -> None:
    """Ids follow the clock. One that is behind would give letters to come the unique-ids of letters that were lost
    with the days since the backup, and a client that has seen those would skip them without a word."""
    now = clock.wall()
    if now < manifest.ended_at:
        raise Stop(
            f"this machine's clock says {_said(now)}, which is before the backup ({_said(manifest.ended_at)}):"
            " set it first"
        )


def _occupants(folder: Path) -> list[str]:
    """What is in the directory already; the remains of a restore that was killed are removed."""
    found = []
    for each in sorted(folder.iterdir()):
        if each.name.startswith(STAGE):
            shutil.rmtree(each)
        elif each.name not in HARMLESS and not each.name.startswith(REPLACED):
            found.append(each.name)
    return found


async def _adopt(stage: Path, manifest: Manifest, *, holds_queue: bool) -> int:
    """Open the store as one that is older than what the world remembers, and make that true of every row."""
    machine = real_machine()
    settings = config.load(stage)
    limits = StoreSettings(seal_octets=settings.store.pack_size, reserve_octets=0, adopt=True)
    workers = machine.workers()
    try:
        database, packs = open_sqlite(stage, machine.disk, workers, machine.clock, machine.entropy, settings=limits)
        try:
            return await adopt(database, manifest, now=machine.clock.wall(), is_queue_held=holds_queue)
        finally:
            await database.close()
            await packs.close()
    finally:
        await workers.close()


def _put_aside(folder: Path, names: Sequence[str], clock: Clock) -> Path:
    """Within the directory: it may be a disk of its own. posthouse.toml goes first: from then on there is no house."""
    stamp = datetime.fromtimestamp(clock.wall(), UTC).strftime("%Y%m%dT%H%M%SZ")
    aside = Path(tempfile.mkdtemp(prefix=f"{REPLACED}{stamp}-", dir=folder))
    for name in sorted(names, key=lambda name: name != config.FILE_NAME):
        PosixDisk().rename(folder / name, aside / name)
    return aside


def _move(stage: Path, folder: Path) -> None:
    for name in sorted((each.name for each in stage.iterdir()), key=lambda name: name == config.FILE_NAME):
        PosixDisk().rename(stage / name, folder / name)


def _give_to_owner(folder: Path) -> None:
    """Root restores for whoever owns the directory. posthouse.toml stays root's where it names the user of the server,
    as after every start (running.hand_over)."""
    owner = folder.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return
    settings_file = folder / config.FILE_NAME
    is_roots = bool(config.load(folder).process.user)
    for path in folder.rglob("*"):
        if path.relative_to(folder).parts[0].startswith(REPLACED):
            continue
        if is_roots and path == settings_file:
            os.chown(path, 0, owner.st_gid, follow_symlinks=False)
            path.chmod(CONFIG_MODE)
        else:
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _some(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def _said(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
