# SPDX-License-Identifier: Apache-2.0
"""Mailboxes of an account: names and hierarchy, special uses, UIDVALIDITY. Every account has an INBOX, always.

UIDVALIDITY grows with every mailbox made in the house and a name never gets one twice, so (name, UIDVALIDITY,
UID) means one letter for ever (RFC 9051 §2.3.1.1). Every superior of a mailbox exists.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from posthouse.ports import Reader, Row, Transaction
from posthouse.store import journal, messages, subscriptions, uidset
from posthouse.store.journal import Kind, Unit
from posthouse.store.refusal import MailboxRefusal, Reason

INBOX = "INBOX"
SEPARATOR = "/"
MAX_NAME = 1_000  # octets of UTF-8: clients keep names as file names; RFC 9051 sets no limit
MAX_DEPTH = 20  # levels: clients draw trees recursively, people stop at five
MAX_MAILBOXES = 5_000  # per account: LIST reads them all in one page of about a megabyte

# RFC 6154 §2, in the order that lists show them. \All and \Flagged are views, not mailboxes to keep letters in.
SPECIAL_USES = ("\\Drafts", "\\Sent", "\\Archive", "\\Junk", "\\Trash")
FIRST_MAILBOXES = (
    (INBOX, None),
    ("Drafts", "\\Drafts"),
    ("Sent", "\\Sent"),
    ("Archive", "\\Archive"),
    ("Junk", "\\Junk"),
    ("Trash", "\\Trash"),
)


@dataclass(frozen=True, slots=True)
class Mailbox:
    """One row. `octets` counts each placement; `modseq` is HIGHESTMODSEQ."""

    id: int
    account: int
    name: str
    special_use: str | None
    uid_validity: int
    uid_next: int
    modseq: int
    tombstone_floor: int
    total: int
    unseen: int
    octets: int
    is_subscribed: bool
    created_at: float

    @property
    def is_inbox(self) -> bool:
        return self.name == INBOX

    @property
    def superior(self) -> str:
        """Name of the mailbox above; "" at the top."""
        return self.name.rpartition(SEPARATOR)[0]


_COLUMNS = (
    "SELECT id, account, name, special_use, uid_validity, uid_next, modseq, tombstone_floor, total, unseen, octets,"
    " is_subscribed, created_at FROM mailbox "
)
_BY_ID = _COLUMNS + "WHERE id = :mailbox"
_BY_NAME = _COLUMNS + "WHERE account = :account AND name = :name"
_BY_USE = _COLUMNS + "WHERE account = :account AND special_use = :special_use"
_ALL = _COLUMNS + "WHERE account = :account ORDER BY name"
_SHARED = "id IN (SELECT mailbox FROM mailbox_right WHERE person IN (:person, 0))"
_OF_OTHERS = _COLUMNS + "WHERE account <> :person AND " + _SHARED


def _mailbox(row: Row | None) -> Mailbox | None:
    if row is None:
        return None
    return Mailbox(
        id=row[0],
        account=row[1],
        name=row[2],
        special_use=row[3],
        uid_validity=row[4],
        uid_next=row[5],
        modseq=row[6],
        tombstone_floor=row[7],
        total=row[8],
        unseen=row[9],
        octets=row[10],
        is_subscribed=bool(row[11]),
        created_at=row[12],
    )


# --- looking --------------------------------------------------------------------------------------


def get(reader: Reader, mailbox: int) -> Mailbox | None:
    return _mailbox(reader.row(_BY_ID, mailbox=mailbox))


def by_name(reader: Reader, account: int, name: str) -> Mailbox | None:
    """The mailbox with this name as a person or client says it; None where there is none or can be none."""
    try:
        canonical = canonical_name(name)
    except MailboxRefusal:
        return None
    return _mailbox(reader.row(_BY_NAME, account=account, name=canonical))


def by_special_use(reader: Reader, account: int, special_use: str) -> Mailbox | None:
    return _mailbox(reader.row(_BY_USE, account=account, special_use=special_use))


def inbox(reader: Reader, account: int) -> int | None:
    """Id of the account's INBOX; None when there is no such account."""
    row = reader.row("SELECT id FROM mailbox WHERE account = :account AND name = 'INBOX'", account=account)
    return None if row is None else int(row[0])


def list_all(reader: Reader, account: int) -> list[Mailbox]:
    """All mailboxes (at most MAX_MAILBOXES), by name."""
    found = (_mailbox(row) for row in reader.rows(_ALL, account=account))
    return [mailbox for mailbox in found if mailbox is not None]


def of_others(reader: Reader, person: int) -> list[Mailbox]:
    """Those on which this person, or everybody, has or is denied a right."""
    found = (_mailbox(row) for row in reader.rows(_OF_OTHERS, person=person))
    return [mailbox for mailbox in found if mailbox is not None]


def canonical_name(name: str) -> str:
    """The one form of a name that is stored. Raise `MailboxRefusal` CANNOT for what cannot be a name.

    NFC, so that two ways to type an accent are one mailbox; INBOX in any case is INBOX, also as a superior.
    """
    name = unicodedata.normalize("NFC", name).removesuffix(SEPARATOR)  # RFC 9051 §6.3.4: a final separator is a hint
    if len(name.encode("utf-8", "surrogatepass")) > MAX_NAME:
        raise MailboxRefusal(Reason.CANNOT, f"a mailbox name is at most {MAX_NAME} octets long")
    parts = name.split(SEPARATOR)
    if len(parts) > MAX_DEPTH:
        raise MailboxRefusal(Reason.CANNOT, f"mailboxes nest at most {MAX_DEPTH} levels deep")
    for part in parts:
        if not part or part != part.strip(" "):
            raise MailboxRefusal(Reason.CANNOT, "a part of the mailbox name is empty or begins or ends with a space")
        # Cc: controls, Cs: lone surrogates, Zl and Zp: line and paragraph separators (RFC 9051 §5.1, RFC 5198 §2).
        if any(character in "%*" or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in part):
            raise MailboxRefusal(Reason.CANNOT, "a mailbox name cannot hold %, * or control characters")
    if parts[0].startswith("#"):
        raise MailboxRefusal(Reason.CANNOT, "names that begin with # are reserved")
    if parts[0].upper() == INBOX:  # RFC 9051 §5.1
        parts[0] = INBOX
    return SEPARATOR.join(parts)


# --- making ---------------------------------------------------------------------------------------


def create_account_mailboxes(tx: Transaction, account: int, now: float) -> int:
    """Give a new account (its row exists) its first mailboxes, subscribed; return the id of the INBOX."""
    unit = journal.begin(tx, account, now)
    ids = [_insert(tx, unit, name, use, is_subscribed=True) for name, use in FIRST_MAILBOXES]
    return ids[0]


def create(
    tx: Transaction,
    account: int,
    name: str,
    now: float,
    *,
    special_use: str | None = None,
    is_subscribed: bool = False,
) -> Mailbox:
    """Make a mailbox and the superiors that it lacks. Raise `MailboxRefusal` (ALREADYEXISTS, CANNOT, LIMIT,
    USEATTR)."""
    name = canonical_name(name)
    unit = journal.begin(tx, account, now)
    if special_use is not None:
        _check_special_use(tx, account, special_use)
    if by_name(tx, account, name) is not None:
        raise MailboxRefusal(Reason.ALREADYEXISTS, "there is a mailbox with this name")
    _create_superiors(tx, unit, name)
    mailbox = _insert(tx, unit, name, special_use, is_subscribed=is_subscribed)
    return _own(tx, account, mailbox)


def _create_superiors(tx: Transaction, unit: Unit, name: str) -> None:
    # RFC 9051 §6.3.4: superiors are created as needed. They are ordinary mailboxes.
    parts = name.split(SEPARATOR)
    for depth in range(1, len(parts)):
        superior = SEPARATOR.join(parts[:depth])
        if tx.row(_BY_NAME, account=unit.account, name=superior) is None:
            _insert(tx, unit, superior, None, is_subscribed=False)


def _insert(tx: Transaction, unit: Unit, name: str, special_use: str | None, *, is_subscribed: bool) -> int:
    row = tx.row("SELECT COUNT(*) FROM mailbox WHERE account = :account", account=unit.account)
    assert row is not None
    if row[0] >= MAX_MAILBOXES:
        raise MailboxRefusal(Reason.LIMIT, f"an account has at most {MAX_MAILBOXES} mailboxes")
    mailbox = tx.new_id()
    tx.run(
        "INSERT INTO mailbox (id, account, name, special_use, uid_validity, modseq, tombstone_floor, is_subscribed,"
        " created_at) VALUES (:mailbox, :account, :name, :special_use, :uid_validity, :modseq, :modseq, :is_subscribed,"
        " :now)",
        mailbox=mailbox,
        account=unit.account,
        name=name,
        special_use=special_use,
        uid_validity=_next_uid_validity(tx, unit.now),
        modseq=unit.modseq,
        is_subscribed=int(subscriptions.take_back(tx, unit.account, name) or is_subscribed),
        now=unit.now,
    )
    # RFC 4314 §4: who may do what with the mailbox above may do so here. "" is no mailbox's name.
    tx.run(_INHERIT, mailbox=mailbox, account=unit.account, superior=name.rpartition(SEPARATOR)[0])
    journal.record(tx, unit, mailbox, Kind.CREATED)
    return mailbox


_INHERIT = (
    "INSERT INTO mailbox_right (mailbox, person, is_negative, rights) SELECT :mailbox, person, is_negative, rights"
    " FROM mailbox_right WHERE mailbox = (SELECT id FROM mailbox WHERE account = :account AND name = :superior)"
)


def _next_uid_validity(tx: Transaction, now: float) -> int:
    """The next UIDVALIDITY of the house: the time, or one more than the last where the clock has not moved on."""
    row = tx.row(
        "INSERT INTO uid_epoch (id, last) VALUES (1, :now) ON CONFLICT (id) DO UPDATE SET last ="
        " CASE WHEN excluded.last > uid_epoch.last THEN excluded.last ELSE uid_epoch.last + 1 END RETURNING last",
        now=max(1, int(now)),
    )
    assert row is not None
    return int(row[0])


def renew_uid_validity(tx: Transaction, account: int, now: float, jump: int = 1_000_000) -> None:
    """After a rebuild or the restore of an older state: what clients remember of this account is void.

    Every mailbox gets a new UIDVALIDITY, the account's mod-sequence jumps over all that the lost days may have
    given out, and the journal starts there. UIDLs and email ids stay.
    """
    journal.begin(tx, account, now)
    tx.run(
        "UPDATE account SET modseq = modseq + :jump, journal_floor = modseq + :jump WHERE id = :account",
        account=account,
        jump=jump,
    )
    modseq = journal.state(tx, account)
    tx.run(
        "DELETE FROM tombstone WHERE mailbox IN (SELECT mailbox FROM journal WHERE account = :account)", account=account
    )
    tx.run("DELETE FROM journal WHERE account = :account", account=account)
    for mailbox in list_all(tx, account):
        tx.run(
            "UPDATE mailbox SET uid_validity = :uid_validity, modseq = :modseq, tombstone_floor = :modseq"
            " WHERE id = :mailbox",
            mailbox=mailbox.id,
            uid_validity=_next_uid_validity(tx, now),
            modseq=modseq,
        )


def give_new_validity(tx: Transaction, mailbox: int, now: float) -> None:
    """Damage gave two mailboxes one UIDVALIDITY: from now on this one has its own."""
    tx.run(
        "UPDATE mailbox SET uid_validity = :uid_validity WHERE id = :mailbox",
        mailbox=mailbox,
        uid_validity=_next_uid_validity(tx, now),
    )


# --- changing -------------------------------------------------------------------------------------


def rename(tx: Transaction, account: int, mailbox: int, name: str, now: float) -> Mailbox:
    """Give a mailbox and all below it another name. Raise `MailboxRefusal`.

    Renaming the INBOX moves its letters to a new mailbox and leaves the INBOX, empty, with its inferiors
    (RFC 9051 §6.3.6). A mailbox keeps its UIDVALIDITY unless its new name once had a higher one.
    """
    name = canonical_name(name)
    unit = journal.begin(tx, account, now)
    old = _own(tx, account, mailbox)
    if by_name(tx, account, name) is not None:
        raise MailboxRefusal(Reason.ALREADYEXISTS, "there is a mailbox with this name")
    if old.is_inbox:
        _create_superiors(tx, unit, name)
        made = _insert(tx, unit, name, None, is_subscribed=old.is_subscribed)
        messages.move_in(tx, unit, mailbox, uidset.EVERY_UID, made)
        return _own(tx, account, made)
    if name.startswith(old.name + SEPARATOR):
        raise MailboxRefusal(Reason.CANNOT, "a mailbox cannot move into itself")
    _create_superiors(tx, unit, name)
    for each in with_inferiors(tx, old):
        _rename_one(tx, unit, each, canonical_name(name + each.name[len(old.name) :]))
    return _own(tx, account, mailbox)


def _rename_one(tx: Transaction, unit: Unit, mailbox: Mailbox, name: str) -> None:
    _retire(tx, mailbox, unit.now)
    used = tx.row(
        "SELECT uid_validity FROM retired_name WHERE account = :account AND name = :name",
        account=mailbox.account,
        name=name,
    )
    keeps = used is None or used[0] <= mailbox.uid_validity  # equal: it was this very mailbox
    tx.run(
        "UPDATE mailbox SET name = :name, uid_validity = :uid_validity, is_subscribed = :is_subscribed"
        " WHERE id = :mailbox",
        mailbox=mailbox.id,
        name=name,
        uid_validity=mailbox.uid_validity if keeps else _next_uid_validity(tx, unit.now),
        is_subscribed=int(subscriptions.take_back(tx, mailbox.account, name) or mailbox.is_subscribed),
    )
    subscriptions.follow(tx, mailbox.account, mailbox.id, mailbox.name, name)
    journal.record(tx, unit, mailbox.id, Kind.RENAMED)


def _retire(tx: Transaction, mailbox: Mailbox, now: float) -> None:
    tx.run(
        "INSERT INTO retired_name (account, name, uid_validity, retired_at)"
        " VALUES (:account, :name, :uid_validity, :now) ON CONFLICT (account, name) DO UPDATE SET"
        " retired_at = excluded.retired_at, uid_validity = CASE WHEN excluded.uid_validity > retired_name.uid_validity"
        " THEN excluded.uid_validity ELSE retired_name.uid_validity END",
        account=mailbox.account,
        name=mailbox.name,
        uid_validity=mailbox.uid_validity,
        now=now,
    )


def with_inferiors(reader: Reader, mailbox: Mailbox) -> list[Mailbox]:
    below = mailbox.name + SEPARATOR
    return [each for each in list_all(reader, mailbox.account) if (each.name + SEPARATOR).startswith(below)]


def delete(tx: Transaction, account: int, mailbox: int, now: float) -> None:
    """Remove a mailbox and the letters that lie nowhere else. Raise `MailboxRefusal`: not the INBOX (CANNOT),
    not one with inferiors (HASCHILDREN)."""
    unit = journal.begin(tx, account, now)
    old = _own(tx, account, mailbox)
    if old.is_inbox:
        raise MailboxRefusal(Reason.CANNOT, "the INBOX cannot be deleted")
    if len(with_inferiors(tx, old)) > 1:
        raise MailboxRefusal(Reason.HASCHILDREN, "delete the mailboxes below it first")
    messages.expunge_in(tx, unit, mailbox, uidset.EVERY_UID)
    _retire(tx, old, now)
    if old.is_subscribed:
        subscriptions.keep(tx, account, old.name)
    tx.run("DELETE FROM mailbox_right WHERE mailbox = :mailbox", mailbox=mailbox)
    tx.run("DELETE FROM mailbox WHERE id = :mailbox", mailbox=mailbox)
    journal.record(tx, unit, mailbox, Kind.DELETED)


def subscribe(tx: Transaction, account: int, mailbox: int, now: float, *, is_subscribed: bool) -> None:
    unit = journal.begin(tx, account, now)
    _own(tx, account, mailbox)
    tx.run(
        "UPDATE mailbox SET is_subscribed = :is_subscribed WHERE id = :mailbox",
        mailbox=mailbox,
        is_subscribed=int(is_subscribed),
    )
    journal.record(tx, unit, mailbox, Kind.RENAMED)


def set_special_use(tx: Transaction, account: int, mailbox: int, special_use: str | None, now: float) -> None:
    """Change what a mailbox is for. Raise `MailboxRefusal`: another has that use (USEATTR); the INBOX (CANNOT)."""
    unit = journal.begin(tx, account, now)
    if _own(tx, account, mailbox).is_inbox:
        raise MailboxRefusal(Reason.CANNOT, "the INBOX has its use already")
    if special_use is not None:
        _check_special_use(tx, account, special_use)
    tx.run(
        "UPDATE mailbox SET special_use = :special_use WHERE id = :mailbox", mailbox=mailbox, special_use=special_use
    )
    journal.record(tx, unit, mailbox, Kind.RENAMED)


def _check_special_use(tx: Transaction, account: int, special_use: str) -> None:
    if special_use not in SPECIAL_USES:
        raise MailboxRefusal(Reason.USEATTR, "this special use is not known here")
    if by_special_use(tx, account, special_use) is not None:
        raise MailboxRefusal(Reason.USEATTR, "another mailbox has this special use")  # RFC 8621 §2: one per role


def _own(reader: Reader, account: int, mailbox: int) -> Mailbox:
    found = get(reader, mailbox)
    if found is None or found.account != account:
        raise MailboxRefusal(Reason.NONEXISTENT, "there is no such mailbox")
    return found
