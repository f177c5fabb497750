# SPDX-License-Identifier: Apache-2.0
"""posthouse as a process of its own, driven through its command line, its ports and its files alone."""

from __future__ import annotations

import json
import poplib
import smtplib
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .programs import PATIENCE, answers, free_port, run, stop, wait_until

HOSTNAME = "localhost"  # the self-signed certificate is for it, and every client can look it up
DOMAIN = "house.test"
ALICE = f"alice@{DOMAIN}"
BOB = f"bob@{DOMAIN}"
PASSWORD = "correct horse battery %1"  # blanks and a percent sign: what configuration files get wrong
LISTENERS = ("smtp", "submission", "submissions", "lmtp", "pop3", "pop3s", "imap", "imaps", "metrics")


class House:
    """`routes`: domain to "host:port". `settings`: more lines of posthouse.toml."""

    def __init__(
        self, folder: Path, *, routes: dict[str, str] | None = None, settings: str = "", smtp_port: int = 0
    ) -> None:
        self.folder = folder
        self.log = folder.with_name(folder.name + ".log")
        self.ports = {name: free_port() for name in LISTENERS}
        self.ports["smtp"] = smtp_port or self.ports["smtp"]
        self._process: subprocess.Popen[bytes] | None = None
        self.command("init", "--hostname", HOSTNAME, "--domain", DOMAIN, "--admin", ALICE, "--password-stdin")
        listen = "\n".join(f'{name} = ["127.0.0.1:{port}"]' for name, port in self.ports.items())
        fixed = "\n".join(f'"{domain}" = "{host}"' for domain, host in (routes or {}).items())
        (folder / "posthouse.toml").write_text(
            f'hostname = "{HOSTNAME}"\n[listen]\n{listen}\n[routes]\n{fixed}\n[queue]\nretry = ["1s"]\n'
            f'[auth]\nplaintext = ["pop3"]\n[process]\nlog_format = "json"\n{settings}'
        )
        self.command("account", "add", BOB, "--password-stdin")

    @property
    def certificate(self) -> Path:
        """Clients are told to trust it, and then check it."""
        return self.folder / "tls" / "self-signed.pem"

    def command(self, *words: str, stdin: str = PASSWORD + "\n") -> str:
        return run([sys.executable, "-m", "posthouse", *words, "--data", self.folder], stdin=stdin.encode())

    def command_once(self, *words: str) -> None:
        """A command that may have been done before."""
        try:
            self.command(*words)
        except pytest.fail.Exception as failed:
            if "already" not in str(failed):
                raise

    def told(self, *words: str) -> Any:
        """A command's answer with --json."""
        return json.loads(self.command(*words, "--json"))

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "posthouse", "serve", "--data", str(self.folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        process = self._process
        wait_until(
            # It binds first and serves later: the greeting says that it does.
            lambda: process.poll() is not None or answers(self.ports["smtp"]),
            "posthouse to serve",
            log=self.log,
        )
        assert process.poll() is None, self.log.read_text()[-4000:]

    def stop(self) -> None:
        """SIGTERM, and its end."""
        if self._process is not None:
            stop(self._process)
            assert self._process.returncode == 0, self.log.read_text()[-4000:]
            self._process = None

    def kill(self) -> None:
        """SIGKILL: as if the machine had taken it."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    # --- as a client would ---------------------------------------------------------------------

    def submit(self, octets: bytes, to: list[str], *, rcpt_options: tuple[str, ...] = ()) -> None:
        """As alice, over TLS. Raises smtplib's errors."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        with smtplib.SMTP_SSL("localhost", self.ports["submissions"], context=context, timeout=PATIENCE) as smtp:
            smtp.login(ALICE, PASSWORD)
            refused = smtp.sendmail(ALICE, to, octets, mail_options=["BODY=8BITMIME"], rcpt_options=rcpt_options)
            assert refused == {}

    def receive(self, octets: bytes, *to: str, sender: str = "zoe@elsewhere.test") -> None:
        """As another server would hand it over."""
        with smtplib.SMTP("localhost", self.ports["smtp"], timeout=PATIENCE) as smtp:
            assert smtp.sendmail(sender, to, octets, mail_options=["BODY=8BITMIME"]) == {}

    def letters(self, name: str) -> list[bytes]:
        """The letters of a mailbox, as they are, left where they are."""
        return self._fetch(name, remove=False)

    def take(self, name: str, count: int = 1) -> list[bytes]:
        """Wait for exactly so many letters and take them out of the mailbox."""
        wait_until(lambda: self.count(name) >= count, f"{count} letters for {name}", log=self.log)
        found = self._fetch(name, remove=True)
        assert len(found) == count
        return found

    def count(self, name: str) -> int:
        pop3 = self._log_in(name)
        count = pop3.stat()[0]
        pop3.quit()
        return count

    def empty(self, *names: str) -> None:
        for name in names:
            self._fetch(name, remove=True)

    def queued(self) -> list[Any]:
        """What waits in the queue, as `posthouse queue list --json` tells it."""
        answer = self.told("queue", "list")
        return list(answer if isinstance(answer, list) else answer["letters"])

    def _log_in(self, name: str) -> poplib.POP3_SSL:
        context = ssl.create_default_context(cafile=str(self.certificate))
        pop3 = poplib.POP3_SSL("localhost", self.ports["pop3s"], context=context, timeout=PATIENCE)
        pop3.user(name)
        pop3.pass_(PASSWORD)
        return pop3

    def _fetch(self, name: str, *, remove: bool) -> list[bytes]:
        pop3 = self._log_in(name)
        found = []
        for number in range(1, pop3.stat()[0] + 1):
            found.append(b"".join(line + b"\r\n" for line in pop3.retr(number)[1]))
            if remove:
                pop3.dele(number)
        pop3.quit()
        return found
