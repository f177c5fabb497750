# SPDX-License-Identifier: Apache-2.0
"""`kill -9` of the real process under real load, round after round, with the witness of what was acknowledged.

Used by tests/system/test_kill.py (a few rounds) and tools/kill_loop.py (as many as wished).
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from unittest.mock import patch

import structlog.testing
from typer.testing import CliRunner

from posthouse import telemetry
from posthouse.__main__ import Program
from posthouse.edges.cli.application import app
from tests.system.sink import Sink
from tests.system.witness import GoneError, Line, Way, Witness, queued

START_LIMIT = 60.0  # seconds for a server to come up on a busy machine
STEP = 0.02
ROUND_LIMIT = 5.0  # seconds of load at most before a kill
BOB, CAROL, ALICE = "bob@bob.test", "carol@bob.test", "alice@alice.test"
WAYS = {
    BOB: Way(frozenset({BOB})),
    CAROL: Way(frozenset({CAROL})),
    "sales@bob.test": Way(frozenset({BOB, CAROL})),
    "away@bob.test": Way(is_forwarded=True),
    "both@bob.test": Way(frozenset({BOB}), is_forwarded=True),
    "x@elsewhere.test": Way(is_forwarded=True),
    "d@bob.test": Way(frozenset({"d@bob.test"})),
}
SUBMITS_TO = ("x@elsewhere.test", "d@bob.test")
MAILBOXES = (BOB, CAROL, "d@bob.test")

CONFIG = """
hostname = "mail.example.test"
[listen]
smtp = ["127.0.0.1:{smtp}"]
submission = ["127.0.0.1:{submission}"]
pop3 = ["127.0.0.1:{pop3}"]
[auth]
plaintext = ["submission", "pop3"]
[smtp]
letters_per_minute = 0
[submission]
recipients_per_hour = 0
[queue]
retry = ["1s"]
[resolver]
servers = ["127.0.0.1:1"]
[routes]
"elsewhere.test" = {{ host = "127.0.0.1:{peer}", tls = "none" }}
[store]
reserve = 0
pack_size = "1M"
[process]
log_level = "error"
"""


class Server:
    """`posthouse serve` as a process of its own."""

    def __init__(self, folder: Path, *, peer: int) -> None:
        self.folder = folder
        self.log = folder.with_name(folder.name + ".log")
        self.smtp, self.submission, self.pop3 = free_port(), free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None
        ports = {"smtp": self.smtp, "submission": self.submission, "pop3": self.pop3, "peer": peer}
        (folder / "posthouse.toml").write_text(CONFIG.format(**ports), "utf-8")

    def start(self) -> None:
        """Returns when it answers."""
        self.spawn()
        assert self._process is not None
        until = time.monotonic() + START_LIMIT
        while True:
            assert self._process.poll() is None, "the server did not start again"
            try:
                # It binds first and serves later: the greetings say that it does.
                for port in (self.smtp, self.submission, self.pop3):
                    with Line(port) as line:
                        line.line()
                return
            except GoneError:
                assert time.monotonic() < until, "the server does not come up"
                time.sleep(STEP)

    def spawn(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*PROGRAM, "serve", "--data", str(self.folder)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def where_it_hangs(self) -> str:
        """End it; where each of its threads was."""
        if self._process is not None:
            self._process.send_signal(signal.SIGABRT)
            self._process.wait()
            self._process = None
        return self.log.read_text("utf-8", "replace")[-12_000:]

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """SIGTERM, and its end."""
        if self._process is not None:
            self._process.terminate()
            assert self._process.wait(START_LIMIT) == 0
            self._process = None


PROGRAM = (sys.executable, "-X", "faulthandler", "-m", "posthouse")


def run(*words: str | Path) -> str:
    """A command of posthouse that must succeed; its standard output. In this process: another one would take a second
    to start, and what it does is done by the server or on files."""
    with patch.object(telemetry, "configure"), structlog.testing.capture_logs():
        result = CliRunner().invoke(app, [str(word) for word in words], obj=Program())
    assert result.exit_code == 0, (words, result.stdout[-2000:], result.stderr[-2000:], result.exception)
    return result.stdout


class Peer:
    """Another server in a thread of its own. It goes away and comes back on its port, and keeps what it took."""

    def __init__(self, manner: Callable[[], str] = lambda: "") -> None:
        self.port = free_port()
        self.letters: list[bytes] = []
        self.manner = manner
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._sink: Sink | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def open(self) -> None:
        if self._sink is None:
            self._sink = self._do(self._open())

    def shut(self) -> None:
        if self._sink is not None:
            self._do(self._sink.__aexit__(None, None, None))
            self._sink = None

    async def _open(self) -> Sink:
        sink = Sink(self.port, self.manner)
        sink.letters = self.letters
        return await sink.__aenter__()

    def _do(self, what: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        number: int = sock.getsockname()[1]
        return number


# --- the rounds -----------------------------------------------------------------------------------


@dataclass
class Told:
    """What was survived so far."""

    rounds: int = 0
    acknowledged: int = 0
    unanswered: int = 0
    deleted: int = 0
    at_the_peer: int = 0
    killed_starting: int = 0
    backups_killed: int = 0
    backups_whole: int = 0


class Killing:
    """`folder` is a furnished data directory (see tests/system/post.py); everything else is made beside it."""

    def __init__(self, folder: Path, seed: int, *, makes_backups: bool = False) -> None:
        self._chance = random.Random(seed)
        self._makes_backups = makes_backups
        self._manners = random.Random(seed + 1)
        self.peer = Peer(self._manner)
        self.server = Server(folder, peer=self.peer.port)
        self.archive = folder.with_name(folder.name + "-backups")
        self.witness = Witness(
            folder.with_name(folder.name + "-ledger"), WAYS, sender=ALICE, seed=seed, submits_to=SUBMITS_TO
        )
        self.told = Told()

    def _manner(self) -> str:
        return self._manners.choice(["", "", "", "", "", "", "refuse", "silent"])

    def play(self, rounds: int, tell: Callable[[Told], None] = lambda _: None) -> Told:
        """Raises AssertionError with everything that is wrong after a round."""
        try:
            with self.peer:
                self.server.start()
                for _ in range(rounds):
                    self._round()
                    tell(self.told)
                self._drain()
                if self._makes_backups:
                    self._restore()
        except TimeoutError as late:
            hangs = self.server.where_it_hangs()
            raise AssertionError(f"no answer ({late}):\n{hangs}") from late
        finally:
            self.server.kill()
            self.witness.close()
        return self.told

    def _round(self) -> None:
        chance = self._chance
        if chance.random() < 0.5:
            self.peer.open()
        else:
            self.peer.shut()
        backup = self._begin_backup()
        threads = self.witness.start(self.server.smtp, self.server.submission)
        # Some kills meet the first letters, some a busy server, some nothing at all.
        self._wait_for(chance.choice([0, 1, chance.randint(2, 20), chance.randint(50, 300)]))
        time.sleep(chance.uniform(0, 0.1))
        self.server.kill()
        self.witness.stop(threads)
        if backup is not None:
            backup.kill()
            backup.wait()
            self.told.backups_killed += 1
        while chance.random() < 0.25:  # a start that is killed has recovered a part
            self.server.spawn()
            time.sleep(chance.uniform(0.1, 1.0))
            self.server.kill()
            self.told.killed_starting += 1
        self.server.start()
        self._look(deletes=0.3)
        self.told.rounds += 1

    def _wait_for(self, more: int) -> None:
        """Until so many more letters are acknowledged, or long enough for a machine that has other work."""
        wanted, until = len(self.witness.acknowledged()) + more, time.monotonic() + ROUND_LIMIT
        while len(self.witness.acknowledged()) < wanted and time.monotonic() < until:
            time.sleep(STEP)

    def _look(self, *, deletes: float) -> None:
        waiting = queued(self.server.folder)
        wrong = []
        for name in MAILBOXES:
            wrong += self.witness.read(self.server.pop3, name, deletes=deletes)
        wrong += self.witness.judge(waiting, peer=list(self.peer.letters))
        assert not wrong, "\n".join(wrong[:40])
        told, letters = self.told, self.witness.letters
        told.acknowledged = sum(letter.acknowledged for letter in letters)
        told.unanswered = sum(letter.attempts - letter.acknowledged for letter in letters)
        told.deleted = sum(len(drop.deleted) for drop in self.witness.drops.values())
        told.at_the_peer = len(self.peer.letters)

    def _drain(self) -> None:
        """The peer is there for good and takes everything: the queue ends, and nothing is missing anywhere."""
        self.peer.shut()
        self.peer.manner = lambda: ""
        self.peer.open()
        until = time.monotonic() + 4 * START_LIMIT
        while queued(self.server.folder):
            assert time.monotonic() < until, "the queue does not end"
            time.sleep(0.2)
        self._look(deletes=0)

    # --- backups meanwhile ------------------------------------------------------------------------

    def _begin_backup(self) -> subprocess.Popen[bytes] | None:
        """One in four rounds has a backup that is killed in its midst, one in eight one that may end."""
        if not self._makes_backups or self._chance.random() > 0.375:
            return None
        words = [*PROGRAM, "backup", str(self.archive), "--data", str(self.server.folder), "--keep", "3"]
        if self._chance.random() < 0.33:
            threads = self.witness.start(self.server.smtp, self.server.submission)
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
            self.witness.stop(threads)
            self.told.backups_whole += 1
            return None
        return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def _restore(self) -> None:
        """After all these kills: a last backup, and a house made of it that has every letter."""
        data = self.server.folder
        run("backup", self.archive, "--data", data, "--keep", "3")
        assert all(each["is_whole"] for each in json.loads(run("backup", self.archive, "--verify", "--json")))
        self.server.stop()
        shutil.rmtree(data)
        run("restore", self.archive, "--data", data)
        self.server.start()
        self._look(deletes=0)
