# SPDX-License-Identifier: Apache-2.0
"""Resident memory of posthouse: idle, and with 1,000 idle POP3 connections over TLS, on both event loops."""

from __future__ import annotations

import socket
import ssl
import tempfile
from pathlib import Path

from bench import processes
from bench.peers import Posthouse

CONNECTIONS = 1000


def measure() -> dict[str, float]:
    found: dict[str, float] = {}
    for event_loop in ("uvloop", "asyncio"):
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            peer = Posthouse(event_loop=event_loop)
            peer.start(Path(folder) / "server")
            try:
                idle = processes.memory(peer.root()[0])[0]
                found[f"idle ({event_loop})"] = idle
                held = [connect(peer.pop3_port) for _ in range(CONNECTIONS)]
                found[f"more with {CONNECTIONS} idle TLS connections ({event_loop})"] = (
                    processes.memory(peer.root()[0])[0] - idle
                )
                for sock in held:
                    sock.close()
            finally:
                peer.stop()
    return found


def connect(port: int) -> ssl.SSLSocket:
    """One POP3 connection with STLS done, waiting."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    sock = socket.create_connection(("127.0.0.1", port))
    sock.recv(1000)
    sock.sendall(b"STLS\r\n")
    sock.recv(1000)
    return context.wrap_socket(sock)
