# SPDX-License-Identifier: Apache-2.0
"""Servers that pass everything on to one sink on loopback, through their queues, each as its defaults have it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from bench.house import ADMIN, DOMAIN, PASSWORD, Server
from bench.peers import Peer, Postfix
from bench.peers.exim import Exim
from bench.peers.opensmtpd import OpenSmtpd

SINK_DOMAIN = "sink.test"
STRANGER = "someone@elsewhere.test"
TARGET = f"someone@{SINK_DOMAIN}"
FORWARDED = f"forward@{DOMAIN}"  # an alias that leads to the sink: letters of strangers that are queued


class Relaying(Protocol):
    """A server under way to the sink."""

    def start(self, folder: Path) -> None: ...

    def load(self, *, is_submission: bool) -> list[str]:
        """Port, sender and recipient as bench.submission_load wants them."""

    def cpu_seconds(self) -> float: ...

    def stop(self) -> None: ...


class RelayingPosthouse:
    def __init__(self, sink: int) -> None:
        self._sink = sink
        self._server: Server | None = None

    @property
    def server(self) -> Server:
        assert self._server is not None, "start comes first"
        return self._server

    def start(self, folder: Path) -> None:
        server = Server(folder, {SINK_DOMAIN: f"127.0.0.1:{self._sink}"})
        server.found()
        server.start()
        self._server = server
        server.command("alias", "add", FORWARDED, TARGET)

    def load(self, *, is_submission: bool) -> list[str]:
        if is_submission:
            login = ["--user", ADMIN, "--password", PASSWORD]
            return [str(self.server.submission), "--sender", ADMIN, "--to", TARGET, *login]
        return [str(self.server.smtp), "--sender", STRANGER, "--to", FORWARDED]

    def cpu_seconds(self) -> float:
        return self.server.cpu_seconds()

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()


class RelayingPeer:
    """Another server, which may relay for loopback."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def start(self, folder: Path) -> None:
        self._peer.start(folder)

    def load(self, *, is_submission: bool) -> list[str]:
        assert not is_submission, "only posthouse is given submitted letters"
        return [str(self._peer.smtp_port), "--sender", STRANGER, "--to", TARGET]

    def cpu_seconds(self) -> float:
        return self._peer.cpu_seconds()

    def stop(self) -> None:
        self._peer.stop()


EXIM_ROUTER = """\
away:
  driver = manualroute
  domains = {domain}
  route_list = * 127.0.0.1
  self = send
  transport = onward
"""
EXIM_TRANSPORT = """\
onward:
  driver = smtp
  port = {port}
  allow_localhost
"""


def _postfix(sink: int) -> Peer:
    peer = Postfix()
    peer.transport = f"relayhost = [127.0.0.1]:{sink}\n"
    return peer


def _exim(sink: int) -> Peer:
    peer = Exim()
    peer.rules = "  accept hosts = 127.0.0.1"
    peer.routers = EXIM_ROUTER.format(domain=SINK_DOMAIN)
    peer.transports = EXIM_TRANSPORT.format(port=sink)
    return peer


def _opensmtpd(sink: int) -> Peer:
    peer = OpenSmtpd()
    peer.rules = f'action "onward" relay host smtp://127.0.0.1:{sink}\nmatch from any for any action "onward"'
    return peer


MAKERS = {"Postfix": _postfix, "Exim": _exim, "OpenSMTPD": _opensmtpd}


def relaying(name: str, sink: int) -> Relaying:
    """The server of this name, not yet started. KeyError when it has none."""
    return RelayingPeer(MAKERS[name](sink)) if name in MAKERS else RelayingPosthouse(sink)
