# SPDX-License-Identifier: Apache-2.0
"""Sharing mailboxes for an administrator: what owners do with mail programs (sharing.py), in the owner's name.

Invariant: there is no right here that an owner could not give.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from posthouse.outcome import BAD_MAILBOX, Refusal
from posthouse.ports import Database, Reader
from posthouse.services.directory import Account, Directory
from posthouse.services.mailbox.folders import Folders
from posthouse.services.mailbox.sharing import Line, Sharing, lines_of
from posthouse.store import mailboxes, rights
from posthouse.store.directory import said
from posthouse.store.flagging import Change
from posthouse.store.refusal import MailboxRefusal, Reason

# What people mean, in the letters of RFC 4314 §2.1. Each has those before it.
WORDS = {"read": "lrs", "write": "lrswite", "manage": rights.EVERY}


@dataclass(frozen=True, slots=True)
class Share:
    """`may`: one of WORDS where the rights are just those, else ""."""

    mailbox: str
    person: str
    rights: str
    may: str


class Shares:
    """Every method raises Refusal where there is no such account, and StoreFault."""

    def __init__(self, directory: Directory, database: Database, folders: Folders, sharing: Sharing) -> None:
        self._directory = directory
        self._database = database
        self._folders = folders
        self._sharing = sharing

    async def give(self, owner: str, mailbox: str, person: str, letters: str, *, makes: bool = False) -> None:
        """From now on the person ("anyone": everybody) has these rights on the mailbox, and no others; "" for none.
        `makes`: the mailbox too, where there is none. Raises as `Sharing.grant`."""
        account = await self._account(owner)
        if makes:
            try:
                await self._folders.create(account, mailbox)
            except MailboxRefusal as refusal:
                if refusal.reason is not Reason.ALREADYEXISTS:
                    raise
        await self._sharing.grant(account, mailbox, person, letters, Change.REPLACE)

    async def list(self, owner: str) -> list[Share]:
        """In order of mailboxes."""
        account = await self._account(owner)
        return await self._database.read(partial(_shares, account=account.id))

    async def _account(self, address: str) -> Account:
        account = await self._directory.account(address)
        if account is None:
            raise Refusal(BAD_MAILBOX, f"there is no account {said(address)}")
        return account


def _shares(reader: Reader, account: int) -> list[Share]:
    shared = set(rights.shared_by(reader, account))
    return [
        _share(mailbox.name, line)
        for mailbox in mailboxes.list_all(reader, account)
        if mailbox.id in shared
        for line in lines_of(reader, mailbox.id)
    ]


def _share(mailbox: str, line: Line) -> Share:
    may = next((word for word, letters in WORDS.items() if letters == line.rights), "")
    return Share(mailbox, line.identifier, line.rights, may)
