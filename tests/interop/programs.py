# SPDX-License-Identifier: Apache-2.0
"""Starting and waiting for other people's programs. Every one lives on loopback, in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REMEDY = "run `make test-interop` as root (or tools/install_interop.sh), which installs it from Debian"
PATIENCE = 30.0  # seconds for anything that should happen in one or two, on a machine that others use too
STEP = 0.05  # seconds between two looks


def require(*names: str) -> None:
    """Skip the test when one of these programs is not on this machine."""
    for name in names:
        if found(name) is None:
            pytest.skip(f"{name} is not installed: {REMEDY}")


def require_root(name: str) -> None:
    if os.geteuid() != 0:
        pytest.skip(f"{name} starts only as root: run `make test-interop` as root")


def found(name: str) -> str | None:
    path = os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin:/sbin"
    return shutil.which(name, path=path)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def answers(port: int, host: str = "127.0.0.1") -> bool:
    """Whether somebody greets there."""
    try:
        with socket.create_connection((host, port), 1) as sock:
            return bool(sock.recv(4))
    except OSError:
        return False


def accepts(port: int) -> bool:
    """Whether somebody listens there (a server that waits for TLS says nothing first)."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def wait_until(check: Callable[[], object], what: str, seconds: float = PATIENCE, log: Path | None = None) -> None:
    """Wait for the work of another process; it cannot tell us."""
    end = time.monotonic() + seconds
    while not check():
        if time.monotonic() > end:
            pytest.fail(f"waited {seconds} s for {what}{_end_of(log)}")
        time.sleep(STEP)


def _end_of(log: Path | None) -> str:
    """The last lines of a log, without those that our own looking made."""
    if log is None or not log.exists():
        return ""
    lines = [line for line in log.read_text("utf-8", "replace").splitlines() if "maildrop open" not in line]
    return "; its log ends:\n" + "\n".join(lines[-15:])


def run(
    command: Sequence[str | Path],
    *,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    codes: Sequence[int] = (0,),
) -> str:
    """Run to the end; what it said. Fails the test with it when the exit code is not in `codes`."""
    try:
        done = subprocess.run(
            [str(word) for word in command],
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "LC_ALL": "C.UTF-8", **(env or {})},
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        said = (late.stdout or b"").decode("utf-8", "replace")
        pytest.fail(f"{' '.join(map(str, command))} did not end in {PATIENCE} s:\n{said[-4000:]}")
    said = done.stdout.decode("utf-8", "replace")
    if done.returncode not in codes:
        pytest.fail(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{said[-4000:]}")
    return said


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def open_folder(base: Path, name: str) -> Iterator[Path]:
    """A folder that daemons with users of their own can reach: every one above it must let them pass."""
    folder = base / name
    folder.mkdir()
    for path in (folder, *folder.parents):
        if path.stat().st_uid == os.geteuid() and len(path.parts) > 2:
            path.chmod(path.stat().st_mode | 0o055)
    yield folder
