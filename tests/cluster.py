# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL cluster of the tests' own: in a temporary folder, on a Unix socket, gone when they are done."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

VARIABLE = "POSTHOUSE_TEST_POSTGRES"  # the DSN of a server to use instead (a database where schemas may be created)
DEBIAN = Path("/usr/lib/postgresql")
UNPRIVILEGED = "postgres"  # PostgreSQL does not run as root
PATIENCE = 30.0  # seconds for a start that takes one


def program(name: str) -> str | None:
    """Debian keeps the programs of each version in a folder of their own; the newest is taken."""
    newest = sorted(DEBIAN.glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    return str(newest[-1]) if newest else shutil.which(name)


@contextlib.contextmanager
def running_cluster() -> Iterator[str]:
    """Start one; its DSN. Skips the test when there is no PostgreSQL on this machine."""
    if VARIABLE in os.environ:
        yield os.environ[VARIABLE]
        return
    initdb, server = program("initdb"), program("postgres")
    if initdb is None or server is None:
        pytest.skip("PostgreSQL is not installed: run `make test-interop` as root, which installs it from Debian")
    user = UNPRIVILEGED if os.geteuid() == 0 else None
    # The path of a Unix socket has at most 107 octets, so it does not lie among the tests' other folders.
    folder = Path(tempfile.mkdtemp(prefix="posthouse-pg-"))
    try:
        if user:
            shutil.chown(folder, user)
        data, log = folder / "data", folder / "log"
        subprocess.run(
            [initdb, "-D", data, "-U", "tester", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"],
            check=True,
            capture_output=True,
            user=user,
            cwd="/",
        )
        with log.open("wb") as output:
            # The data is thrown away at the end, so it is not synced; everything else is PostgreSQL's default.
            process = subprocess.Popen(
                [server, "-D", data, "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                user=user,
                cwd="/",
            )
        try:
            dsn = f"host={folder} user=tester dbname=postgres"
            _wait(dsn, process, log)
            yield dsn
        finally:
            process.send_signal(2)  # "fast": whoever is still connected is sent away
            process.wait(PATIENCE)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(dsn: str, process: subprocess.Popen[bytes], log: Path) -> None:
    import psycopg

    end = time.monotonic() + PATIENCE
    while True:
        try:
            psycopg.connect(dsn).close()
            return
        except psycopg.OperationalError as error:
            if process.poll() is not None or time.monotonic() > end:
                pytest.fail(f"PostgreSQL did not start: {error}\n{log.read_text()[-2000:]}")
            time.sleep(0.05)


def new_schema(dsn: str, name: str) -> str:
    """An empty schema of that name; the DSN that uses it."""
    import psycopg
    from psycopg import sql
    from psycopg.conninfo import make_conninfo

    if not re.fullmatch(r"\w+", name):
        raise ValueError(name)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name)))
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
    return make_conninfo(dsn, options=f"-c search_path={name}")
