# SPDX-License-Identifier: Apache-2.0
"""An IMAP server that does nothing but answer, in a process of its own: what the load client reaches there is its
limit. Its answers are true ones as far as the client looks, so it passes the client's checks."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from collections.abc import Iterator

from bench import imap_letters
from bench.imap_scripts import BODIES, ENVELOPES, Load

SUMMARY = (
    b'* %d FETCH (UID %d FLAGS (\\Seen) RFC822.SIZE %d ENVELOPE ("Mon, 23 Nov 2026 09:00:00 +0000" "Re: minutes of '
    b'meeting, and what follows from it" (("Person Number 7" NIL "person7" "elsewhere.test")) (("Person Number 7" NIL '
    b'"person7" "elsewhere.test")) (("Person Number 7" NIL "person7" "elsewhere.test")) (("Someone" NIL "someone" '
    b'"bench.test")(NIL NIL "another" "bench.test")) (("The Whole Team" NIL "team" "bench.test")) NIL NIL '
    b'"<%d@elsewhere.test>"))\r\n'
)


def answers(load: Load) -> dict[bytes, bytes]:
    """Untagged lines by command; no entry: none."""
    numbers = range(load.letters)
    found = {b"SELECT INBOX": b"* %d EXISTS\r\n" % load.letters}
    if load.script == "envelopes":
        sizes = [len(imap_letters.whole(number, load.octets)) for number in numbers]
        found[ENVELOPES] = b"".join(SUMMARY % (n + 1, n + 1, sizes[n], n) for n in numbers)
    elif load.script == "flags":
        found[b"FETCH 1:* (FLAGS)"] = b"".join(b"* %d FETCH (FLAGS (\\Seen))\r\n" % (n + 1) for n in numbers)
    elif load.script == "bodies":
        whole = [imap_letters.whole(number, load.octets) for number in numbers]
        parts = [b"* %d FETCH (BODY[] {%d}\r\n%s)\r\n" % (n + 1, len(whole[n]), whole[n]) for n in numbers]
        found[BODIES] = b"".join(parts)
    return found


@contextlib.contextmanager
def running(load: Load) -> Iterator[int]:
    """The port of a server that ends with the context."""
    canned = answers(load)
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    port = int(listener.getsockname()[1])
    child = os.fork()
    if not child:
        try:
            serve(listener, canned)
        finally:
            os._exit(1)
    listener.close()
    try:
        yield port
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def serve(listener: socket.socket, canned: dict[bytes, bytes]) -> None:
    poll = select.epoll()
    poll.register(listener.fileno(), select.EPOLLIN)
    socks: dict[int, socket.socket] = {}
    while True:
        for number, _ in poll.poll():
            if number == listener.fileno():
                sock, _ = listener.accept()
                socks[sock.fileno()] = sock
                poll.register(sock.fileno(), select.EPOLLIN)
                sock.sendall(b"* OK\r\n")
            elif line := socks[number].recv(65_536):
                tag, _, command = line.strip().partition(b" ")
                with contextlib.suppress(OSError):
                    socks[number].sendall(canned.get(command, b"") + tag + b" OK done\r\n")
            else:
                socks.pop(number).close()
