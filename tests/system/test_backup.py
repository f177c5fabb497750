# SPDX-License-Identifier: Apache-2.0
"""A backup of a server under load, and houses made of it: every letter acknowledged before it began is there."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.killing import ALICE, MAILBOXES, PROGRAM, SUBMITS_TO, WAYS, Peer, Server, run
from tests.system.witness import Witness, ask_api, queued

pytestmark = pytest.mark.slow


@pytest.fixture
def place(template: Path) -> Iterator[Path]:
    """A short one: the path of a control socket has at most 107 octets. `data` in it is furnished."""
    with tempfile.TemporaryDirectory(prefix="ph-backup-", dir="/tmp") as name:
        shutil.copytree(template, Path(name) / "data")
        yield Path(name)


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer() as made:
        yield made


class Scene:
    """One server, its witness, and its backups."""

    def __init__(self, place: Path, peer: Peer) -> None:
        self.data, self.archive = place / "data", place / "backups"
        self.peer = peer
        self.server = Server(self.data, peer=peer.port)
        self.witness = Witness(place / "ledger", WAYS, sender=ALICE, submits_to=SUBMITS_TO)

    def load(self) -> list[threading.Thread]:
        return self.witness.start(self.server.smtp, self.server.submission, clients=4, submitters=1)

    def wait_for(self, more: int) -> None:
        wanted = len(self.witness.acknowledged()) + more
        pause = threading.Event()
        while len(self.witness.acknowledged()) < wanted:
            assert not self.witness.complaints, self.witness.complaints
            pause.wait(0.02)

    def back_up(self, *more: str) -> dict[str, object]:
        told: dict[str, object] = json.loads(run("backup", self.archive, "--data", self.data, "--json", *more))
        return told

    def stretches(self) -> dict[str, tuple[int, int]]:
        """Name to inode and time of change of every stretch of a pack."""
        found = {}
        for path in (self.archive / "packs").iterdir():
            told = path.stat()
            found[path.name] = told.st_ino, told.st_mtime_ns
        return found

    def compare(self, folder: Path, among: set[int]) -> None:
        """Serve a restored house and look for these letters, octet for octet."""
        restored = Server(folder, peer=self.peer.port)
        restored.start()
        try:
            waiting = queued(folder)
            self.witness.drops.clear()
            wrong = [problem for name in MAILBOXES for problem in self.witness.read(restored.pop3, name)]
            peer = list(self.peer.letters)
            wrong += self.witness.judge(waiting, among=among, peer=peer, may_repeat=True)
            assert not wrong, "\n".join(wrong[:20])
        finally:
            restored.stop()


@pytest.fixture
def scene(place: Path, peer: Peer) -> Iterator[Scene]:
    made = Scene(place, peer)
    made.server.start()
    yield made
    made.server.kill()
    made.witness.close()


def test_backups_under_load_restored_have_every_letter_acknowledged_before(scene: Scene, place: Path) -> None:
    """Two backups while letters come in by two doors and go out; each restored; the second copies no pack again."""
    threads = scene.load()
    scene.wait_for(60)
    before_first = scene.witness.acknowledged()
    first = scene.back_up()
    copied = scene.stretches()
    scene.wait_for(60)
    before_second = scene.witness.acknowledged()
    second = scene.back_up()
    # The restores too happen while the server goes on.
    for number, (told, among) in enumerate([(first, before_first), (second, before_second)]):
        folder = place / f"new{number}"
        run("restore", scene.archive, "--data", folder, "--generation", str(told["generation"]))
        scene.compare(folder, among)
    scene.wait_for(20)
    scene.witness.stop(threads)
    assert (first["findings"], second["findings"], second["kept"]) == ([], [], 2)
    now = scene.stretches()
    assert {name: now[name] for name in copied} == copied, "what was copied once is left as it is"
    assert len(now) > len(copied)
    assert not list((scene.data / "backup").iterdir()), "nothing of a backup stays in the house"
    verdicts = json.loads(run("backup", scene.archive, "--verify", "--json"))
    assert [each["is_whole"] for each in verdicts] == [True, True]
    assert len(before_first) >= 60
    assert before_first < before_second


def test_a_backup_outlives_the_server_that_it_began_with(scene: Scene, place: Path) -> None:
    """The server is killed, or the backup, or both: the next one is whole, and nothing of a half one is ever used."""
    threads = scene.load()
    scene.wait_for(20)
    scene.back_up()
    scene.wait_for(20)
    command = [*PROGRAM, "backup", str(scene.archive), "--data", str(scene.data)]
    for victim in ("backup", "server"):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        hold = scene.data / "backup"
        while process.poll() is None and not (hold.exists() and list(hold.iterdir())):
            threading.Event().wait(0.005)
        if victim == "server":
            scene.server.kill()
        else:
            process.send_signal(signal.SIGKILL)
        process.communicate()
    scene.witness.stop(threads)
    scene.server.start()
    for name in MAILBOXES:
        assert scene.witness.read(scene.server.pop3, name) == []
    assert all(each["is_whole"] for each in json.loads(run("backup", scene.archive, "--verify", "--json")))
    scene.back_up("--keep", "1")
    assert len(json.loads(run("backup", scene.archive, "--list", "--json"))) == 1
    scene.server.stop()
    run("restore", scene.archive, "--data", place / "new")
    scene.compare(place / "new", scene.witness.acknowledged())


def test_letters_deleted_after_the_backup_are_back_and_the_queue_can_be_held(scene: Scene, place: Path) -> None:
    """A restored house is the older one; with --hold-queue nothing leaves it before the operator says so."""
    scene.peer.shut()
    threads = scene.load()
    scene.wait_for(60)
    scene.witness.stop(threads)
    scene.back_up()
    waiting = queued(scene.data)
    for name in MAILBOXES:
        assert scene.witness.read(scene.server.pop3, name, deletes=1.0) == []
    scene.server.stop()
    told = json.loads(run("restore", scene.archive, "--data", scene.data, "--replace", "--hold-queue", "--json"))
    assert told["is_queue_held"]
    assert Path(told["put_aside"]).parent == scene.data
    assert (Path(told["put_aside"]) / "posthouse.sqlite3").exists()
    scene.peer.open()
    restored = Server(scene.data, peer=scene.peer.port)
    restored.start()
    try:
        letters = ask_api(scene.data, "/v1/queue")["letters"]
        assert letters
        assert {state for letter in letters for state in letter["states"]} == {"held"}
        assert waiting <= queued(scene.data)
        assert scene.peer.letters == []
        scene.witness.drops.clear()
        wrong = [problem for name in MAILBOXES for problem in scene.witness.read(restored.pop3, name)]
        assert wrong + scene.witness.judge(queued(scene.data)) == []
    finally:
        restored.stop()
