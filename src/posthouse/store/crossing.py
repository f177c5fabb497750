# SPDX-License-Identifier: Apache-2.0
"""COPY and MOVE between mailboxes of different accounts (shared mailboxes): a new email of the same content.

Invariant: content is not stored again, but each account pays for the letters it has; accounts are locked in the order
of their ids, so that two such units cannot wait for each other.
"""

from __future__ import annotations

from typing import NamedTuple

from posthouse.mail.header import message_ids, unpack_envelope
from posthouse.ports import Transaction, Value
from posthouse.store import appending, journal, messages, threads, uidset
from posthouse.store import keywords as spelling
from posthouse.store.flags import ALL, SEEN, unpack_keywords
from posthouse.store.journal import Kind, Unit
from posthouse.store.messages import Copied
from posthouse.store.refusal import MailboxRefusal, Reason
from posthouse.store.spans import pieces
from posthouse.store.uidset import Ranges

# Letters whose summaries are held at a time: one unit may copy a whole mailbox, since COPY is all or nothing.
AT_ONCE = 500

_PLACES = (
    "SELECT uid, size, flags, keywords FROM placement WHERE mailbox = :mailbox AND uid BETWEEN :first AND :last"
    " ORDER BY uid"
)
_LETTERS = (
    "SELECT p.uid, p.email, d.summary, d.ancestors FROM placement AS p JOIN email AS e ON e.id = p.email"
    " JOIN email_detail AS d ON d.email = p.email WHERE p.mailbox = :mailbox"
    " AND uid BETWEEN :first AND :last ORDER BY uid"
)
_EMAIL = (
    "INSERT INTO email (id, account, blob, thread, received_at, size, header_size, has_dot_lines)"
    " SELECT :email, :account, blob, :thread, received_at, size, header_size, has_dot_lines FROM email WHERE id = :old"
)
_DETAIL = (
    "INSERT INTO email_detail (email, prefix, summary, structure, preview, reverse_path, trace, ancestors)"
    " SELECT :email, prefix, summary, structure, preview, reverse_path, trace, ancestors FROM email_detail"
    " WHERE email = :old"
)
_PLACEMENT = (
    "INSERT INTO placement (mailbox, uid, email, modseq, created, flags, keywords, size, saved_at)"
    " VALUES (:mailbox, :uid, :email, :modseq, :modseq, :flags, :keywords, :size, :saved_at)"
)
_RESERVE = (
    "UPDATE mailbox SET uid_next = uid_next + :count, modseq = :modseq, total = total + :count,"
    " octets = octets + :octets, unseen = unseen + :unseen WHERE id = :mailbox RETURNING uid_next"
)
_CHARGE = (
    "UPDATE account SET used_octets = used_octets + :octets, used_letters = used_letters + :count WHERE id = :account"
)


def copy(
    tx: Transaction,
    account: int,
    mailbox: int,
    uids: Ranges,
    to_account: int,
    target: int,
    *,
    now: float,
    seen: Ranges | None = None,
    touchable: int = ALL,
    touches_keywords: bool = True,
) -> Copied:
    r"""Put letters of one account into a mailbox of another.

    `seen`: which of them are \Seen there (None: as the flags say); `touchable` and `touches_keywords`: what the person
    may set in the target (RFC 4314 §4). Raise `MailboxRefusal`: NONEXISTENT for either mailbox, OVERQUOTA, LIMIT.
    """
    unit = journal.begin(tx, to_account, now)
    return _copy(tx, unit, account, mailbox, uids, target, _Flags(seen, touchable, touches_keywords))


def move(
    tx: Transaction,
    account: int,
    mailbox: int,
    uids: Ranges,
    to_account: int,
    target: int,
    *,
    now: float,
    seen: Ranges | None = None,
    touchable: int = ALL,
    touches_keywords: bool = True,
) -> Copied:
    """`copy`, and then they are gone where they were, in the same unit. `modseq` is the source's."""
    units = {each: journal.begin(tx, each, now) for each in sorted((account, to_account))}
    flags = _Flags(seen, touchable, touches_keywords)
    copied = _copy(tx, units[to_account], account, mailbox, uids, target, flags)
    messages.expunge_in(tx, units[account], mailbox, copied.source)
    return Copied(units[account].modseq, copied.uid_validity, copied.source, copied.target)


class _Flags:
    """What flags and keywords become in the target."""

    __slots__ = ("_seen", "_touchable", "_touches_keywords")

    def __init__(self, seen: Ranges | None, touchable: int, touches_keywords: bool) -> None:
        self._seen = None if seen is None else set(uidset.expand(seen))
        self._touchable = touchable
        self._touches_keywords = touches_keywords

    def flags(self, uid: int, flags: int) -> int:
        if self._seen is not None:
            flags = flags | SEEN if uid in self._seen else flags & ~SEEN
        return flags & self._touchable

    def keywords(self, text: str) -> str:
        return text if self._touches_keywords else ""


def _copy(tx: Transaction, unit: Unit, account: int, mailbox: int, uids: Ranges, target: int, flags: _Flags) -> Copied:
    validity = appending.uid_validity(tx, unit.account, target)
    uids = uidset.below(uids, messages.own_uid_next(tx, account, mailbox))
    places = [
        _Place(uid, size, flags.flags(uid, bits), flags.keywords(words))
        for piece in pieces(uids)
        for uid, size, bits, words in tx.rows(piece.of(_PLACES), mailbox=mailbox, **piece.parameters)
    ]
    if not places:
        return Copied(unit.modseq, validity, (), ())
    messages.check_carried(len(places))
    messages.check_places(tx, unit.account, len(places))
    octets = sum(place.size for place in places)
    appending.check_room(tx, unit.account, octets)
    words = {word for text in {place.keywords for place in places} for word in unpack_keywords(text)}
    if words:
        known = spelling.spellings(tx, account)
        spelling.remember(tx, unit.account, [known.get(word, word) for word in sorted(words)])
    tx.run(_CHARGE, account=unit.account, octets=octets, count=len(places))
    reserved = tx.row(
        _RESERVE,
        mailbox=target,
        modseq=unit.modseq,
        count=len(places),
        octets=octets,
        unseen=sum(not place.flags & SEEN for place in places),
    )
    assert reserved is not None  # uid_validity has seen it
    first = reserved[0] - len(places)
    for start in range(0, len(places), AT_ONCE):
        _place(tx, unit, mailbox, places[start : start + AT_ONCE], target, first + start)
    placed: Ranges = ((first, first + len(places) - 1),)
    journal.record(tx, unit, target, Kind.ADDED, uidset.to_text(placed))
    return Copied(unit.modseq, validity, uidset.from_uids(place.uid for place in places), placed)


class _Place(NamedTuple):
    uid: int
    size: int
    flags: int
    keywords: str


def _place(tx: Transaction, unit: Unit, mailbox: int, places: list[_Place], target: int, first: int) -> None:
    """Give these letters their new emails, and UIDs from `first` on."""
    found = {
        uid: (email, summary, ancestors)
        for piece in pieces(uidset.from_uids(place.uid for place in places))
        for uid, email, summary, ancestors in tx.rows(piece.of(_LETTERS), mailbox=mailbox, **piece.parameters)
    }
    emails: list[dict[str, Value]] = []
    placements: list[dict[str, Value]] = []
    for uid, place in enumerate(places, first):
        if place.uid not in found:
            raise MailboxRefusal(Reason.CANNOT, "the rows of a message are damaged")
        old, summary, ancestors = found[place.uid]
        email = tx.new_id()
        thread = threads.join(tx, unit.account, _keys(bytes(summary), bytes(ancestors or b"")), email)
        emails.append({"email": email, "old": old, "account": unit.account, "thread": thread})
        placements.append(
            {
                "mailbox": target,
                "uid": uid,
                "email": email,
                "modseq": unit.modseq,
                "flags": place.flags,
                "keywords": place.keywords,
                "size": place.size,
                "saved_at": int(unit.now),
            }
        )
    tx.many(_EMAIL, emails)
    tx.many(_DETAIL, [{"email": each["email"], "old": each["old"]} for each in emails])
    tx.many(_PLACEMENT, placements)


def _keys(summary: bytes, ancestors: bytes) -> tuple[int, ...]:
    """As at delivery, from what was kept of the header."""
    try:
        values = unpack_envelope(summary)
    except ValueError:
        return ()
    own = message_ids(values[b"message-id"] or b"")
    answered = message_ids(values[b"in-reply-to"] or b"")
    return threads.keys(
        own[0] if own else b"", answered[0] if answered else b"", ancestors.split(), values[b"subject"] or b""
    )
