# SPDX-License-Identifier: Apache-2.0
"""Accounts and letters for the tests of mailboxes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from posthouse.ports import Content
from posthouse.store import letters, mailboxes, messages
from posthouse.store.letters import LetterIn, Place
from tests.store.plain_database import PlainDatabase

NOW = 1_700_000_000.0
PREFIX = b"Return-Path: <alice@alice.test>\r\n"


@dataclass
class Box:
    """One account and its mailboxes by name."""

    db: PlainDatabase
    account: int

    def id(self, name: str) -> int:
        found = self.db.look(lambda reader: mailboxes.by_name(reader, self.account, name))
        assert found is not None, name
        return found.id

    def mailbox(self, name: str) -> mailboxes.Mailbox:
        found = self.db.look(lambda reader: mailboxes.by_name(reader, self.account, name))
        assert found is not None, name
        return found

    def uids(self, name: str) -> list[int]:
        view = self.db.look(lambda reader: messages.view(reader, self.id(name)))
        assert view is not None
        return list(view.uids)

    def deliver(
        self, name: str = "INBOX", *, octets: bytes = b"\r\nHello\r\n", flags: int = 0, **how: Any
    ) -> letters.Placed:
        place = Place(self.account, self.id(name), PREFIX, flags)
        return self.db.run(lambda tx: letters.accept(tx, letter(octets, **how), [place])).placed[0]


def new_account(db: PlainDatabase, name: str = "bob@bob.test", quota: int | None = None) -> Box:
    def unit(tx: Any) -> int:
        account: int = tx.new_id()
        tx.run(
            "INSERT INTO account (id, tenant, name, state, quota, created_at)"
            " VALUES (:id, 1, :name, 'active', :quota, :now)",
            id=account,
            name=name,
            quota=quota,
            now=NOW,
        )
        mailboxes.create_account_mailboxes(tx, account, NOW)
        return account

    return Box(db, db.run(unit))


def letter(octets: bytes = b"\r\nHello\r\n", **how: Any) -> LetterIn:
    content = Content(len(octets), hashlib.sha256(octets).digest(), octets=octets)
    how = {
        "received_at": NOW,
        "trace": "00ff",
        "reverse_path": "alice@alice.test",
        "envelope_summary": b"\x90",
        "header_size": octets.find(b"\r\n\r\n") + 4 if b"\r\n\r\n" in octets else 2,
        "has_dot_lines": False,
        **how,
    }
    return LetterIn(content=content, **how)
