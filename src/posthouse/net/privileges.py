# SPDX-License-Identifier: Apache-2.0
"""From root to the server's own user, after the sockets are bound and the keys are read.

Invariant: after `drop` there is no way back, and every new file is for the server's user alone.
Nothing here is needed when the service manager already starts us as that user (the unit then also sets
NoNewPrivileges=, which Python cannot ask for by itself).
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

PRIVATE_UMASK = 0o077


class PrivilegeFault(Exception):  # noqa: N818 - as StoreFault
    """The privileges cannot be dropped; the message says what to do. Serving as root is no alternative."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A user and group of this machine, resolved before anything is given up."""

    user: str
    uid: int
    gid: int


def is_root() -> bool:
    return sys.platform != "win32" and os.geteuid() == 0


def keep_files_private() -> None:
    """New files are 0600, new folders 0700, whatever the caller's mask was."""
    os.umask(PRIVATE_UMASK)


def find_identity(user: str, group: str = "") -> Identity:
    """Raises PrivilegeFault when there is no such user or group."""
    if sys.platform == "win32":
        raise PrivilegeFault("dropping privileges is not possible on Windows; start the service as its own user")
    import grp  # noqa: PLC0415 - not there on Windows
    import pwd  # noqa: PLC0415 - as above

    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise PrivilegeFault(f"there is no user {user!r} on this machine; create it or change the setting") from None
    gid = entry.pw_gid
    if group:
        try:
            gid = grp.getgrnam(group).gr_gid
        except KeyError:
            raise PrivilegeFault(f"there is no group {group!r} on this machine; create it") from None
    if entry.pw_uid == 0:
        raise PrivilegeFault(f"{user!r} is root itself; name a user without privileges")
    return Identity(user, entry.pw_uid, gid)


def drop(identity: Identity) -> None:
    """Become that user for good. Does nothing when we already are. Raises PrivilegeFault."""
    if sys.platform == "win32":
        raise PrivilegeFault("dropping privileges is not possible on Windows; start the service as its own user")
    keep_files_private()
    if os.geteuid() == identity.uid and os.getuid() == identity.uid:
        return
    try:
        os.initgroups(identity.user, identity.gid)
        os.setgid(identity.gid)  # the group first: afterwards we could not
        os.setuid(identity.uid)
    except OSError as error:
        raise PrivilegeFault(
            f"cannot become {identity.user!r}: {error.strerror}; start as root or as that user"
        ) from None
    try:
        os.setuid(0)
    except OSError:
        return
    raise PrivilegeFault("root privileges came back after they were dropped; not serving")
