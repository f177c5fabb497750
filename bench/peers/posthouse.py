# SPDX-License-Identifier: Apache-2.0
"""posthouse itself, started as its operator would: `init`, a settings file, `serve`."""

from __future__ import annotations

import asyncio
import os
import poplib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from argon2 import PasswordHasher

from bench.imap_letters import fill_store
from bench.peers.base import DOMAIN, PASSWORD, USER, Peer, printed
from posthouse.access import client
from posthouse.services.passwords import Cost

SETTINGS = """\
hostname = "mail.{domain}"
[listen]
smtp = ["{address}:{smtp}"]
pop3 = ["127.0.0.1:{pop3}"]
{imap}
[auth]
plaintext = ["pop3", "imap"]
[smtp]
max_connections = {connections}
max_connections_per_address = {connections}
letters_per_minute = 0
[pop3]
max_connections = {connections}
[process]
event_loop = "{event_loop}"
log_format = "json"
{checks}"""
# Who sends from an address of this machine's own is checked too, and may send as much as the run needs.
CHECKS = """\
[authentication]
loopback = true
[resolver]
servers = ["{names}"]
"""

IMAP = """\
imap = ["127.0.0.1:{imap}"]
lmtp = ["unix:{lmtp}"]
"""


class Posthouse(Peer):
    name = "posthouse"
    default_loop = "auto"

    def __init__(self, event_loop: str = "") -> None:
        super().__init__()
        self.event_loop = event_loop or self.default_loop
        self.program = Path(sys.executable).with_name("posthouse")

    def launch(self) -> None:
        data = self.folder / "data"
        command: list[str | Path] = [
            self.program,
            "init",
            "--data",
            data,
            "--hostname",
            f"mail.{DOMAIN}",
            "--domain",
            DOMAIN,
        ]
        command += ["--admin", USER, "--password-stdin"]
        subprocess.run(command, input=PASSWORD.encode(), check=True, capture_output=True)
        setup = self.setup
        imap = IMAP.format(imap=self.imap_port, lmtp=self.lmtp) if setup.wants_imap else ""
        (data / "posthouse.toml").write_text(
            SETTINGS.format(
                domain=DOMAIN,
                address=setup.address,
                checks=CHECKS.format(names=setup.names) if setup.names else "",
                smtp=self.smtp_port,
                pop3=self.pop3_port,
                imap=imap,
                event_loop=self.event_loop,
                connections=max(1000, setup.connections + 100),
            )
        )
        asyncio.run(add_accounts(data, [user for user in setup.users if user != USER]))
        if setup.letters:
            asyncio.run(fill_store(data, setup.users, setup.letters, setup.octets))
            os.sync()  # as for the others
        self.run([self.program, "serve", "--data", data])
        self.await_ports(self.smtp_port, self.pop3_port, *([self.imap_port] if setup.wants_imap else []))

    def mailbox(self, user: str) -> tuple[int, int]:
        """STAT, as a user sees it."""
        with socket.create_connection(("127.0.0.1", self.pop3_port)) as sock:
            lines = sock.makefile("rb")
            lines.readline()
            for command in (f"USER {user}", f"PASS {PASSWORD}", "STAT"):
                sock.sendall(command.encode() + b"\r\n")
                answer = lines.readline()
                if not answer.startswith(b"+OK"):
                    raise RuntimeError(f"{command.partition(' ')[0]} for {user}: {answer.decode().strip()}")
            sock.sendall(b"QUIT\r\n")
            lines.readline()
        _, letters, octets = answer.split()[:3]
        return int(letters), int(octets)

    def headers(self, user: str) -> Iterator[bytes]:
        pop3 = poplib.POP3("127.0.0.1", self.pop3_port)
        try:
            pop3.user(user)
            pop3.pass_(PASSWORD)
            for number in range(1, pop3.stat()[0] + 1):
                yield b"\n".join(pop3.top(number, 0)[1])
        finally:
            pop3.close()

    def version(self) -> str:
        return printed(self.program, "--version")


class PosthouseAsyncio(Posthouse):
    name = "posthouse, without uvloop"
    default_loop = "asyncio"


# Accounts of which each gets its password as an operator would give it. More would only cost time to hash; those get
# one hash in common, as imported ones, which lack the secrets that the server then adds at their first login.
MOST_OWN_PASSWORDS = 250
AT_ONCE = 4  # requests to the admin API


async def add_accounts(data: Path, users: list[str]) -> None:
    """Through the admin API."""
    if not users:
        return
    body = {"password": PASSWORD}
    if len(users) > MOST_OWN_PASSWORDS:
        cost = Cost()
        hasher = PasswordHasher(time_cost=cost.time, memory_cost=cost.memory, parallelism=cost.lanes)
        body = {"password_hash": hasher.hash(PASSWORD)}
    left = iter(users)
    async with client(data) as api:

        async def worker() -> None:
            for user in left:
                (await api.post("/v1/accounts", json={"address": user, **body})).raise_for_status()

        await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
