# SPDX-License-Identifier: Apache-2.0
"""kill -9 under load, again and again: every acknowledged letter is there after the restart, exactly as it was sent."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import socket
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from posthouse.services.incoming import SPOOL_ABOVE
from tests.system.sink import Sink
from tests.system.wire import Wire

ROUNDS = 5
CLIENTS = 8
RECIPIENTS = (["bob@bob.test"], ["sales@bob.test"], ["carol@bob.test"], ["away@bob.test"], ["both@bob.test"])
READERS = {
    "bob@bob.test": {"bob@bob.test", "sales@bob.test", "both@bob.test"},
    "carol@bob.test": {"carol@bob.test", "sales@bob.test"},
}
FORWARDED = {"away@bob.test", "both@bob.test"}
START_LIMIT = 30.0  # seconds for a server to come up on a busy machine

CONFIG = """
hostname = "mail.example.test"
[listen]
smtp = ["127.0.0.1:{smtp}"]
pop3 = ["127.0.0.1:{pop3}"]
[auth]
plaintext = ["pop3"]
[smtp]
letters_per_minute = 0
[queue]
retry = ["1s"]
[resolver]
servers = ["127.0.0.1:1"]
[routes]
"elsewhere.test" = {{ host = "127.0.0.1:{sink}", tls = "none" }}
[store]
reserve = 0
pack_size = "1M"
[process]
log_level = "error"
"""


@dataclass
class Letter:
    """One letter and what became of its attempts."""

    number: int
    to: list[str]
    content: bytes
    attempts: int = 0  # in which the final dot was sent
    acknowledged: int = 0


@dataclass
class Load:
    """Clients that send as fast as they can until the server is gone. Letters without a 250 are sent again."""

    chance: random.Random
    letters: list[Letter] = field(default_factory=list)

    def next(self) -> Letter:
        number = len(self.letters)
        size = self.chance.choice([10, 2_000, 10_000, 40_000, SPOOL_ABOVE + 1000] if number % 20 == 0 else [100, 5_000])
        head = f"From: x@example.test\r\nMessage-ID: <{number}@example.test>\r\nSubject: {number}\r\n\r\n".encode()
        line = f".{self.chance.random()} line of letter {number}\r\n".encode()
        letter = Letter(number, self.chance.choice(RECIPIENTS), head + line * (size // len(line) + 1))
        self.letters.append(letter)
        return letter

    async def client(self, port: int) -> None:
        with contextlib.suppress(ConnectionError, AssertionError):  # the server was killed in the middle of a word
            async with await Wire.open(port, None) as wire:
                await wire.hello()
                again = [letter for letter in self.letters if not letter.acknowledged]
                while True:
                    await self.send(wire, again.pop() if again else self.next())

    async def send(self, wire: Wire, letter: Letter) -> None:
        commands = ["MAIL FROM:<>", *(f"RCPT TO:<{to}>" for to in letter.to), "DATA"]
        replies = await wire.say_all(*commands)
        if replies[-1] == "":
            raise ConnectionResetError
        assert [reply[:3] for reply in replies] == ["250"] * (len(commands) - 1) + ["354"]
        letter.attempts += 1
        await wire.send(letter.content.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        reply = await wire.reply()
        if reply == "":
            raise ConnectionResetError
        assert reply.startswith("250"), reply
        letter.acknowledged += 1


class Server:
    """`posthouse serve` as a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.smtp, self.pop3 = free_port(), free_port()

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "posthouse", "serve", "--data", str(self.folder)
        )
        async with asyncio.timeout(START_LIMIT):
            while True:
                assert self.process.returncode is None, "the server did not start again"
                with contextlib.suppress(ConnectionError):
                    async with await Wire.open(self.pop3, None):
                        return
                await asyncio.wait([asyncio.ensure_future(self.process.wait())], timeout=0.05)

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        number: int = sock.getsockname()[1]
        return number


async def read(server: Server, name: str, known: dict[str, bytes]) -> dict[str, bytes]:
    """The maildrop by unique-id. Letters that are known must still be there; only new ones are fetched."""
    found: dict[str, bytes] = {}
    async with await Wire.open(server.pop3, None) as wire:
        assert (await wire.maildrop(name)).startswith("+OK")
        for line in await wire.listing("UIDL"):
            number, unique_id = line.decode().split()
            found[unique_id] = known.get(unique_id) or await wire.retrieve(int(number))
        await wire.ask("QUIT")
    assert set(known) <= set(found), "a letter or its unique-id is gone"
    return found


def check(load: Load, to: set[str], found: list[bytes], *, may_repeat: bool = False) -> None:
    """Every acknowledged letter, exactly as sent; more copies than acknowledgements only where one was lost."""
    copies = Counter(number_of(letter) for letter in found)
    by_number = {letter.number: letter for letter in load.letters}
    for letter in found:
        assert letter.endswith(b"\r\n" + by_number[number_of(letter)].content), "a letter was changed"
    for letter in load.letters:
        wanted = letter.acknowledged if to & set(letter.to) else 0
        most = letter.attempts if to & set(letter.to) else 0
        count = copies[letter.number]
        assert wanted <= count, f"letter {letter.number} is lost"
        assert count <= most or (may_repeat and most), f"letter {letter.number} is there {count} times"


def number_of(letter: bytes) -> int:
    start = letter.index(b"Message-ID: <") + 13
    return int(letter[start : letter.index(b"@", start)])


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1])
async def test_every_acknowledged_letter_survives_kill_9(template: Path, tmp_path: Path, seed: int) -> None:
    folder = tmp_path / "data"
    shutil.copytree(template, folder)
    server = Server(folder)
    chance = random.Random(seed)
    load = Load(chance)
    kept: dict[str, dict[str, bytes]] = {name: {} for name in READERS}
    async with Sink() as sink:
        text = CONFIG.format(smtp=server.smtp, pop3=server.pop3, sink=sink.port)
        (folder / "posthouse.toml").write_text(text, "utf-8")
        await server.start()
        try:
            for _ in range(ROUNDS):
                clients = [asyncio.ensure_future(load.client(server.smtp)) for _ in range(CLIENTS)]
                await asyncio.wait(clients, timeout=chance.uniform(0.2, 0.8))
                await server.kill()
                await asyncio.gather(*clients)
                await server.start()
                for name, to in READERS.items():
                    kept[name] = await read(server, name, kept[name])
                    check(load, to, list(kept[name].values()))
            wanted = {letter.number for letter in load.letters if letter.acknowledged and FORWARDED & set(letter.to)}
            await sink.wait_for(lambda: wanted <= {number_of(letter) for letter in sink.letters})
            # A letter whose delivery was not written down in time is sent once more: twice is allowed, never is not.
            check(load, FORWARDED, sink.letters, may_repeat=True)
        finally:
            await server.kill()
    assert sum(letter.acknowledged for letter in load.letters) > 100, "the load was no load"
    assert any(letter.attempts > letter.acknowledged for letter in load.letters), "no letter was cut off"
