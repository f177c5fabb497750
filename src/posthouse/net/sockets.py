# SPDX-License-Identifier: Apache-2.0
"""Listening sockets from the settings' words: `host:port`, `[2001:db8::1]:25`, `*:25`, `unix:/path`.

They are bound before privileges are dropped, and taken over from the service manager where it gives them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# Connections that wait for accept. The kernel's own limit (net.core.somaxconn, often 4096) may be lower.
BACKLOG = 1024
# File descriptors kept free for the store, DNS and outgoing mail when connections are limited by them.
DESCRIPTORS_IN_RESERVE = 256
MAX_UNIX_PATH = 107  # octets: sun_path of unix(7) with its final zero
SOCKET_MODE = 0o600  # a Unix socket is for the server's own user unless the caller says otherwise


class ListenFault(Exception):  # noqa: N818 - as StoreFault
    """An address to listen on is wrong or cannot be had; the message names it and says what to do."""


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """One place to listen. `host` is an IP address or name, "" for every address; or `path` for a Unix socket."""

    host: str = ""
    port: int = 0
    path: str | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host or "*"
        return f"{host}:{self.port}"


def parse_listen_address(text: str) -> ListenAddress:
    """Raise ListenFault with the remedy unless the text is one of the forms above."""
    if text.startswith("unix:"):
        if not text[5:].startswith("/"):
            raise ListenFault(f"{text!r}: a Unix socket needs an absolute path, as in unix:/run/posthouse/lmtp.sock")
        return ListenAddress(path=text[5:])
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ListenFault(f"{text!r}: write it as host:port, for instance 0.0.0.0:25 or [::]:25")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ListenFault(f"{text!r}: put an IPv6 address in brackets, for instance [::1]:{port}")
    return ListenAddress("" if host == "*" else host, int(port))


def open_sockets(addresses: Sequence[str], *, mode: int = SOCKET_MODE) -> list[socket.socket]:
    """Bind and listen on each address, or close what was opened and raise ListenFault. `mode` is for Unix sockets."""
    opened: list[socket.socket] = []
    try:
        for text in addresses:
            address = parse_listen_address(text)
            if address.path is not None:
                opened.append(_open_unix(Path(address.path), mode))
            else:
                opened.extend(_open_tcp(address))
    except BaseException:
        close_sockets(opened)
        raise
    return opened


def close_sockets(sockets: Sequence[socket.socket]) -> None:
    """Close them; Unix sockets are also taken out of the file system."""
    for sock in sockets:
        path = ""
        if hasattr(socket, "AF_UNIX") and sock.family == socket.AF_UNIX and sock.fileno() != -1:
            path = str(sock.getsockname())
        sock.close()
        if path:
            with contextlib.suppress(OSError):
                Path(path).unlink()


def _open_tcp(address: ListenAddress) -> list[socket.socket]:
    try:
        found = socket.getaddrinfo(address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ListenFault(f"cannot listen on {address}: the host name is not known here ({error})") from None
    opened: list[socket.socket] = []
    port = address.port
    for family, kind, number, _, name in dict.fromkeys(found):
        where = (name[0], port, *name[2:])
        try:
            sock = _bind(family, kind, number, where)
        except OSError as error:
            if address.host == "" and family == socket.AF_INET6 and error.errno in _NO_IPV6:
                continue  # "every address" on a machine without IPv6 means every IPv4 address
            close_sockets(opened)
            raise ListenFault(_explain(address, error)) from None
        if port == 0:  # tests: all families share the port that the first one was given
            port = sock.getsockname()[1]
        opened.append(sock)
    if not opened:
        raise ListenFault(f"cannot listen on {address}: the machine has no such address")
    return opened


_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT)


def _bind(family: int, kind: int, number: int, where: tuple[object, ...]) -> socket.socket:
    sock = socket.socket(family, kind, number)
    try:
        if sys.platform == "win32":
            # SO_REUSEADDR there lets two servers share a port; this is the option that means what we want.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # restart while old connections linger
        if family == socket.AF_INET6:
            # IPv4 has a socket of its own, so that addresses in logs and limits are what they are.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(where)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _open_unix(path: Path, mode: int) -> socket.socket:
    if len(os.fsencode(path)) > MAX_UNIX_PATH:
        raise ListenFault(
            f"cannot listen on unix:{path}: the path is longer than {MAX_UNIX_PATH} octets, which is all that the"
            " system allows; choose a shorter folder"
        )
    _clear_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The mask is for the whole process, and bind is the only way to be narrow from the first moment.
    mask = os.umask(0o777 & ~mode)
    try:
        sock.bind(str(path))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise ListenFault(_explain(ListenAddress(path=str(path)), error)) from None
    finally:
        os.umask(mask)
    return sock


def _clear_stale(path: Path) -> None:
    """Take away the socket of a server that is no more; leave a living one's and every other file alone."""
    try:
        is_socket = stat.S_ISSOCK(path.lstat().st_mode)
    except OSError:
        return
    if not is_socket:
        raise ListenFault(f"cannot listen on unix:{path}: another file is in the way, move it")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        except OSError:
            return  # bind will tell
        else:
            raise ListenFault(f"cannot listen on unix:{path}: another server is using it")


def _explain(address: ListenAddress, error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            remedy = "another program is using it; stop that program or choose another port"
        case errno.EACCES | errno.EPERM:
            remedy = "not permitted; ports below 1024 need root, CAP_NET_BIND_SERVICE or socket activation"
        case errno.EADDRNOTAVAIL:
            remedy = "this machine has no such address"
        case _:
            remedy = error.strerror or str(error)
    return f"cannot listen on {address}: {remedy}"


def raise_descriptor_limit() -> int | None:
    """Use as many file descriptors as the system lets us; how many connections they are enough for.

    None where the system has no such limit. The count leaves DESCRIPTORS_IN_RESERVE for everything else, so
    that accept does not run out of them (EMFILE) as long as the Admission's total stays below.
    """
    if sys.platform == "win32":
        return None
    import resource  # noqa: PLC0415 - not there on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY:
        return None
    return max(soft - DESCRIPTORS_IN_RESERVE, 1)
