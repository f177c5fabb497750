# SPDX-License-Identifier: Apache-2.0
"""Makes a data directory: settings, secret, store, first domain, first account.

Invariant: it is made completely or not at all, and nothing that is there is touched. posthouse.toml comes last:
where it is, there is a house.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

from posthouse import config, config_file, telemetry
from posthouse.access import LOG_LEVEL
from posthouse.app import open_house
from posthouse.composing.ground import SECRET_FILE, Machine, real_machine
from posthouse.config import Settings
from posthouse.edges.cli.backend import Plan, Stop
from posthouse.mail.address import AddressError, Domain, parse_address
from posthouse.net.lock import LOCK_FILE, DirectoryLock
from posthouse.ports import Disk

STAGE = ".init-"  # the folder within DIR where the house is made before it is moved to its place


def has_house(folder: Path) -> bool:
    return (folder / config.FILE_NAME).exists()


def found(folder: Path, plan: Plan) -> None:
    """Raises Stop, ConfigError, Refusal, StoreFault, DirectoryInUse, OSError; then nothing is left behind."""
    telemetry.configure(as_json=False, level=LOG_LEVEL)
    text = config_file.render({"hostname": plan.hostname, "listen": dict(plan.listen)})
    settings = config.from_table(tomllib.loads(text), "--hostname")
    _check_names(plan)
    if has_house(folder):
        raise Stop(f"{folder} is a data directory already; `posthouse serve --data {folder}` serves it")
    machine = real_machine()
    with private_files(), _folder(folder, machine.disk):
        lock = DirectoryLock(folder)
        try:
            for old in folder.glob(f"{STAGE}*"):  # of a start that was killed
                shutil.rmtree(old)
            stage = Path(tempfile.mkdtemp(prefix=STAGE, dir=folder))
            try:
                asyncio.run(_furnish(stage, settings, plan, machine))
                _move(stage, folder, text, machine.disk)
            finally:
                shutil.rmtree(stage, ignore_errors=True)
        finally:
            lock.release()


def _check_names(plan: Plan) -> None:
    try:
        domain, admin = Domain.parse(plan.domain), parse_address(plan.admin)
    except AddressError as error:
        raise Stop(f"--domain {plan.domain}, --admin {plan.admin}: {error}") from None
    if admin.domain != domain:
        raise Stop(f"--admin {plan.admin}: the first account is one of --domain {plan.domain}")


async def _furnish(stage: Path, settings: Settings, plan: Plan, machine: Machine) -> None:
    house = open_house(stage, settings, machine)
    try:
        await house.administration.add_domain(plan.domain)
        await house.administration.add_account(plan.admin, plan.password, is_admin=True)
    finally:
        await house.close()


def _move(stage: Path, folder: Path, text: str, disk: Disk) -> None:
    names = sorted(each.name for each in stage.iterdir())
    taken = [name for name in names if (folder / name).exists()]
    if taken:
        raise Stop(
            f"{folder} holds {', '.join(taken)} of a mail store but no {config.FILE_NAME}: "
            "restore that file, or name another directory"
        )
    assert SECRET_FILE in names
    settings = disk.append(stage / config.FILE_NAME)
    try:
        settings.write([text.encode()])
        settings.sync()
    finally:
        settings.close()
    moved: list[str] = []
    try:
        # Each is durable in its place before the next: after a power cut too posthouse.toml is not there alone.
        for name in [*names, config.FILE_NAME]:
            disk.rename(stage / name, folder / name)
            moved.append(name)
    except BaseException:
        for name in moved:
            (folder / name).rename(stage / name)
        raise


@contextlib.contextmanager
def _folder(folder: Path, disk: Disk) -> Iterator[None]:
    """The data directory, private when it is made here, its name durable, and gone again when the work fails."""
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        disk.make_folder(folder)
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            if made:
                (folder / LOCK_FILE).unlink(missing_ok=True)
            for each in made:
                each.rmdir()
        raise


@contextlib.contextmanager
def private_files() -> Iterator[None]:
    """What is made meanwhile, by whatever means, is its owner's alone."""
    mask = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(mask)
