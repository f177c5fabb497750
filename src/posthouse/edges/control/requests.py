# SPDX-License-Identifier: Apache-2.0
"""The bodies that the admin API takes. Unknown fields and wrong types are refused with the field's name."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from posthouse.services.acme.words import Reason

Moment = Annotated[float, msgspec.Meta(ge=0, lt=253402300800.0)]  # until the year 10000, as calendars go
Octets = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """Every request body is one of these."""


class NewDomain(Body):
    name: str
    alias_of: str | None = None
    catch_all: str | None = None


class CatchAll(Body):
    target: str | None


class KeyAction(Body):
    """`unseen`: with "activate", also keys whose records DNS does not show."""

    action: Literal["rotate", "activate"]
    unseen: bool = False


class ZoneChange(Body):
    """`dry_run`: only say what would be done. `replace`: also remove what others have put there and contradicts it."""

    dry_run: bool = False
    replace: bool = False


class CertificateAction(Body):
    """`renew`: now, with `new_key` at once with another key; `rollover`: announce another key and take it in time;
    `revoke`: for `reason`, and have another."""

    action: Literal["renew", "rollover", "revoke"]
    new_key: bool = False
    reason: Reason = "unspecified"


class NewAccount(Body):
    """`password` or another server's `password_hash`; with neither nobody can log in yet. `quota` in octets."""

    address: str
    password: str | None = None
    password_hash: str | None = None
    quota: Octets | None = None
    language: Literal["en", "zh"] = "en"
    is_admin: bool = False
    display_name: str = ""


class ChangedAccount(Body):
    """Only what is given is changed; `quota` 0 means no limit."""

    password: str | None = None
    password_hash: str | None = None
    quota: Octets | None = None
    language: Literal["en", "zh"] | None = None
    is_admin: bool | None = None
    is_active: bool | None = None


class NewAddress(Body):
    address: str


class AliasTargets(Body):
    address: str
    targets: list[str] = []


class NewShare(Body):
    """`person`: an address here, or "anyone". `may`, or `rights` in the letters of RFC 4314; "" takes them all away.
    `create`: make the mailbox, where there is none."""

    mailbox: str
    person: str
    may: Literal["read", "write", "manage"] | None = None
    rights: str = ""
    create: bool = False


class NewAppPassword(Body):
    label: str
    scopes: tuple[Literal["smtp", "pop3", "imap"], ...] = ("smtp", "pop3", "imap")


class BatchLetter(Body):
    """One letter of a batch, in MessagePack: `octets` are the letter as it is."""

    octets: bytes
    mailbox: str = "INBOX"
    flags: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    received_at: Moment | None = None


class Repair(Body):
    """`source`: an absolute path on the server's machine, of a backup or a data directory to take letters from."""

    source: str | None = None


class QueueAction(Body):
    """`selection`: a queue id, a destination domain, an address; "" is the whole queue."""

    action: Literal["hold", "release", "retry", "drop"]
    selection: str
    tell_sender: bool = True  # for drop
