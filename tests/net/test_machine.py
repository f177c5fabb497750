# SPDX-License-Identifier: Apache-2.0
"""The service manager, privileges, certificates as files, HTTP on given sockets."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from posthouse.net import privileges, tls
from posthouse.net.certificate import (
    RENEW_DAYS,
    SELF_SIGNED_DAYS,
    CertificateFacts,
    CertificateFault,
    ensure_self_signed,
    read_facts,
)
from posthouse.net.http import HttpFault, HttpServer
from posthouse.net.sockets import ListenFault, open_sockets
from posthouse.net.systemd import Notifier, inherited_sockets
from posthouse.net.tls import RETRY_SECONDS, TICKET_KEY_SECONDS, CertificateFiles, CertificateStore
from tests.net.conftest import NOW, make_files
from tests.net.echo import within

ON_BOTH_LOOPS = True
DAY = 86400.0


class HandClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def wall(self) -> float:
        return NOW

    def monotonic(self) -> float:
        return self.now


# --- service manager ------------------------------------------------------------------------------


def test_notifier_speaks_the_managers_words(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        notifier = Notifier({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "20000000"}, HandClock())
        assert notifier.watchdog_seconds == 10
        notifier.ready("serving\nall")
        notifier.reloading()
        notifier.alive()
        notifier.stopping()
        notifier.status("idle")
        notifier.extend_start(1.5)
        said = [manager.recv(1000) for _ in range(6)]
    assert said == [
        b"READY=1\nSTATUS=serving all",
        b"RELOADING=1\nMONOTONIC_USEC=1000000000",
        b"WATCHDOG=1",
        b"STOPPING=1",
        b"STATUS=idle",
        b"EXTEND_TIMEOUT_USEC=1500000",
    ]


def test_notifier_without_a_manager_is_silent(tmp_path: Path) -> None:
    Notifier({}, HandClock()).ready()
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}, HandClock()).ready()
    assert Notifier({"WATCHDOG_USEC": "5", "WATCHDOG_PID": "1"}, HandClock()).watchdog_seconds is None


def test_sockets_from_the_manager_come_by_name() -> None:
    """In a child, since descriptors 3 and up are what the manager hands over."""
    program = """
import os, socket, sys
from posthouse.net.systemd import inherited_sockets
environment = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "smtp"}
found = inherited_sockets(environment, os.getpid())
assert environment == {}
print({name: [sock.getsockname()[1] for sock in sockets] for name, sockets in found.items()})
"""
    sockets = open_sockets(["127.0.0.1:0", "127.0.0.1:0"])
    ports = [sock.getsockname()[1] for sock in sockets]

    def hand_over() -> None:
        high = [os.dup2(sock.fileno(), 50 + number) for number, sock in enumerate(sockets)]
        for number, descriptor in enumerate(high):
            os.dup2(descriptor, 3 + number)

    done = subprocess.run(
        [sys.executable, "-c", program], preexec_fn=hand_over, close_fds=False, capture_output=True, check=False
    )
    for sock in sockets:
        sock.close()
    assert done.stdout.decode().strip() == str({"smtp": [ports[0]], "unknown": [ports[1]]}), done.stderr


def test_sockets_for_another_process_are_left_alone() -> None:
    assert inherited_sockets({"LISTEN_PID": "1", "LISTEN_FDS": "2"}, 2) == {}
    assert inherited_sockets({}, 2) == {}


# --- privileges -----------------------------------------------------------------------------------


def test_unknown_users_and_root_are_refused() -> None:
    with pytest.raises(privileges.PrivilegeFault, match="no user"):
        privileges.find_identity("no-such-user-here")
    with pytest.raises(privileges.PrivilegeFault, match="no group"):
        privileges.find_identity("nobody", "no-such-group-here")
    with pytest.raises(privileges.PrivilegeFault, match="root itself"):
        privileges.find_identity("root")


@pytest.mark.skipif(not privileges.is_root(), reason="only root can become another user")
def test_root_becomes_the_user_for_good(tmp_path: Path) -> None:
    program = """
import os, sys
from posthouse.net import privileges, tls
privileges.drop(privileges.find_identity("nobody"))
privileges.drop(privileges.find_identity("nobody"))
print(os.getresuid(), os.getgroups() == [os.getgid()], oct(os.umask(0)))
"""
    # The child needs no file of ours after the change of user: everything is imported before it.
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    import pwd

    uid = pwd.getpwnam("nobody").pw_uid
    assert done.stdout.decode().strip() == f"{(uid, uid, uid)} True 0o77", done.stderr


# --- certificates ---------------------------------------------------------------------------------


def test_self_signed_certificate_is_made_once(tmp_path: Path) -> None:
    certificate, key = tmp_path / "tls" / "certificate.pem", tmp_path / "tls" / "key.pem"
    assert ensure_self_signed(certificate, key, ["Mail.example.test", "127.0.0.1"], NOW)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = certificate.read_bytes()
    assert not ensure_self_signed(certificate, key, ["mail.example.test"], NOW)
    assert certificate.read_bytes() == before
    facts = read_facts(certificate)
    assert facts.names == ("mail.example.test", "127.0.0.1")
    assert facts.is_own
    assert abs(facts.expires_at - NOW - SELF_SIGNED_DAYS * DAY) < DAY


def test_self_signed_certificate_is_renewed_in_time_and_for_a_new_name(tmp_path: Path) -> None:
    files = make_files(tmp_path, "mail.example.test")
    late = NOW + (SELF_SIGNED_DAYS - RENEW_DAYS) * DAY
    assert ensure_self_signed(files.certificate, files.key, ["mail.example.test"], late)
    assert ensure_self_signed(files.certificate, files.key, ["mx.example.test"], late)


def test_a_renewed_self_signed_certificate_keeps_its_key(tmp_path: Path) -> None:
    """TLSA records may name it (RFC 7672 §3.1.1)."""
    files = make_files(tmp_path, "mail.example.test")
    before, key = files.certificate.read_bytes(), files.key.read_bytes()
    late = NOW + (SELF_SIGNED_DAYS - RENEW_DAYS) * DAY
    assert ensure_self_signed(files.certificate, files.key, ["mail.example.test"], late)
    assert files.certificate.read_bytes() != before
    assert files.key.read_bytes() == key
    CertificateStore([files], HandClock())
    for broken in (b"", b"half"):
        files.certificate.unlink()
        files.key.write_bytes(broken)
        assert ensure_self_signed(files.certificate, files.key, ["mail.example.test"], late)
        CertificateStore([files], HandClock())


def test_certificates_of_others_are_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posthouse.net.certificate.SELF_SIGNED_ORGANIZATION", "Example Authority")
    files = make_files(tmp_path, "mail.example.test")
    monkeypatch.undo()
    assert not ensure_self_signed(files.certificate, files.key, ["other.test"], NOW + 10 * 365 * DAY)


def test_broken_files_are_named(tmp_path: Path) -> None:
    good = make_files(tmp_path / "good", "mail.example.test")
    other = make_files(tmp_path / "other", "mail.example.test")
    text = tmp_path / "text.pem"
    text.write_text("nothing")
    for files in (
        CertificateFiles(tmp_path / "missing.pem", good.key),
        CertificateFiles(good.certificate, other.key),
        CertificateFiles(text, good.key),
    ):
        with pytest.raises(CertificateFault, match=str(files.certificate)):
            CertificateStore([files], HandClock())


def test_reload_of_broken_files_changes_nothing(tmp_path: Path) -> None:
    files = make_files(tmp_path, "mail.example.test")
    store = CertificateStore([files], HandClock())
    context = store.context
    files.certificate.write_text("half")
    with pytest.raises(CertificateFault):
        store.reload()
    assert not store.refresh()
    assert store.context is context


def test_a_broken_certificate_keeps_no_other_from_being_renewed(tmp_path: Path) -> None:
    by_hand, renewed = tmp_path / "hand", tmp_path / "renewed"
    by_hand.mkdir()
    renewed.mkdir()
    files = [make_files(by_hand, "old.example.test"), make_files(renewed, "mail.example.test")]
    store = CertificateStore(files, HandClock())
    files[0].certificate.write_text("half")
    make_files(renewed, "new.example.test")
    assert not store.refresh(), "not all is taken"
    assert [each.names for each in store.facts] == [("old.example.test",), ("new.example.test",)]


def test_a_certificate_that_could_not_be_read_for_a_while_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = HandClock()
    files = make_files(tmp_path, "old.example.test")
    other = tmp_path / "other"
    other.mkdir()
    store = CertificateStore([files, make_files(other, "other.example.test")], clock)
    make_files(tmp_path, "new.example.test")
    real = tls.read_facts

    def exhausted(path: Path) -> CertificateFacts:
        if path == files.certificate:
            raise CertificateFault("too many open files")
        return real(path)

    monkeypatch.setattr(tls, "read_facts", exhausted)
    assert not store.refresh()
    monkeypatch.undo()
    assert not store.refresh(), "nothing has changed since, and it is no time yet"
    clock.now += RETRY_SECONDS + 1
    assert store.refresh()
    assert store.facts[0].names == ("new.example.test",)


def test_ticket_keys_do_not_get_old(tmp_path: Path) -> None:
    clock = HandClock()
    store = CertificateStore([make_files(tmp_path, "mail.example.test")], clock)
    context = store.context
    clock.now += TICKET_KEY_SECONDS + 1
    assert store.refresh()
    assert store.context is not context


# --- HTTP -----------------------------------------------------------------------------------------


def application() -> Starlette:
    async def hello(_: Request) -> PlainTextResponse:
        return PlainTextResponse("hello")

    return Starlette(routes=[Route("/", hello)])


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    answer = await within(lambda: reader.read(-1))
    writer.close()
    await writer.wait_closed()
    return answer


async def test_http_on_tcp_and_unix_sockets(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    sockets = open_sockets(["127.0.0.1:0", f"unix:{path}"])
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    server = HttpServer(application(), sockets)
    await within(server.start)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    answer = await ask(*await asyncio.open_connection("127.0.0.1", sockets[0].getsockname()[1]))
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.endswith(b"hello")
    assert (await ask(*await asyncio.open_unix_connection(path))).endswith(b"hello")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await within(server.stop)
    assert all(sock.fileno() == -1 for sock in sockets)


async def test_http_whose_start_fails_says_so() -> None:
    async def broken(scope: object, receive: object, send: object) -> None:
        raise RuntimeError("no")

    server = HttpServer(broken, open_sockets(["127.0.0.1:0"]), is_lifespan_needed=True)
    with pytest.raises(HttpFault):
        await within(server.start)


def test_a_path_too_long_for_a_unix_socket_is_said_with_the_remedy(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    with pytest.raises(ListenFault, match="shorter folder"):
        open_sockets([f"unix:{folder}/control.sock"])
