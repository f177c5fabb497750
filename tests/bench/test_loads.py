# SPDX-License-Identifier: Apache-2.0
"""The load clients notice what is not true: a server that drops octets or letters must not look fast."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.guard import Guarded, descendants
from bench.pop3_load import WrongAnswerError
from bench.processes import wait_until

from bench import pop3_load, smtp_load


@contextlib.contextmanager
def server(answers: list[bytes]) -> Iterator[int]:
    """Greets with the first answer, then gives one to each read, in turn; ends with the connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                with sock:
                    for answer in answers:
                        sock.sendall(answer)
                        if not sock.recv(65536):
                            break

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


LETTER = b"+OK\r\nFrom: a\r\n\r\n..x\r\n.\r\n"
ONE_LETTER = [b"+OK\r\n", b"+OK\r\n", b"+OK\r\n", LETTER, b"+OK\r\n"]


def pop3(port: int) -> pop3_load.Load:
    return pop3_load.Load(port, users=1, at_once=1, sessions=3, letters=1, is_listing=False, octets=5)


def test_a_pop3_session_counts_every_octet_of_its_letters() -> None:
    with server(ONE_LETTER) as port:
        found = pop3_load.run(pop3(port), [len(LETTER)])
    assert found["octets"] == 3 * len(LETTER)


def test_a_pop3_session_that_lacks_octets_is_an_error() -> None:
    with server(ONE_LETTER) as port, pytest.raises(WrongAnswerError, match="24 octets of letters instead of 25"):
        pop3_load.run(pop3(port), [len(LETTER) + 1])


def test_a_refused_login_is_an_error() -> None:
    with server([b"+OK\r\n", b"+OK\r\n", b"-ERR no\r\n"]) as port, pytest.raises(WrongAnswerError, match="PASS"):
        pop3_load.run(pop3(port), [0])


def test_a_letter_shorter_than_announced_fails_the_check() -> None:
    listing = [b"+OK\r\n"] * 3 + [b"+OK 1 99\r\n", b"+OK 1 99\r\n", LETTER]
    with server(listing) as port, pytest.raises(WrongAnswerError, match="announced as 99"):
        pop3_load.check(pop3(port), 0)


def test_the_null_server_is_a_whole_pop3_server_to_the_client() -> None:
    load = pop3_load.Load(0, users=2, at_once=2, sessions=20, letters=2)
    child, port = pop3_load.null_server(load)
    try:
        there = pop3_load.Load(port, users=2, at_once=2, sessions=20, letters=2)
        expected = [pop3_load.check(there, user) for user in range(2)]
        assert pop3_load.run(there, expected)["octets"] == 10 * sum(expected)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def smtp(port: int, letters: int) -> smtp_load.Load:
    return smtp_load.Load(port, sessions=1, letters=letters, octets=100, to="a@bench.test")


SMTP = [b"220 hello\r\n", b"250-hello\r\n250 SIZE\r\n"]
ACCEPTED = [b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n", b"250 ok\r\n"]


def test_the_smtp_client_times_the_reply_to_each_final_dot() -> None:
    with server([*SMTP, *ACCEPTED, *ACCEPTED, b"221 bye\r\n"]) as port:
        found = smtp_load.run(smtp(port, 2))
    assert 0 < found["p50_ms"] <= found["p99_ms"] < found["seconds"] * 1000


def test_a_letter_refused_after_the_final_dot_is_an_error() -> None:
    answers = [*SMTP, *ACCEPTED[:3], b"452 4.3.1 full\r\n"]
    with server(answers) as port, pytest.raises(smtp_load.RefusedError, match=r"452 4\.3\.1"):
        smtp_load.run(smtp(port, 1))


def test_a_letter_has_the_octets_that_were_asked_for_and_one_final_dot() -> None:
    before, after = smtp_load.content(smtp(0, 1))
    body = (before + b"7" + after).partition(b"\r\n\r\n")[2]
    assert len(body.removesuffix(b".\r\n")) == 100
    assert body.endswith(b"\r\n.\r\n")
    assert max(map(len, body.split(b"\r\n"))) <= 998  # RFC 5322 §2.1.1


# A child that leaves two orphans behind and ends: one sleeps, the other works for a while and ends too.
FORKS = """
import os, sys, time
if os.fork() == 0:
    if os.fork() == 0:
        open(sys.argv[1], "w").write("up")
        time.sleep(600)
    if os.fork() == 0:
        while time.process_time() < 0.3:
            pass
        os._exit(0)
    os._exit(0)
os.wait()
time.sleep(600)
"""


@pytest.mark.slow
def test_the_guard_counts_and_ends_processes_whose_parents_are_gone(tmp_path: Path) -> None:
    """A server's orphans are adopted: their CPU is counted, and none outlives the run."""
    guarded = Guarded([sys.executable, "-c", FORKS, tmp_path / "up"], tmp_path / "log")
    try:
        wait_until((tmp_path / "up").exists, 10, "the grandchild")
        wait_until(lambda: guarded.cpu_seconds() > 0.2, 20, "the CPU time of the orphan that ended")
        wait_until(lambda: len(guarded.processes()) == 2, 20, "the other orphan to be adopted")
        left = guarded.processes()
    finally:
        guarded.stop()
    assert not guarded.is_running
    assert not [pid for pid in left if Path(f"/proc/{pid}").exists()]
    assert not [pid for pid in descendants(os.getpid()) if pid in left]
