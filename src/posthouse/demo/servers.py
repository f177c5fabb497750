# SPDX-License-Identifier: Apache-2.0
"""The demo's servers: `posthouse serve` in processes of their own, asked through the admin API like any other.

Invariant: a server that was started is stopped, whatever happens to the story.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posthouse import access, config, config_file, founding
from posthouse.edges.cli.backend import Plan

LOOPBACK = "127.0.0.1"
START_SECONDS = 30.0  # a small machine under load needs some to load the program
STOP_SECONDS = 20.0  # then it is killed


class ServerFault(Exception):  # noqa: N818 - as StoreFault
    """A server did not do what it was started for."""


@dataclass(frozen=True, slots=True)
class Pace:
    """The queue's times, as settings: `given_up` is the expiry of the server that never comes back."""

    retry: tuple[str, ...]
    expire: str
    given_up: str


@dataclass(slots=True)
class DemoServer:
    """One server. `smtp`: the port of its SMTP listener, chosen before it starts so that others can have a route."""

    domain: str
    user: str
    password: str = field(repr=False)
    folder: Path
    smtp: int
    ports: dict[str, int] = field(default_factory=dict)
    _process: asyncio.subprocess.Process | None = None

    @property
    def hostname(self) -> str:
        return f"mail.{self.domain}"

    @property
    def log(self) -> Path:
        return self.folder.with_suffix(".log")

    def found(self, pace: Pace, routes: Mapping[str, int], gone: Sequence[str] = ()) -> None:
        """Make the data directory, with the account and the demo's settings. Blocks for a second."""
        listen = {"smtp": [f"{LOOPBACK}:{self.smtp}"]} | {
            name: [f"{LOOPBACK}:0"]
            for name in ("submission", "pop3s")  # 0: any free port; the server says which
        }
        founding.found(self.folder, Plan(self.hostname, self.domain, self.user, self.password, listen))
        text = config_file.render(
            {
                "hostname": self.hostname,
                "listen": listen,
                "queue": {"retry": list(pace.retry), "expire": pace.expire, "warn": ""},
                "routes": {domain: f"{LOOPBACK}:{port}" for domain, port in routes.items()},
            }
        )
        text += "".join(f'\n[queue.destinations."{domain}"]\nexpire = "{pace.given_up}"\n' for domain in gone)
        (self.folder / config.FILE_NAME).write_text(text, "utf-8")

    async def start(self) -> None:
        """Returns when it listens. Raises ServerFault."""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "posthouse",
                "serve",
                "--data",
                str(self.folder),
                "--json",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the demo, which then stops its servers
            )
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(START_SECONDS):
                # One JSON document, once everything listens.
                document = await _document(self._process.stdout)
        except TimeoutError:
            raise ServerFault(f"the server of {self.domain} did not start within {START_SECONDS:.0f} seconds") from None
        if "error" in document:
            raise ServerFault(f"the server of {self.domain} did not start: {document['error']}")
        self.ports = {name: int(where[0].rpartition(":")[2]) for name, where in document["listens"].items() if where}

    async def stop(self) -> None:
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            raise ServerFault(f"the server of {self.domain} did not stop within {STOP_SECONDS:.0f} seconds") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    # --- the admin API ----------------------------------------------------------------------------

    async def queue(self, selection: str) -> list[dict[str, Any]]:
        """The letters that wait, as `posthouse queue list --json` gives them."""
        return list((await self._ask("/v1/queue", selection=selection))["letters"])

    async def trace(self, message_id: str) -> dict[str, Any]:
        """What happened to a letter, as `posthouse trace --json` gives it."""
        stories = await self._ask("/v1/trace", what=message_id)
        if not stories:
            raise ServerFault(f"the server of {self.domain} knows nothing of {message_id}")
        return dict(stories[0])

    async def _ask(self, path: str, **parameters: str) -> Any:
        async with access.client(self.folder) as client:
            answer = await client.get(path, params=parameters)
        if answer.is_error:
            raise ServerFault(f"the server of {self.domain} answered {answer.status_code}: {answer.text}")
        return answer.json()


async def _document(stream: asyncio.StreamReader) -> dict[str, Any]:
    octets = b""
    while True:
        line = await stream.readline()
        if not line:
            raise ServerFault("the server ended before it listened")
        octets += line
        with contextlib.suppress(json.JSONDecodeError):
            return dict(json.loads(octets))


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now. All are found before any is given back, so that they differ."""
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(count):
            probe = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            probe.bind((LOOPBACK, 0))
            ports.append(int(probe.getsockname()[1]))
        return ports
